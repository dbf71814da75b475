"""What cells cost in earlier runs: the only source of a plan's times besides a system's own word.

A cell takes the cost of measured cells that resemble it, the nearest resemblance first: the same
training; the same system, data set and defence arm under the same attack; the same under any
attack; the same with the arm at another strength. System and data set are compared with all their
settings, and the attacks that read the transcript by name, so that the time of 20 rounds never
passes for that of 60.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.cells import Cell, canonical
from harness.core.errors import DataError, HarnessError
from harness.plan import Plan
from harness.refinement import refined_plan
from harness.results import read_results
from harness.run_folder import RESULTS, SCENARIO
from harness.scenario import load

MAX_RUNS = 20
"""So many of the newest runs are looked at."""


class Cost(NamedTuple):
    """What one cell took, or the mean of several.

    Attributes:
        seconds: time of its process.
        memory_bytes: peak of its process, which may have run other cells before; the largest.
        disk_bytes: size of its tables.
        run: folder of the run that measured it.
    """

    seconds: float
    memory_bytes: float
    disk_bytes: float
    run: Path


class EarlierRun(NamedTuple):
    """Measured cells of one run.

    Attributes:
        folder: the run.
        costs: its finished cells with what they took.
    """

    folder: Path
    costs: tuple[tuple[Cell, Cost], ...]


def read_run(folder: Path) -> EarlierRun:
    """Return the measured cells of a run folder.

    Raises:
        DataError: there are no results, or they can't be read.
        ScenarioError: the run's scenario is not valid in this version.
    """
    if not (folder / SCENARIO).is_file():
        raise DataError(f"{folder}: no run there ({SCENARIO} is missing)")
    rows = read_results(folder)
    rows = rows[(rows["status"] == "ok") & rows["value"].notna()]
    seconds, memory = (
        dict(zip(part["cell"], part["value"], strict=True))
        for part in (rows[rows["metric"] == name] for name in ("seconds", "peak_memory_mb"))
    )
    cells = refined_plan(load(folder / SCENARIO), folder).cells
    return EarlierRun(
        folder,
        tuple(
            (c, Cost(seconds[c.id], memory[c.id] * 2**20, _size(folder / "cells" / c.id), folder))
            for c in cells
            if c.id in seconds and c.id in memory
        ),
    )


def _size(folder: Path) -> float:
    return float(sum(path.stat().st_size for path in folder.glob("*") if path.is_file()))


def earlier_runs(root: Path) -> tuple[list[EarlierRun], list[str]]:
    """Return the newest runs under ``root``, newest first, and why others can't be used."""
    found = [path for path in root.glob(f"*/{RESULTS}") if path.is_file()]
    newest = sorted(found, key=lambda path: (path.stat().st_mtime, path), reverse=True)
    runs: list[EarlierRun] = []
    unusable: list[str] = []
    for path in newest[:MAX_RUNS]:
        try:
            runs.append(read_run(path.parent))
        except HarnessError as error:
            unusable.append(f"{path.parent} tells no times: {str(error).splitlines()[0]}")
    return runs, unusable


Likeness = Callable[[Cell], str]


def _after_training(cell: Cell) -> list[object]:
    """Return the work that the training key leaves out: attacks on the transcript, answers."""
    answers = cell.evaluation.answer_users if cell.trains_language else 0
    return [sorted(attack.use for attack in cell.inference), answers]


def _task(cell: Cell) -> list[object]:
    """Return what decides most of the cost: system, data set, language stage, attacks."""
    return [
        cell.system.use,
        cell.system.params,
        cell.dataset,
        cell.target_domain_only,
        cell.trains_language,
        *_after_training(cell),
    ]


def _same_training(cell: Cell) -> str:
    return canonical([cell.training, *_after_training(cell)])


def _same_attack(cell: Cell) -> str:
    parts = [(part.use, part.params) for part in cell.defense.parts]
    attack = cell.poisoning and (cell.poisoning.use, cell.poisoning.params)
    return canonical([*_task(cell), parts, attack])


def _same_arm(cell: Cell) -> str:
    return canonical([*_task(cell), [(part.use, part.params) for part in cell.defense.parts]])


def _same_defenses(cell: Cell) -> str:
    return canonical([*_task(cell), [part.use for part in cell.defense.parts]])


def _same_labels(cell: Cell) -> str:
    names = [cell.system.label, cell.dataset_label, cell.defense.label, cell.trains_language]
    return canonical(names)


LIKENESSES: tuple[Likeness, ...] = (_same_training, _same_attack, _same_arm, _same_defenses)


def measured_costs(
    plan: Plan, runs: Sequence[EarlierRun], by_label: bool = False
) -> dict[str, Cost]:
    """Return the costs of the plan's cells that earlier runs tell, by id of the cell.

    Args:
        plan: the expanded scenario.
        runs: measured runs; of two that fit equally well the first counts.
        by_label: let equal labels of system, data set and arm pass for the same, whatever the
            settings: the user named the run and vouches for it.
    """
    found: dict[str, Cost] = {}
    for likeness in (*LIKENESSES, *([_same_labels] if by_label else ())):
        open_cells = [(cell.id, likeness(cell)) for cell in plan.cells if cell.id not in found]
        for run in runs if open_cells else ():
            known = _by_likeness(run, likeness)
            for cell_id, key in open_cells:
                if key in known and cell_id not in found:
                    found[cell_id] = _mean(known[key])
    return found


def _by_likeness(run: EarlierRun, likeness: Likeness) -> dict[str, list[Cost]]:
    known: dict[str, list[Cost]] = {}
    for cell, cost in run.costs:
        known.setdefault(likeness(cell), []).append(cost)
    return known


def _mean(costs: Iterable[Cost]) -> Cost:
    several = list(costs)
    return Cost(
        seconds=sum(c.seconds for c in several) / len(several),
        memory_bytes=max(c.memory_bytes for c in several),
        disk_bytes=sum(c.disk_bytes for c in several) / len(several),
        run=several[0].run,
    )
