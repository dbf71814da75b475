"""One metric's values per seed, and per user where they were stored, as a mean with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from harness.results import Interval, Row, over_seeds

DRAWS = 1000
Block = tuple[np.ndarray, np.ndarray]
ONE_SEED = "over users of one seed, not over trainings"
# A stored mean of 32-bit values per user agrees with the row to about this much.
_SAME_MEAN = 1e-4


def summary(
    group: Sequence[Row],
    values: Sequence[float],
    blocks: Sequence[Block | None],
) -> tuple[Interval, str]:
    """The mean over seeds and its interval, by the best method the stored values allow."""
    found = [b for b, v in zip(blocks, values, strict=True) if b is not None and agrees(b, v)]
    if len(found) == len(values):
        units, groups = [b[0] for b in found], [b[1] for b in found]
        whole = over_seeds(groups, np.random.default_rng(0), units=units, draws=DRAWS)
        return whole, "over seeds and users" if len(groups) > 1 else ONE_SEED
    n = sum(row.n for row in group)
    if len(values) == 1:
        return Interval(values[0], group[0].low, group[0].high, n), ONE_SEED
    measured = [v for v in values if not math.isnan(v)]
    return over_seed_values(measured, n), "over seeds"


def agrees(block: Block, value: float) -> bool:
    """Whether the values per user average to the row's value; those of an edited row do not."""
    measured = block[1][~np.isnan(block[1])]
    return len(measured) > 0 and abs(measured.mean() - value) <= _SAME_MEAN * max(1.0, abs(value))


def quotient(above: float, below: float) -> float:
    """One over the other; NaN over zero."""
    return above / below if below else math.nan


def over_seed_values(values: Sequence[float], n: int) -> Interval:
    """Student's t interval over the values of the seeds; NaN bounds with fewer than two."""
    if not values:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan, n)
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half, n)
