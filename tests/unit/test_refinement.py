"""Runs that refine their ranges: what is added, after interrupts, failures and limits as well."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import harness.launch
from harness.cells import Cell
from harness.core.errors import DataError
from harness.core.seeds import Seeds
from harness.files import write_atomic
from harness.launch import run_scenario
from harness.measured import read_run
from harness.plan import expand
from harness.progress import Progress
from harness.refinement import RECORD, refined_plan
from harness.results import read_results, write_results
from harness.rows import Row, SampleBlock
from harness.run_folder import claim
from harness.scenario import Scenario, load
from harness.sweep import Sweep
from harness.worker import CellReport
from reports.html import build_report

Write = Callable[..., Path]
SECTIONS = {
    "defenses": "{c: {use: clip, bound: {from: 0.01, to: 10, points: 4, refine: 3}}}",
    "attacks": "{norms: {use: norms}}",
    "anchors": "false",
}
EDGE = 0.2
"""Strength at which the attack fails in the trainings made up here."""
USERS = 300


class Trained(Sweep):
    """A sweep whose cells are made up: from EDGE on the attack is at chance, utility is kept."""

    log: list[str]
    failing: tuple[str, ...] = ()
    stop_at: str = "never"

    def _prepare(self, cells: Sequence[Cell]) -> None:
        del cells

    def _run_cells(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            if self.stop_at in cell.id:
                raise KeyboardInterrupt
            Trained.log.append(cell.id)
            error = "no memory" if any(part in cell.id for part in self.failing) else ""
            if not error:
                rows, samples = made_up(cell)
                folder = self.folder / "cells" / cell.id
                write_results(folder, rows, samples)
                write_atomic(folder / "done.json", b"{}")
            self._book(CellReport(cell.id, {"training": 1.0}, error))


def made_up(cell: Cell) -> tuple[list[Row], list[SampleBlock]]:
    """Rows and values per user: same users for every strength, seeds apart."""
    luck = Seeds(cell.seed).numpy("users").random(USERS)
    leaks = cell.defense.strength is None or cell.defense.strength < EDGE
    rows, samples = [], []
    for metric, attack, chance, values in (
        ("hr", "none", 0.05, luck < 0.5),
        ("top1", "norms", 0.02, luck < (0.9 if leaks else 0.02)),
    ):
        row = Row(
            run="r", cell=cell.id, system=cell.system.label, dataset=cell.dataset_label,
            metric=metric, attack=attack, side="utility" if attack == "none" else "privacy",
            better="higher" if attack == "none" else "lower", value=float(values.mean()),
            low=0.0, high=1.0, n=USERS, k=10 if metric == "hr" else 0,
            protocol="full" if metric == "hr" else "", chance=chance, seed=cell.seed,
            defense=cell.defense.label, defense_family=cell.defense.family,
            strength=np.nan if cell.defense.strength is None else cell.defense.strength,
            strength_name=cell.defense.strength_name,
        )  # fmt: skip
        rows.append(row)
        samples.append(
            SampleBlock(cell=row.cell, attack=row.attack, metric=metric, k=row.k,
                        protocol=row.protocol, units=np.arange(USERS),
                        values=values.astype(np.float32))
        )  # fmt: skip
    for metric in ("seconds", "peak_memory_mb"):
        rows.append(Row(run="r", cell=cell.id, system="fed", metric=metric, side="cost",
                        better="lower", value=1.0))  # fmt: skip
    return rows, samples


Run = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def scenario(write: Write) -> Scenario:
    return load(write(**SECTIONS))


@pytest.fixture
def run(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs the scenario: exit status, and the cells it trained."""
    monkeypatch.setattr(harness.launch, "Sweep", Trained)
    monkeypatch.setattr(harness.launch, "_announced", lambda plan, progress: {})

    def start(folder: Path, **more: object) -> tuple[int, list[str]]:
        claim(folder, more.pop("scenario", scenario))  # type: ignore[arg-type]
        Trained.log = []
        Trained.failing = more.pop("failing", ())  # type: ignore[assignment]
        Trained.stop_at = more.pop("stop_at", "never")  # type: ignore[assignment]
        progress = Progress(1, Console(file=io.StringIO()))
        given = load(folder / "scenario.yaml")
        limit, retry = more.get("limit"), bool(more.get("retry"))
        return run_scenario(given, folder, 1, True, limit, progress, retry), Trained.log  # type: ignore[arg-type]

    return start


def added(folder: Path) -> list[float]:
    record = json.loads((folder / RECORD).read_text())
    return [step["strength"] for step in record["defenses"]["c"]["added"]]


def tables(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "results.json").read_bytes(), (folder / "samples.parquet").read_bytes()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "whole"


@pytest.fixture
def whole(run: Run, kept: Path, tmp_path: Path) -> Path:
    """An uninterrupted run, to do with as one likes; it is made once."""
    if not kept.exists():
        assert run(kept)[0] == 0
    return shutil.copytree(kept, tmp_path / "whole")


def test_a_transition_between_two_strengths_is_narrowed_down(whole: Path) -> None:
    # 0.1 … 1, then 0.1 … 0.316, then 0.178 … 0.316.
    assert added(whole) == [0.316, 0.178, 0.237]
    record = json.loads((whole / RECORD).read_text())["defenses"]["c"]
    first = record["added"][0]
    assert (first["low"], first["high"], first["system"]) == (0.1, 1.0, "fed on movies")
    assert first["what"] == "norms" and first["before"] > 0.8 and first["after"] < 0.02
    assert first["interval"][0] < first["after"] - first["before"] < first["interval"][1] < 0
    assert record["ended"] == "all 3 further strengths are used"
    rows = read_results(whole)
    own = rows[rows.defense_family == "c"]
    assert set(own.strength) == {0.01, 0.1, 0.178, 0.237, 0.316, 1.0, 10.0}
    assert set(own.groupby("strength").seed.nunique()) == {2}


def test_manifest_log_and_report_say_it(whole: Path) -> None:
    manifest = json.loads((whole / "manifest.json").read_text())
    assert manifest["status"] == "done"
    assert [s["strength"] for s in manifest["refinement"]["c"]["added"]] == added(whole)
    assert manifest["plan"]["cells"] == len(read_results(whole).cell.unique())
    log = (whole / "log.jsonl").read_text()
    assert "refining c: bound=0.316, norms on fed on movies falls from 0.9" in log
    assert "between 0.1 and 1" in log
    assert "c is not refined further: all 3 further strengths are used" in log
    page = build_report(whole).read_text()
    assert "4 strengths of bound were given, 0.01, 0.1, 1 and 10" in page
    assert "<li>0.316, as norms falls from 0.9" in page
    assert "On fed on movies: norms falls from 0.9" in page and "between 0.178 and 0.237" in page
    assert "all 3 further" not in page.split('id="provenance"')[1]
    assert (whole / "figures" / "strengths.csv").read_text().count("utility kept") == 7


def test_a_second_start_and_a_run_of_the_saved_scenario_change_nothing(
    run: Run, whole: Path, tmp_path: Path
) -> None:
    before = (whole / RECORD).read_bytes(), (whole / "results.parquet").read_bytes()
    assert run(whole) == (0, [])
    assert ((whole / RECORD).read_bytes(), (whole / "results.parquet").read_bytes()) == before
    again = tmp_path / "again"
    run(again, scenario=load(whole / "scenario.yaml"))
    assert tables(again) == tables(whole)
    assert (again / RECORD).read_bytes() == before[0]


@pytest.mark.parametrize("stop_at", ["bound-10-", "0.316", "0.237-clean-m0-n0-s1"])
def test_an_interrupt_in_any_stage_changes_nothing(
    run: Run, whole: Path, tmp_path: Path, stop_at: str
) -> None:
    folder = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        run(folder, stop_at=stop_at)
    assert json.loads((folder / "manifest.json").read_text())["status"] == "interrupted"
    # What was added is on disk before it is trained, and what was done is not done again.
    first = list(Trained.log)
    assert not (folder / RECORD).exists() or added(folder) == added(whole)[: len(added(folder))]
    status, second = run(folder)
    assert status == 0 and not set(first) & set(second)
    assert (folder / RECORD).read_bytes() == (whole / RECORD).read_bytes()
    assert tables(folder) == tables(whole)


def test_a_lost_record_is_made_again_from_the_cells(run: Run, whole: Path) -> None:
    before = (whole / RECORD).read_bytes()
    (whole / RECORD).unlink()
    assert run(whole) == (0, [])
    assert (whole / RECORD).read_bytes() == before


def test_a_limit_holds_over_all_stages_and_goes_on_where_it_ended(
    run: Run, whole: Path, tmp_path: Path
) -> None:
    folder, trained = tmp_path / "few", list[str]()
    sizes = []
    while True:
        status, log = run(folder, limit=6)
        assert status == 0
        state = json.loads((folder / "manifest.json").read_text())["status"]
        if not log:
            break
        sizes.append((len(log), state))
        trained += log
    assert sizes == [(6, "partial"), (6, "partial"), (4, "done")] and len(set(trained)) == 16
    assert added(folder) == added(whole) and tables(folder) == tables(whole)


def test_a_failed_cell_holds_back_its_own_range_only(
    run: Run, write: Write, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "failed"
    assert run(folder, failing=("c-bound-0.1-",))[0] == 4
    assert not (folder / RECORD).exists()
    # Retried with success, the strength is proposed; a retry runs what failed and no more.
    status, log = run(folder, retry=True)
    assert status == 0 and all("c-bound-0.1-" in cell for cell in log) and len(log) == 2
    assert added(folder) == [0.316]
    assert json.loads((folder / "manifest.json").read_text())["status"] == "partial"
    assert run(folder)[0] == 0 and tables(folder) == tables(whole)
    # With another defence beside it, which fails: the same strengths.
    folder = tmp_path / "elsewhere"
    more = load(write(**SECTIONS), ["defenses.other={use: clip, bound: 3}"])
    assert run(folder, scenario=more, failing=("other",))[0] == 4
    assert added(folder) == added(whole)


def test_an_added_cell_that_fails_is_retried_like_any_other(
    run: Run, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "failed"
    assert run(folder, failing=("bound-0.178",))[0] == 4
    assert added(folder) == [0.316, 0.178]
    failed = read_results(folder).query("status == 'failed'")
    assert set(failed.defense) == {"c bound=0.178"} and set(failed.reason) == {"no memory"}
    assert run(folder)[0] == 0
    assert tables(folder) == tables(whole)


def test_earlier_runs_tell_the_cost_of_added_cells(whole: Path, scenario: Scenario) -> None:
    known = {cell.defense.label for cell, _ in read_run(whole).costs}
    assert "c bound=0.178" in known
    assert len(refined_plan(scenario, whole).cells) == len(expand(scenario).cells) + 3 * 2


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"strength": 0.316', '"strength": 31.6', "'c' is not refined so"),
        ('"strength": 0.316', '"strength": 1.0', "'c' is not refined so"),
        ('"parameter": "bound"', '"parameter": "noise"', "'c' is not refined so"),
        ('"c": {', '"d": {', "'d' is not refined so"),
        ('"schema": 1', '"schema": 2', "damaged"),
        ('"strength": 0.316', '"strength": "much"', "damaged"),
        ("{", "", "damaged"),
    ],
)
def test_a_damaged_record_is_named_and_not_used(
    run: Run, whole: Path, old: str, new: str, words: str
) -> None:
    path = whole / RECORD
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=words) as caught:
        run(whole)
    assert len(str(caught.value).splitlines()) == 1 and "delete it" in str(caught.value)


def test_nothing_is_added_where_nothing_changes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.unit.test_refinement.EDGE", 100.0)
    assert run(tmp_path / "flat")[0] == 0
    assert added(tmp_path / "flat") == []
    record = json.loads((tmp_path / "flat" / RECORD).read_text())["defenses"]["c"]
    assert record["ended"] == "between neighbours, nothing changes by more than 0.1"
    page = build_report(tmp_path / "flat").read_text()
    assert "None was added between them: between neighbours, nothing changes" in page
    assert "Nothing is shown to change by more than 0.1 over the range" in page


def test_a_range_that_asks_for_none_is_a_plain_sweep(
    run: Run, write: Write, tmp_path: Path
) -> None:
    plain = load(write(**SECTIONS), ["defenses.c.bound.refine=0"])
    assert run(tmp_path / "plain", scenario=plain)[0] == 0
    assert not (tmp_path / "plain" / RECORD).exists()
    manifest = json.loads((tmp_path / "plain" / "manifest.json").read_text())
    assert manifest["status"] == "done"
    assert manifest["refinement"]["c"]["ended"] == "no further strengths are asked for"
