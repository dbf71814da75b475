"""Cosines of many pairs of vectors: matrix products in blocks, the same bits in any block."""

from __future__ import annotations

from itertools import pairwise
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from harness.core.scores import ROW_TILE, RowScores

TABLE_TILE = 8192
"""Rows of the right factor that are multiplied at once."""

SAFE_LENGTHS = (1e-15, 1e15)
"""Lengths whose squares fit single precision with room to spare."""


def cosines(queries: Float[Tensor, "query dim"], table: Float[Tensor, "item dim"]) -> RowScores:
    """Return the cosine of every pair in the queries' precision, 0 for a zero vector.

    A query's cosines do not depend on the others of its block. Memory: a copy of the table, a tile
    and the block asked for.
    """
    unit = unit_rows(table.to(queries.dtype))
    return RowScores(
        (len(queries), len(table)), lambda rows: products(unit_rows(queries[rows]), unit)
    )


def products(
    queries: Float[Tensor, "query dim"], table: Float[Tensor, "item dim"]
) -> Float[Tensor, "query item"]:
    """Return ``queries @ table.T``, each row the same bits whatever rows stand around it.

    Products of one fixed shape, filled up with zeros where rows are missing, see to that.
    """
    out = queries.new_empty(len(queries), len(table))
    parts = max(1, ceil(len(table) / TABLE_TILE))
    # Equal parts: a last part of one row would be a product of a matrix and a vector.
    edges = [len(table) * part // parts for part in range(parts + 1)]
    for top in range(0, len(queries), ROW_TILE):
        rows = queries[top : top + ROW_TILE]
        padded = F.pad(rows, (0, 0, 0, ROW_TILE - len(rows)))
        for left, right in pairwise(edges):
            tile = padded @ table[left:right].T
            out[top : top + len(rows), left:right] = tile[: len(rows)]
    return out


def unit_rows(vectors: Float[Tensor, "row dim"]) -> Float[Tensor, "row dim"]:
    """Return every row at length 1, and a zero row as it is; no length over- or underflows."""
    return normalised(vectors)[0]


def normalised(
    vectors: Float[Tensor, "row dim"],
) -> tuple[Float[Tensor, "row dim"], Float[Tensor, " row"]]:
    """Return unit rows, and a number for each that is 0 if it is zero, NaN if it is not finite."""
    length = torch.linalg.vector_norm(vectors, dim=1)
    safe = (length > SAFE_LENGTHS[0]) & (length < SAFE_LENGTHS[1])
    if bool(safe.all()):
        return vectors / length[:, None], length
    # The squares of very short or very long rows leave the range; their largest entry comes first.
    odd = vectors[~safe]
    largest = odd.abs().amax(1) if odd.shape[1] else odd.new_zeros(len(odd))
    scaled = odd / torch.where(largest == 0, 1, largest)[:, None]
    length[~safe] = torch.linalg.vector_norm(scaled, dim=1)
    unit = vectors / torch.where(safe, length, 1)[:, None]
    unit[~safe] = scaled / torch.where(largest == 0, 1, length[~safe])[:, None]
    return unit, length


def ranking(
    query: Float[np.ndarray, " dim"], table: Float[np.ndarray, "item dim"]
) -> Int[np.ndarray, " item"]:
    """Return all rows of ``table``, the largest dot product with ``query`` first; ties by row."""
    # In the table's own precision: a float64 query would convert all of it at every call.
    scores = table @ query.astype(table.dtype)
    return np.argsort(-scores, kind="stable")
