"""From a scenario to a finished run folder: check, sweep, and the manifest around it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from harness.case import Prepared, check_against_data
from harness.core.errors import RunError
from harness.core.registry import ATTACKS, SYSTEMS
from harness.plan import Plan, expand
from harness.plugins import PluginSpec, build
from harness.progress import Progress, duration
from harness.provenance import manifest, timestamp
from harness.results import write_atomic
from harness.scenario import Scenario, scenario_hash
from harness.sweep import Sweep


def run_scenario(
    scenario: Scenario,
    folder: Path,
    jobs: int,
    keep_going: bool,
    limit: int | None,
    progress: Progress,
) -> int:
    """Run a scenario into ``folder``, which the caller holds; return the exit status.

    A run that is finished does nothing; one that was interrupted goes on where it stopped.

    Raises:
        ScenarioError: the scenario does not fit its data; nothing is written.
        KeyboardInterrupt: the run was interrupted; finished cells are kept.
    """
    plan, started, clock = expand(scenario), timestamp(), time.monotonic()
    data = _announced(plan, progress)
    progress.keep_in(folder / "log.jsonl")
    sweep = Sweep(
        folder=folder,
        plan=plan,
        base={"run": folder.name, "scenario_hash": scenario_hash(scenario)},
        progress=progress,
        jobs=jobs,
        threads=scenario.compute.threads,
        fail_fast=not keep_going,
    )
    if sweep.finished():
        progress.line(f"{folder}: every cell is done already")
        return 0
    status = "interrupted"
    try:
        sweep.run(limit)
        status = "failed" if sweep.failed else "done" if sweep.finished() else "partial"
    except RunError as error:
        status = "failed"
        progress.line(str(error))
    finally:
        spent = ", ".join(f"{stage} {duration(s)}" for stage, s in sweep.timings.items())
        progress.line(f"time by stage, summed over processes: {spent or 'none'}")
        record = manifest(
            scenario,
            plan,
            status,
            jobs=jobs,
            started=started,
            data_hashes={label: prepared.data_hash for label, prepared in data.items()},
        )
        record |= describe(plan, sweep.timings)
        record |= {"name": scenario.name, "seconds": time.monotonic() - clock}
        record["statistics"] = {label: prepared.figures for label, prepared in data.items()}
        write_atomic(folder / "manifest.json", json.dumps(record, indent=1).encode())
    return 4 if sweep.failed else 0


def _announced(plan: Plan, progress: Progress) -> dict[str, Prepared]:
    """Load every data set once, check that the cells fit it, and print its figures."""
    first = {cell.dataset_label: cell for cell in plan.cells}
    data = {label: check_against_data(cell) for label, cell in first.items()}
    for label, prepared in data.items():
        for figures in prepared.figures:
            progress.line(f"data set {label}: {in_words(figures)}")
    return data


def in_words(figures: dict[str, int | float | str]) -> str:
    """Return the figures of a data set that a reader wants first, on one line."""
    return (
        f"{figures['name']}, {figures['users']:,} users, {figures['items']:,} items, "
        f"{figures['events']:,} events, mean length {figures['length_mean']:.1f}"
    )


def describe(plan: Plan, timings: dict[str, float]) -> dict[str, Any]:
    """Return what the report says of systems, adversaries and time."""
    systems = {cell.system.label: cell for cell in plan.cells}
    attacks = {
        spec.label: build(ATTACKS, spec).threat_model.words
        for cell in plan.cells
        for spec in (*cell.inference, *([cell.poisoning] if cell.poisoning else []))
    }
    return {
        "systems": [
            {
                "label": label,
                "description": SYSTEMS.get(cell.system.use).summary(),
                "paper": SYSTEMS.get(cell.system.use).paper.reference,
                "deviations": [
                    *settings_changed(cell.system),
                    *(f"{d.what}: {d.why}" for d in SYSTEMS.get(cell.system.use).deviations),
                ],
            }
            for label, cell in systems.items()
        ],
        "threat_models": attacks,
        "timings": [{"stage": stage, "seconds": value} for stage, value in timings.items()],
    }


def settings_changed(spec: PluginSpec) -> list[str]:
    """Return in words which of a system's parameters the scenario sets to other than default."""
    default = SYSTEMS.get(spec.use).Config().model_dump(mode="json")
    changed = [
        f"{name} = {_short(value, default.get(name))}"
        for name, value in sorted(spec.params.items())
        if value != default.get(name)
    ]
    return [f"Set by the scenario: {'; '.join(changed)}"] if changed else []


def _short(value: Any, default: Any) -> str:
    """Return a value beside its default; of a group of settings only those that differ."""
    if isinstance(value, dict) and isinstance(default, dict):
        inner = [f"{k} {_short(v, default.get(k))}" for k, v in value.items() if v != default[k]]
        return ", ".join(inner)
    return f"{value} (default {default})"
