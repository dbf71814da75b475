"""Nearest neighbours by cosine or Euclidean distance, exact, in memory that grows with a tile.

Two matrix products of the same numbers may differ in the last bit when their shapes differ, so a
neighbour chosen from them would depend on the size of the chunk, and among equal vectors on their
place in it. The product is a filter only here: whatever lies within its rounding error of the k-th
best is compared again, pair by pair in double precision, and ties go to the lowest row. The answer
is then the same for every tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from harness.core.cosine import TABLE_TILE, normalised
from harness.core.messages import PAD
from harness.core.scores import ROW_TILE

Metric = Literal["cosine", "l2"]

PAIRS = 2048
"""Pairs compared again at once."""

LOWEST = float("-inf")


class Tile(NamedTuple):
    """How much is multiplied at once; decides time and memory, never the result.

    Attributes:
        queries: rows of the left factor.
        table: rows of the right factor.
    """

    queries: int = ROW_TILE
    table: int = TABLE_TILE


TILE = Tile()


class Neighbors(NamedTuple):
    """The nearest rows of a table, the nearest first.

    Attributes:
        items: rows of the table, ``-1`` where fewer than k are allowed.
        scores: cosine (0 for a zero vector) or Euclidean distance; NaN beside ``-1``.
    """

    items: Int[Tensor, "query k"]
    scores: Float[Tensor, "query k"]


def nearest(
    queries: Float[Tensor, "query dim"],
    table: Float[Tensor, "item dim"],
    k: int = 1,
    *,
    exclude: Int[Tensor, "query *excluded"] | None = None,
    metric: Metric = "cosine",
    tile: Tile = TILE,
) -> Neighbors:
    """Return each query's k nearest rows of ``table``; of equally near ones the lowest.

    Time: queries × items × dim multiply-adds, and a double-precision comparison for each pair
    closer to the k-th best than about 2e-7 × dim. A table of mostly equal rows is slow for that.
    Memory: one tile of scores and ``query × k``.

    Args:
        queries: vectors to look for; with ``cosine`` their length does not matter.
        table: vectors to choose from.
        k: neighbours of each query, at least 1.
        exclude: rows of the table that a query may not get, one or several, ``-1`` for none.
        metric: largest cosine, or smallest Euclidean distance.
        tile: chunk sizes.

    Raises:
        ValueError: k or a tile below 1, or a vector that is not finite.
    """
    if k < 1 or min(tile) < 1:
        raise ValueError(f"k and tile must be at least 1, got k={k} and {tile}")
    scale = _largest(queries, table) if metric == "l2" else None
    best = _Best.empty(len(queries), k)
    for left in range(0, len(table), tile.table):
        right = _Prepared.of(table[left : left + tile.table], scale, is_table=True)
        for top in range(0, len(queries), tile.queries):
            rows = slice(top, top + tile.queries)
            query = _Prepared.of(queries[rows], scale, is_table=False)
            scores = _scored(query, right, left)
            if exclude is not None:
                _strike(scores, exclude[rows].reshape(len(scores), -1) - left)
            row, column = best.candidates(rows, scores, 2 * _rounding(table.shape[1]))
            item = column + left
            best.enter(top, row, item, _compared(queries[rows], table, row, item, metric))
    value = torch.where(best.items == PAD, torch.nan, best.exact)
    return Neighbors(best.items, value if metric == "cosine" else _root(-value))


@dataclass(frozen=True)
class _Prepared:
    """Vectors in single precision, such that the largest product less bias is the nearest.

    Attributes:
        rows: unit vectors (cosine), or vectors over the largest length of all (l2).
        bias: half the squared length of the table's rows (l2), since |q − t|² is smallest where
            q · t − |t|²/2 is largest; None elsewhere.
        zero: which vectors are zero.
    """

    rows: Float[Tensor, "row dim"]
    bias: Float[Tensor, " row"] | None
    zero: Shaped[Tensor, " row"]

    @classmethod
    def of(cls, vectors: Tensor, scale: Tensor | None, *, is_table: bool) -> _Prepared:
        if scale is None:
            rows, length = normalised(vectors)
            bias = None
        else:
            rows = vectors / scale
            length = torch.linalg.vector_norm(rows, dim=1)
            bias = length.square().float() / 2 if is_table else None
        if not bool(torch.isfinite(length).all()):
            raise ValueError("nearest: a vector is not finite")
        return cls(rows.float(), bias, length == 0)


def _largest(queries: Tensor, table: Tensor) -> Tensor:
    """Return the greatest length among all vectors, 1 where all are zero."""
    lengths = [
        torch.linalg.vector_norm(part, dim=1, dtype=torch.float64).amax()
        for vectors in (queries, table)
        for part in vectors.split(TABLE_TILE)
        if len(part)
    ]
    largest = torch.stack(lengths).amax() if lengths else torch.ones(())
    return torch.where(largest == 0, 1, largest).to(table.dtype)


def _rounding(dim: int) -> float:
    """Bound the error of a single-precision score of two prepared vectors.

    A sum of n products of numbers up to length 1 is off by at most n·u/(1 − n·u), u = 2⁻²⁴, in
    whatever order it is taken (Higham, Accuracy and Stability of Numerical Algorithms, section
    3.1); two normalisations or the bias add as much again.
    """
    return 2 * (dim + 8) * 2.0**-24


def _scored(query: _Prepared, right: _Prepared, left: int) -> Float[Tensor, "query item"]:
    """Return the products that filter one tile, whose first column is row ``left`` of the table."""
    scores = query.rows @ right.rows.T
    if right.bias is not None:
        return scores.sub_(right.bias)
    # All rows are equally near to nothing at all: the lowest ones, without comparing.
    scores[query.zero] = -torch.arange(left, left + scores.shape[1]).float()
    return scores


def _strike(scores: Float[Tensor, "query item"], columns: Int[Tensor, "query excluded"]) -> None:
    """Take columns out of the running; those outside the tile mean nothing here."""
    query, place = ((columns >= 0) & (columns < scores.shape[1])).nonzero(as_tuple=True)
    scores[query, columns[query, place]] = LOWEST


def _compared(
    queries: Tensor,
    table: Tensor,
    query: Int[Tensor, " pair"],
    item: Int[Tensor, " pair"],
    metric: Metric,
) -> Float[Tensor, " pair"]:
    """Return cosine or negative squared distance of pairs, in double precision.

    Products of two single-precision numbers are exact here, and every pair is summed alike, so
    equal rows get equal values wherever they stand.
    """
    values = [torch.zeros(0, dtype=torch.float64)]
    for start in range(0, len(query), PAIRS):
        pairs = slice(start, start + PAIRS)
        one, other = queries[query[pairs]].double(), table[item[pairs]].double()
        if metric == "l2":
            values.append(-(one - other).square().sum(1))
            continue
        length = _root(one.square().sum(1) * other.square().sum(1))
        values.append((one * other).sum(1) / torch.where(length == 0, 1, length))
    return torch.cat(values)


def _root(values: Tensor) -> Tensor:
    """Return square roots rounded as IEEE 754 asks; torch's may be off in the last bit."""
    return torch.from_numpy(np.sqrt(values.numpy()))


@dataclass(frozen=True)
class _Best:
    """The best of the tiles seen so far.

    Attributes:
        items: rows of the table in order, PAD where none was found yet.
        exact: their values in double precision; the lowest beside PAD.
        rough: the k best of the products, which decide what is compared again.
    """

    items: Int[Tensor, "query k"]
    exact: Float[Tensor, "query k"]
    rough: Float[Tensor, "query k"]

    @classmethod
    def empty(cls, queries: int, k: int) -> _Best:
        return cls(
            torch.full((queries, k), PAD),
            torch.full((queries, k), LOWEST, dtype=torch.float64),
            torch.full((queries, k), LOWEST),
        )

    def candidates(
        self, rows: slice, scores: Float[Tensor, "query item"], slack: float
    ) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
        """Return (query, column) of everything that may be among the k best of its query."""
        k, width = self.items.shape[1], scores.shape[1]
        # The k best of the maxima of short stretches bound the k-th best score from below, and
        # only stretches whose maximum reaches it are looked into.
        size = max(1, min(64, width // (4 * k)))
        full = width - width % size
        stretches = scores[:, :full].unflatten(1, (-1, size)).amax(2)
        if full < width:
            stretches = torch.cat([stretches, scores[:, full:].amax(1, keepdim=True)], 1)
        top = stretches.topk(min(k, stretches.shape[1]), dim=1).values
        rough = torch.cat([self.rough[rows], top], 1).topk(k, dim=1).values
        self.rough[rows] = rough
        bar = rough[:, -1] - slack
        query, stretch = (stretches >= bar[:, None]).nonzero(as_tuple=True)
        columns = stretch[:, None] * size + torch.arange(size)
        inside = scores[query[:, None], columns.clamp_max(width - 1)]
        reached = (inside >= bar[query, None]) & (inside > LOWEST) & (columns < width)
        pair, place = reached.nonzero(as_tuple=True)
        return query[pair], columns[pair, place]

    def enter(self, first: int, query: Tensor, item: Tensor, exact: Tensor) -> None:
        """Merge compared pairs of the queries from ``first`` on, and keep the k best of each."""
        if not len(query):
            return
        k, held = self.items.shape[1], query.unique()
        known = self.items[first + held] != PAD
        rows = torch.cat([query, held[:, None].expand(-1, k)[known]]).numpy()
        items = torch.cat([item, self.items[first + held][known]]).numpy()
        values = torch.cat([exact, self.exact[first + held][known]]).numpy()
        order = np.lexsort((items, -values, rows))
        rows, items, values = rows[order], items[order], values[order]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = place < k
        target = (torch.from_numpy(first + rows[kept]), torch.from_numpy(place[kept]))
        self.items[target] = torch.from_numpy(items[kept])
        self.exact[target] = torch.from_numpy(values[kept])
