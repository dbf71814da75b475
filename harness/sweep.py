"""All cells of a scenario: prepare, skip what is done, run in worker processes, append, report."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.assets import cache_dir
from harness.cells import Cell, NotRun
from harness.core.errors import DataError, RunError
from harness.inputs import Expected
from harness.plan import Plan
from harness.pool import Task, Workers
from harness.preparations import STEPS, preparation_tasks, shared_preparations, variants_of
from harness.progress import Progress
from harness.results import (
    read_results,
    read_rows,
    read_samples,
    sample_blocks,
    write_results,
)
from harness.rows import Row, SampleBlock
from harness.run_folder import RESULTS
from harness.sealing import DONE
from harness.stopping import Stopping
from harness.worker import (
    CellReport,
    Surroundings,
    keep_to_installed,
    run_one,
    use_large_pages,
)

CONTEXT = multiprocessing.get_context("spawn")
"""Worker processes start afresh: a fork after torch's threads have started can hang."""


@dataclass
class Sweep:
    """A scenario's run folder while it fills.

    Attributes:
        folder: run folder.
        plan: what to run.
        base: row fields that identify the run.
        progress: what the person at the terminal sees.
        jobs: worker processes.
        threads: threads of each worker.
        memory_bytes: what all local training may take together.
        fail_fast: stop at the first failed cell.
        expected: what data and models were when the run started.
        timings: stage to seconds, summed over cells.
        failed: cell id to reason, of this run and of earlier ones until the cell succeeds.
    """

    folder: Path
    plan: Plan
    base: dict[str, Any]
    progress: Progress
    jobs: int = 1
    threads: int = 1
    memory_bytes: float = math.inf
    fail_fast: bool = False
    expected: Expected = field(default_factory=lambda: Expected({}))
    timings: dict[str, float] = field(default_factory=dict[str, float])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    _prepared: set[str] = field(default_factory=set[str])
    _stop: Stopping = field(default_factory=lambda: Stopping(CONTEXT.Event()))

    def run(
        self,
        limit: int | None = None,
        failed_only: bool = False,
        grow: Callable[[], bool] = lambda: False,
    ) -> None:
        """Run every cell that is not done yet, then write the tables of the whole run.

        Args:
            limit: run at most so many.
            failed_only: leave out the cells that have not been tried.
            grow: called when all have run; adds cells to the plan and says whether it did.

        Raises:
            RunError: a cell failed and ``fail_fast`` is set; finished cells are kept.
            KeyboardInterrupt: a signal asked to stop; finished cells and rounds are kept.
        """
        self._recall_failures()
        try:
            with self._stop.on_signals():
                ran = self._run_stage(limit, failed_only)
                while grow():
                    ran += self._run_stage(None if limit is None else limit - ran, failed_only)
        finally:
            self.write_tables()

    def _run_stage(self, limit: int | None, failed_only: bool) -> int:
        """Run what the plan holds now; return how many cells were run, failed ones included."""
        todo = [cell for cell in self.plan.cells if not self.done(cell)]
        chosen = [cell for cell in todo if not failed_only or cell.id in self.failed][:limit]
        self.progress.start(len(chosen))
        if chosen:
            self._prepare(chosen)
            self._run_cells(chosen)
        return len(chosen)

    def finished(self) -> bool:
        """Whether every cell of the plan is done."""
        return all(self.done(cell) for cell in self.plan.cells)

    def _recall_failures(self) -> None:
        """Take over why cells failed before, so that no reason is lost until a cell succeeds."""
        try:
            earlier = failed_cells(self.folder)
        except DataError as error:
            self.progress.line(f"reasons of earlier failures are lost: {error}")
            return
        unfinished = {cell.id for cell in self.plan.cells if not self.done(cell)}
        self.failed |= {cell: why for cell, why in earlier.items() if cell in unfinished}

    def done(self, cell: Cell) -> bool:
        """Whether a cell's results are on disk."""
        return (self._folder_of(cell) / DONE).exists()

    def _prepare(self, cells: Sequence[Cell]) -> None:
        """Fill the caches that cells share (vectors and texts, pre-trained models), in parts."""
        groups = [g for g in shared_preparations(cells) if not self._prepared >= variants_of(g)]
        started = time.monotonic()
        # All vectors first: what comes next needs the whole of them, whoever made which.
        for step in STEPS:
            for report in self._workers().run(preparation_tasks(groups, step), self.jobs):
                self.progress.preparation_done(report.cell, report.error)
        self._prepared |= {variant for group in groups for variant in variants_of(group)}
        if groups:
            spent = self.timings.get("preparation", 0.0) + time.monotonic() - started
            self.timings["preparation"] = spent

    def _run_cells(self, cells: Sequence[Cell]) -> None:
        # The language stage takes minutes where all else takes seconds: begun last, it would
        # leave the other processes idle at the end.
        ordered = sorted(cells, key=lambda cell: not cell.trains_language)
        tasks = [
            Task(cell.id, run_one, (cell, self.base, self._folder_of(cell), self.expected))
            for cell in ordered
        ]
        for report in self._workers().run(tasks, self.jobs):
            self._book(report)

    def _folder_of(self, cell: Cell) -> Path:
        return self.folder / "cells" / cell.id

    def _book(self, report: CellReport) -> None:
        """Count a finished cell, or keep why it failed."""
        status = "failed" if report.error else "ok"
        self.progress.cell_done(report.cell, sum(report.timings.values()), status, report.error)
        for stage, seconds in report.timings.items():
            self.timings[stage] = self.timings.get(stage, 0.0) + seconds
        if not report.error:
            self.failed.pop(report.cell, None)
            return
        self.failed[report.cell] = report.error
        if self.fail_fast:
            raise RunError(f"{report.cell}: {report.error}")

    def _workers(self) -> Workers:
        def given(jobs: int) -> Surroundings:
            return Surroundings(
                threads=self.threads,
                cache=cache_dir(),
                queue=self.progress.queue(CONTEXT),
                stop=self._stop.event,
                memory_bytes=self.memory_bytes / jobs,
            )

        use_large_pages()
        keep_to_installed()
        return Workers(CONTEXT, given, self.progress, self._stop)

    def write_tables(self) -> None:
        """Join the finished cells' tables into the run's, with rows for all that was not run."""
        rows, samples = self._not_run_rows(), list[SampleBlock]()
        for cell in self.plan.cells:
            if self.done(cell):
                part = self._folder_of(cell)
                rows.extend(read_rows(part))
                samples.extend(sample_blocks(read_samples(part)))
        write_results(self.folder, rows, samples)

    def _not_run_rows(self) -> list[Row]:
        rows = [_not_run(entry, self.base) for entry in self.plan.not_run]
        by_id = {cell.id: cell for cell in self.plan.cells}
        for cell_id, reason in self.failed.items():
            cell = by_id[cell_id]
            rows.append(
                Row(
                    **self.base,
                    cell=cell_id,
                    system=cell.system.label,
                    dataset=cell.dataset_label,
                    defense=cell.defense.label,
                    poisoning=cell.poisoning.label if cell.poisoning else "none",
                    seed=cell.seed,
                    metric="cell",
                    side="cost",
                    better="lower",
                    status="failed",
                    reason=reason,
                )
            )
        return rows


def failed_cells(folder: Path) -> dict[str, str]:
    """Return the cells that a run folder's table holds as failed, with the reason of each.

    Raises:
        DataError: there is a table, but it can't be read.
    """
    if not (folder / RESULTS).is_file():
        return {}
    table = read_results(folder)
    rows = table[(table["status"] == "failed") & (table["metric"] == "cell")]
    return dict(zip(rows["cell"], rows["reason"], strict=True))


def _not_run(entry: NotRun, base: dict[str, Any]) -> Row:
    return Row(
        **base,
        cell="",
        system=entry.system,
        dataset=entry.dataset_label,
        defense=entry.defense or "every",
        attack=entry.attack or "none",
        metric=entry.part,
        side="privacy" if entry.part == "attack" else "utility",
        better="lower",
        status=entry.status,
        reason=entry.reason,
    )
