"""``validate``: every problem of a scenario at once."""

from __future__ import annotations

from harness.commands.arguments import AsJson, File, Overrides
from harness.terminal import Terminal, emit


def validate(scenario: File, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Check a scenario and print every problem as FILE:LINE:COLUMN: PATH: MESSAGE."""
    from harness.plan import expand
    from harness.refinement import most_further
    from harness.scenario import load, scenario_hash

    loaded = load(scenario, overrides or ())
    plan = expand(loaded)
    further = most_further(loaded, plan).trainings
    if as_json:
        emit(
            {
                "ok": True,
                "scenario": str(scenario),
                "name": loaded.name,
                "sha256": scenario_hash(loaded),
                "cells": len(plan.cells),
                "trainings": plan.trainings,
                "refinement_trainings": further,
                "warnings": plan.warnings,
            }
        )
        return
    terminal = Terminal()
    more = f", up to {further} more by refinement" if further else ""
    size = f"{len(plan.cells)} cells in {plan.trainings} trainings{more}"
    terminal.say(f"{scenario}: valid, {size}")
    for warning in plan.warnings:
        terminal.say(f"warning: {warning}", style="yellow")
