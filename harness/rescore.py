"""A run's numbers computed again from the values per user that it stored, without training.

Every row that is a mean over units (users, items, releases) can be: value, interval and n follow
from the stored values and from the row's own stream of resamples, so that what is computed again
equals what was written. Values are stored in single precision, hence the tolerance. Rows without
stored values stay as they are: single figures (cost, statistics of the views, medians), and rows
that say why there is no number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from harness.metrics.interval import bootstrap_mean
from harness.rows import Row, SampleBlock
from harness.sheet import bootstrap_stream

TOLERANCE = 1e-5
"""Largest difference that single precision explains, relative to values above 1."""

Key = tuple[str, str, str, int, str]
COMPARED = ("value", "low", "high", "n")


class Disagreement(NamedTuple):
    """A row that does not follow from its samples.

    Attributes:
        cell: id.
        attack: label.
        metric: name.
        k: cut-off.
        protocol: of the ranking.
        problem: what differs, in words.
    """

    cell: str
    attack: str
    metric: str
    k: int
    protocol: str
    problem: str

    def __str__(self) -> str:
        cut = f"@{self.k}" if self.k else ""
        attack = "" if self.attack == "none" else f" under {self.attack}"
        return f"{self.cell}: {self.metric}{cut}{attack}: {self.problem}"


class Rescored(NamedTuple):
    """A table computed again.

    Attributes:
        rows: all rows in their order, those with samples computed again.
        recomputed: how many were.
        figures: rows that are single figures, by metric; nothing is stored to compute them from.
        without_number: rows that say why there is no number.
        disagreements: rows that do not follow from their samples, and samples without a row.
    """

    rows: list[Row]
    recomputed: int
    figures: Counter[str]
    without_number: int
    disagreements: tuple[Disagreement, ...]


def rescore(
    rows: Sequence[Row],
    samples: Sequence[SampleBlock],
    written_with: int,
    draws: int | None = None,
) -> Rescored:
    """Compute every row that has samples again.

    Args:
        rows: as stored.
        samples: the values behind them.
        written_with: bootstrap resamples that the rows were written with.
        draws: resamples of the rows returned; default as written.
    """
    blocks = {_key(block): block.values for block in samples}
    found: list[Row] = []
    problems: list[Disagreement] = []
    recomputed, without, figures = 0, 0, Counter[str]()
    for row in rows:
        values = blocks.pop(_key(row), None)
        if values is not None:
            again = _measured_again(row, values, written_with)
            problems += [_disagreement(_key(row), text) for text in _differences(row, again)]
            other = draws is not None and draws != written_with
            found.append(_measured_again(row, values, draws or 0) if other else again)
            recomputed += 1
            continue
        found.append(row)
        if row.status != "ok":
            without += 1
        elif not math.isnan(row.low) or not math.isnan(row.high):
            problems.append(_disagreement(_key(row), "an interval without stored samples"))
        else:
            figures[row.metric] += 1
    problems += [_disagreement(key, "samples without a row") for key in blocks]
    return Rescored(found, recomputed, figures, without, tuple(problems))


def _key(row: Row | SampleBlock) -> Key:
    return (row.cell, row.attack, row.metric, row.k, row.protocol)


def _disagreement(key: Key, problem: str) -> Disagreement:
    return Disagreement(*key, problem)


def _measured_again(row: Row, values: np.ndarray, draws: int) -> Row:
    stream = bootstrap_stream(row.seed, row.metric, row.k, row.attack)
    interval = bootstrap_mean(values.astype(np.float64), stream, draws=draws)
    return replace(row, value=interval.value, low=interval.low, high=interval.high, n=interval.n)


def _differences(stored: Row, again: Row) -> list[str]:
    """Return one sentence a column that differs by more than rounding."""
    different: list[str] = []
    for name in COMPARED:
        old, new = float(getattr(stored, name)), float(getattr(again, name))
        if math.isnan(old) and math.isnan(new):
            continue
        if not abs(old - new) <= TOLERANCE * max(1.0, abs(new)):
            different.append(f"{name} is {old:.6g}, its samples give {new:.6g}")
    return different
