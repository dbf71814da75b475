"""Costs of earlier runs: taken where settings are the same, unknown elsewhere, never made up."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.forecast import forecast
from harness.measured import earlier_runs, measured_costs, read_run
from harness.plan import Plan, expand
from harness.results import write_results
from harness.rows import Row
from harness.run_folder import claim
from harness.scenario import load

Write = Callable[..., Path]
SECTIONS = {
    "attacks": "{p: {use: promote}, inv: {use: norms}}",
    "clients": "{malicious: {fraction: 0.2}}",
    "defenses": "{c: {use: clip, bound: [8, 0.5]}, t: {use: trim}}",
}
MIB = 2**20


def plan_of(path: Path, *overrides: str) -> Plan:
    return expand(load(path, overrides))


def finished(folder: Path, path: Path, *overrides: str, offset: float = 0.0) -> Path:
    """Write a run folder in which cell number i took ``10 + i + offset`` seconds and MiB."""
    scenario = load(path, overrides)
    claim(folder, scenario)
    rows = []
    for index, cell in enumerate(expand(scenario).cells):
        base: dict[str, Any] = {"run": "r", "cell": cell.id, "system": cell.system.label,
                                "side": "cost", "better": "lower"}  # fmt: skip
        for metric in ("seconds", "peak_memory_mb"):
            rows.append(Row(**base, metric=metric, value=10 + index + offset))
        part = folder / "cells" / cell.id
        part.mkdir(parents=True)
        (part / "results.parquet").write_bytes(b"x" * 1000)
    write_results(folder, rows)
    return folder


def test_the_same_scenario_costs_what_it_cost(write: Write, tmp_path: Path) -> None:
    path = write(**SECTIONS)
    plan = plan_of(path)
    run = finished(tmp_path / "run", path)
    costs = measured_costs(plan, [read_run(run)])
    assert [costs[cell.id].seconds for cell in plan.cells] == [
        10 + index for index in range(len(plan.cells))
    ]
    known = forecast(plan, {}, jobs=2, measured=costs)
    total = sum(10 + index for index in range(len(plan.cells)))
    assert known.seconds == total / 2
    (group,) = [g for g in known.groups if g.system == "fed"]
    numbers = [i for i, cell in enumerate(plan.cells) if cell.system.label == "fed"]
    assert group.seconds == sum(10 + i for i in numbers)
    assert group.memory_bytes == (10 + max(numbers)) * MIB
    assert group.disk_bytes == 1000 * len(numbers)
    assert group.measured == group.cells


def test_other_seeds_and_strengths_take_the_mean_of_their_like(
    write: Write, tmp_path: Path
) -> None:
    path = write(**SECTIONS)
    run = read_run(finished(tmp_path / "run", path))
    took = {cell.id: cost.seconds for cell, cost in run.costs}
    plan = plan_of(path, "seeds=[7]")
    costs = measured_costs(plan, [run])
    for cell in plan.cells:
        like = [
            took[old.id]
            for old, _ in run.costs
            if (old.system, old.defense, old.poisoning)
            == (cell.system, cell.defense, cell.poisoning)
        ]
        assert len(like) == 2 and costs[cell.id].seconds == sum(like) / 2
    stronger = plan_of(path, "defenses.c.bound=3")
    costs = measured_costs(stronger, [run])
    known = [took[old.id] for old, _ in run.costs if old.defense.family == "c"]
    for cell in stronger.cells:
        if cell.defense.family == "c":
            assert costs[cell.id].seconds == pytest.approx(sum(known) / len(known))


@pytest.mark.parametrize(
    "override",
    ["systems.fed.rounds=20", "datasets.movies.k_core=5", "defenses.t={use: median}",
     "attacks.inv2={use: norms}"],
)  # fmt: skip
def test_what_was_never_measured_stays_unknown(override: str, write: Write, tmp_path: Path) -> None:
    path = write(**SECTIONS)
    run = read_run(finished(tmp_path / "run", path))
    plan = plan_of(path, override)
    known = forecast(plan, {}, measured=measured_costs(plan, [run]))
    (group,) = [g for g in known.groups if g.system == "fed"]
    assert group.measured < group.cells
    assert (group.seconds, group.memory_bytes, group.disk_bytes) == (None, None, None)
    assert known.seconds is None


def test_a_run_that_the_user_names_counts_by_label(write: Write, tmp_path: Path) -> None:
    path = write(**SECTIONS)
    run = read_run(finished(tmp_path / "run", path))
    plan = plan_of(path, "systems.fed.rounds=20")
    costs = measured_costs(plan, [run], by_label=True)
    assert set(costs) == {cell.id for cell in plan.cells}
    other = plan_of(path, "systems={new: {use: fed, dataset: movies, rounds: 3}}")
    costs = measured_costs(other, [run], by_label=True)
    assert {c.system.label for c in other.cells if c.id not in costs} == {"new"}


def test_the_newest_run_counts_and_a_broken_one_is_named(write: Write, tmp_path: Path) -> None:
    path = write()
    for age, name in enumerate(("new", "old")):
        run = finished(tmp_path / "runs" / name, path, offset=100.0 * age)
        os.utime(run / "results.parquet", (1e9 - age, 1e9 - age))
    broken = tmp_path / "runs" / "broken"
    broken.mkdir()
    (broken / "results.parquet").write_bytes(b"")
    runs, unusable = earlier_runs(tmp_path / "runs")
    assert [run.folder.name for run in runs] == ["new", "old"]
    assert len(unusable) == 1 and str(broken) in unusable[0]
    plan = plan_of(path)
    assert measured_costs(plan, runs)[plan.cells[0].id].seconds == 10
    assert measured_costs(plan, runs[::-1])[plan.cells[0].id].seconds == 110


def test_the_command_says_where_its_times_come_from(
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.forecast.facts_at_hand", lambda datasets: {})
    path = write()
    assert main(["plan", str(path)]) == 0
    assert "time: unknown" in capsys.readouterr().out
    finished(tmp_path / "runs" / "demo", path)
    assert main(["plan", str(path), "-j", "2"]) == 0
    shown = capsys.readouterr().out
    assert "4 cells in 4 trainings; time: 23 s with 2 at once" in shown
    assert "measured: 4 of 4 cells, in runs/demo" in shown
    assert main(["plan", str(path), "--like", "runs/demo", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["seconds"], told["measured_in"]) == (46.0, {"runs/demo": 4})
    assert main(["plan", str(path), "--like", "runs/absent"]) == 3
    assert "runs/absent: no run there" in capsys.readouterr().err
