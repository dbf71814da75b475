"""``validate``: every problem of a scenario at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.commands.arguments import AsJson, File, Overrides
from harness.terminal import Terminal, emit

if TYPE_CHECKING:
    from harness.commands.counting import Size
    from harness.scenario import Scenario


def validate(scenario: File, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Check a scenario and print every problem as FILE:LINE:COLUMN: PATH: MESSAGE."""
    from harness.commands.counting import count
    from harness.plan import expand
    from harness.plugins import broken_plugins
    from harness.refinement import most_further
    from harness.scenario import load, scenario_hash

    loaded = load(scenario, overrides or ())
    size = count(loaded)
    if size.too_many:
        _say_size(loaded, str(scenario), size, as_json)
        return
    plan = expand(loaded)
    further = most_further(loaded, plan).trainings
    warnings = [*broken_plugins(), *plan.warnings]
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
                "warnings": warnings,
            }
        )
        return
    terminal = Terminal()
    more = f", up to {further} more by refinement" if further else ""
    size = f"{len(plan.cells)} cells in {plan.trainings} trainings{more}"
    terminal.say(f"{scenario}: valid, {size}")
    for warning in warnings:
        terminal.say(f"warning: {warning}", style="yellow")


def _say_size(scenario: Scenario, path: str, size: Size, as_json: bool) -> None:
    """Say how large a scenario is that is too large to be expanded without being asked to."""
    from harness.plan import warnings_of
    from harness.scenario import scenario_hash

    warnings = list(warnings_of(scenario))
    if as_json:
        facts = {"name": scenario.name, "sha256": scenario_hash(scenario), "cells": size.cells}
        more = {"trainings": None, "needs_yes": True, "warnings": warnings}
        emit({"ok": True, "scenario": path, **facts, **more})
        return
    terminal = Terminal()
    terminal.say(f"{path}: valid, {size.words}", style="yellow")
    for warning in warnings:
        terminal.say(f"warning: {warning}", style="yellow")
