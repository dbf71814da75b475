"""What cells share before they run: models and texts, once a system on a data set."""

from __future__ import annotations

from collections.abc import Sequence

from harness.cells import Cell, canonical
from harness.core.registry import SYSTEMS
from harness.core.system import Part, System
from harness.plugins import build
from harness.pool import Task
from harness.worker import prepare_cells

PARTS = 4
"""Shares of a preparation, whatever the number of processes: the shares decide the texts."""

STEPS = {"encode": "encoding for", "prepare": "preparation of"}
"""Methods of a system that fill shared caches, in order, and what each is called."""


def shared_preparations(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Return, for each system on a data set that needs models, one cell a noise and seed."""
    groups: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        if cell.anchor:
            continue
        groups.setdefault(_shared_by(cell), {}).setdefault(_variant(cell), cell)
    return [list(group.values()) for group in groups.values()]


def _shared_by(cell: Cell) -> str:
    """Return what cells have in common that share models and texts."""
    return canonical([cell.system.model_dump(mode="json"), cell.dataset])


def _variant(cell: Cell) -> str:
    """Return what tells the preparations of such cells apart."""
    noise = cell.noisy.model_dump(mode="json") if cell.noisy.fraction else None
    return canonical([noise, cell.seed])


def variants_of(group: Sequence[Cell]) -> set[str]:
    """Return what a group's preparation covers, to know what is prepared already."""
    return {_shared_by(cell) + _variant(cell) for cell in group}


def preparation_tasks(groups: Sequence[Sequence[Cell]], step: str) -> list[Task]:
    """Return the shares of one step for each group whose system has anything to do in it."""
    tasks: list[Task] = []
    for group in groups:
        first = group[0]
        if getattr(SYSTEMS.get(first.system.use), step) is getattr(System, step):
            continue
        system = build(SYSTEMS, first.system)
        if step == "encode" and "encoder" not in system.assets():
            continue
        if step == "prepare" and not system.prepares():
            continue
        what = f"{STEPS[step]} {first.system.label} on {first.dataset_label}"
        for index in range(PARTS):
            name = f"{what}, part {index + 1} of {PARTS}"
            part = Part(index, PARTS)
            tasks.append(Task(name, prepare_cells, (list(group), part, step, name)))
    return tasks
