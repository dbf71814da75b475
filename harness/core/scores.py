"""Scores of every catalogue item for many rows (clients, uploads), made a block of rows at a time.

A table of 100,000 uploads by 100,000 items is 40 GB; no reader needs more of it at once than a few
hundred rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK_BYTES = 2**27
"""Size of a block in single precision; what reads it needs about as much again."""

ROW_TILE = 256
"""Rows that are multiplied at once; blocks hold a multiple of it where memory allows."""


@dataclass(frozen=True)
class RowScores:
    """A table of scores that exists a block of rows at a time.

    Attributes:
        shape: rows and items.
        make: returns the scores of the rows asked for. What it returns for a row must not depend
            on the others that are asked for with it.
    """

    shape: tuple[int, int]
    make: Callable[[Int[Tensor, " row"]], Float[Tensor, "row item"]]

    def __len__(self) -> int:
        return self.shape[0]

    def dense(self) -> Float[Tensor, "row item"]:
        """Return the whole table, ``4 × rows × items`` bytes."""
        return self.make(torch.arange(self.shape[0]))


def block_rows(num_items: int) -> int:
    """Return how many rows of a table with ``num_items`` columns are worked on at once."""
    rows = BLOCK_BYTES // (4 * max(1, num_items))
    return rows // ROW_TILE * ROW_TILE if rows >= ROW_TILE else max(1, rows)


def row_blocks(
    scores: Float[Tensor, "row item"] | RowScores, rows: Int[Tensor, " chosen"]
) -> Iterator[tuple[slice, Float[Tensor, "block item"]]]:
    """Yield the scores of the chosen rows in blocks, each with its place among the chosen."""
    height = block_rows(scores.shape[1])
    for start in range(0, len(rows), height):
        part = slice(start, start + height)
        chosen = rows[part]
        yield part, scores.make(chosen) if isinstance(scores, RowScores) else scores[chosen]
