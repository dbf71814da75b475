"""``plan``: what a scenario would run and cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.arguments import AsJson, File, Jobs, Overrides
from harness.commands.counting import MAX_CELLS, Size, count
from harness.terminal import Terminal, emit

if TYPE_CHECKING:
    from harness.forecast import Forecast
    from harness.measured import Cost
    from harness.plan import Plan
    from harness.refinement import Further
    from harness.scenario import Scenario

RUNS = Path("runs")


def show_plan(
    scenario: File,
    overrides: Overrides = None,
    jobs: Jobs = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="take time and memory from this run, by labels where settings differ; "
            "default: runs in runs/ with the same settings",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option(help=f"expand more than {MAX_CELLS:,} cells")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a scenario would run, its cost, and where settings leave a theory."""
    from harness.forecast import facts_at_hand, forecast
    from harness.plan import expand
    from harness.refinement import most_further
    from harness.scenario import load

    loaded = load(scenario, overrides or ())
    size = count(loaded)
    if size.too_many and not yes:
        _show_size(loaded, str(scenario), size, as_json)
        return
    plan, processes = expand(loaded), jobs or loaded.compute.jobs
    costs, notes = _measured(plan, like)
    facts = facts_at_hand(loaded.datasets)
    known = forecast(plan, facts, processes, costs)
    remarks = [remark for found in facts.values() for remark in found.remarks]
    further = most_further(loaded, plan)
    sources = Counter(str(cost.run) for cost in costs.values())
    if as_json:
        document = _document(plan, known, further, sources, notes) | {"data_remarks": remarks}
        emit({"ok": True, "scenario": str(scenario), **document})
        return
    terminal = Terminal()
    _print_costs(terminal, known, further, sources, processes)
    _print_not_run(terminal, plan)
    for remark in remarks:
        terminal.say(f"note on {remark}")
    for warning in (*plan.warnings, *known.theory, *notes):
        terminal.say(f"warning: {warning}", style="yellow")
    if known.cells + further.cells > MAX_CELLS:
        terminal.say(f"more than {MAX_CELLS} cells: `run` needs --yes", style="yellow")


def _show_size(scenario: Scenario, path: str, size: Size, as_json: bool) -> None:
    """Count a scenario that is too large to be expanded without being asked to."""
    from harness.plan import warnings_of

    warnings = list(warnings_of(scenario))
    groups = [{"system": s, "dataset": d, "cells": n} for (s, d), n in size.by_system.items()]
    if as_json:
        counted = {"groups": groups, "cells": size.cells, "trainings": None, "needs_yes": True}
        emit({"ok": True, "scenario": path, **counted, "warnings": warnings})
        return
    terminal = Terminal()
    rows = [(str(g["system"]), str(g["dataset"]), f"{g['cells']:,}") for g in groups]
    terminal.table(("system", "data set", "cells"), rows)
    terminal.say(f"\n{size.words}", style="yellow")
    for warning in warnings:
        terminal.say(f"warning: {warning}", style="yellow")


def _measured(plan: Plan, like: Path | None) -> tuple[dict[str, Cost], list[str]]:
    from harness.measured import earlier_runs, measured_costs, read_run

    if like is not None:
        return measured_costs(plan, [read_run(like)], by_label=True), []
    runs, unusable = earlier_runs(RUNS)
    return measured_costs(plan, runs), unusable


def _print_costs(
    terminal: Terminal,
    known: Forecast,
    further: Further,
    sources: Counter[str],
    processes: int,
) -> None:
    columns = ("system", "data set", "clients", "cells", "trainings", "time", "memory", "disk")
    rows = [
        (
            group.system,
            group.dataset,
            "–" if group.clients is None else str(group.clients),
            str(group.cells),
            str(group.trainings),
            _time(group.seconds),
            _size(group.memory_bytes),
            _size(group.disk_bytes),
        )
        for group in known.groups
    ]
    terminal.table(columns, rows)
    at_once = f" with {processes} at once" if known.seconds is not None and processes > 1 else ""
    size = f"{known.cells} cells in {known.trainings} trainings"
    terminal.say(f"\n{size}; time: {_time(known.seconds)}{at_once}")
    if further.trainings:
        more = f"up to {further.trainings} more trainings ({further.cells} cells) by refinement"
        terminal.say(f"{more} of strengths; not in the figures above")
    for run, measured in sources.items():
        terminal.say(f"measured: {measured} of {known.cells} cells, in {run}")
    if sources:
        terminal.say(
            "time leaves out texts and models that cells share, where they are not cached yet; "
            "memory is the peak of the process, whatever it ran before"
        )


def _print_not_run(terminal: Terminal, plan: Plan) -> None:
    if plan.not_run:
        terminal.say("\nnot run:")
    for entry in plan.not_run:
        what = " × ".join(part for part in (entry.system, entry.defense, entry.attack) if part)
        terminal.say(f"  {what}: {entry.part} {entry.status}: {entry.reason}")


def _document(
    plan: Plan, known: Forecast, further: Further, sources: Counter[str], notes: list[str]
) -> dict[str, Any]:
    return {
        **asdict(known),
        "refinement": further._asdict(),
        "measured_in": dict(sources),
        "not_run": [entry.model_dump(mode="json") for entry in plan.not_run],
        "warnings": [*plan.warnings, *notes],
        "needs_yes": known.cells + further.cells > MAX_CELLS,
    }


def _time(seconds: float | None) -> str:
    from harness.progress import duration

    return "unknown" if seconds is None else duration(seconds)


def _size(count: float | None) -> str:
    if count is None:
        return "unknown"
    return f"{count / 2**20:,.0f} MiB" if count >= 2**20 else f"{count / 2**10:,.0f} KiB"
