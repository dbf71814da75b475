"""What cells share before they run: models and texts, once a system on a data set."""

from __future__ import annotations

from collections.abc import Sequence

from harness.cells import Cell, canonical


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
