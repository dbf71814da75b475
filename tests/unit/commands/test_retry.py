"""Failed cells once more: only they run, and each keeps its old error until it succeeds."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from harness.cells import Cell
from harness.cli import main
from harness.core.errors import RunError
from harness.files import write_atomic
from harness.plan import expand
from harness.progress import Progress
from harness.results import read_results, write_results
from harness.rows import Row
from harness.run_folder import claim
from harness.scenario import load
from harness.sweep import Sweep, failed_cells
from harness.worker import CellReport

Write = Callable[..., Path]


class Trained(Sweep):
    """A sweep whose cells are not trained: those in ``failing`` fail, others leave a row."""

    failing: dict[str, str]
    ran: list[str]

    def _prepare(self, cells: Sequence[Cell]) -> None:
        del cells

    def _run_cells(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            self.ran.append(cell.id)
            error = self.failing.get(cell.id, "")
            if not error:
                folder = self.folder / "cells" / cell.id
                row = Row(run="r", cell=cell.id, system="fed", metric="hr", side="utility",
                          better="higher", value=0.5)  # fmt: skip
                write_results(folder, [row])
                write_atomic(folder / "done.json", b"{}")
            self._book(CellReport(cell.id, {}, error))


@pytest.fixture
def sweep(write: Write, tmp_path: Path) -> Callable[..., Trained]:
    plan = expand(load(write(seeds="[0, 1]")))

    def make(failing: dict[int, str], fail_fast: bool = False) -> Trained:
        progress = Progress(1, Console(file=io.StringIO()))
        made = Trained(tmp_path / "run", plan, {"run": "r"}, progress, fail_fast=fail_fast)
        made.failing = {plan.cells[index].id: why for index, why in failing.items()}
        made.ran = []
        return made

    return make


def test_only_failed_cells_run_and_errors_stay_until_success(
    sweep: Callable[..., Trained],
) -> None:
    first = sweep({0: "no memory", 2: "no data"})
    ids = [cell.id for cell in first.plan.cells]
    assert len(ids) == 4
    first.run(limit=3)
    assert failed_cells(first.folder) == {ids[0]: "no memory", ids[2]: "no data"}
    # The fourth cell has not been tried, and a retry leaves it so.
    again = sweep({2: "still no data"})
    again.run(failed_only=True)
    assert again.ran == [ids[0], ids[2]]
    assert failed_cells(again.folder) == {ids[2]: "still no data"}
    assert set(read_results(again.folder)["cell"]) == set(ids[:3])
    last = sweep({})
    last.run(failed_only=True)
    assert last.ran == [ids[2]] and failed_cells(last.folder) == {} and not last.failed


def test_an_error_is_kept_by_runs_that_do_not_reach_its_cell(
    sweep: Callable[..., Trained],
) -> None:
    first = sweep({1: "no memory"})
    first.run(limit=2)
    ids = [cell.id for cell in first.plan.cells]
    untouched = sweep({})
    untouched.run(limit=0)
    assert failed_cells(untouched.folder) == {ids[1]: "no memory"}
    stopped = sweep({1: "worse"}, fail_fast=True)
    with pytest.raises(RunError, match="worse"):
        stopped.run()
    assert failed_cells(stopped.folder) == {ids[1]: "worse"}
    done = sweep({})
    done.run()
    assert done.finished() and failed_cells(done.folder) == {}


def test_a_damaged_table_costs_the_reasons_and_nothing_else(
    sweep: Callable[..., Trained],
) -> None:
    first = sweep({0: "no memory"})
    first.run()
    (first.folder / "results.parquet").write_bytes(b"half a file")
    again = sweep({})
    again.run()
    assert again.finished() and len(again.ran) == 1
    assert len(read_results(again.folder)) == 4


def test_nothing_to_retry(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert main(["retry", str(folder)]) == 3
    assert "no run to retry there (scenario.yaml is missing)" in capsys.readouterr().err
    claim(folder, load(write()))
    assert main(["retry", str(folder)]) == 3
    write_results(folder, [])
    assert main(["retry", str(folder)]) == 0
    assert capsys.readouterr().out.strip().endswith("run: no failed cells")
