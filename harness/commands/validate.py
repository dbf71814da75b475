"""``validate``: every problem of a scenario at once."""

from __future__ import annotations

from harness.commands.arguments import AsJson, File, Overrides
from harness.terminal import Terminal, emit


def validate(scenario: File, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Check a scenario and print every problem as FILE:LINE:COLUMN: PATH: MESSAGE."""
    from harness.plan import expand
    from harness.scenario import load, scenario_hash

    loaded = load(scenario, overrides or ())
    plan = expand(loaded)
    if as_json:
        emit(
            {
                "ok": True,
                "scenario": str(scenario),
                "name": loaded.name,
                "sha256": scenario_hash(loaded),
                "cells": len(plan.cells),
                "trainings": plan.trainings,
                "warnings": plan.warnings,
            }
        )
        return
    terminal = Terminal()
    terminal.say(f"{scenario}: valid, {len(plan.cells)} cells in {plan.trainings} trainings")
    for warning in plan.warnings:
        terminal.say(f"warning: {warning}", style="yellow")
