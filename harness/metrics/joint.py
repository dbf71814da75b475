"""Intervals of many paired differences at once, for tables of thousands of them.

The intervals are those of :func:`harness.metrics.interval.paired_difference`. What differs is the
cost: rows of the same number of seeds and users are worked on together, and resamples of n users
are drawn once and serve every row with n users, so that all rows' resampled means are two matrix
products. Each row's interval has the same distribution as if it were computed alone; two rows'
intervals are not independent of each other, which no single verdict needs. A row's interval is the
same whatever other rows stand beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from harness.metrics.crossed import Groups, panel, seeds_add, spread, t_quantile
from harness.metrics.interval import (
    DEFAULT_CONFIDENCE,
    DEFAULT_DRAWS,
    NOTHING,
    Interval,
    exact_share,
)
from harness.metrics.resampling import Sides, counts_of, studentised
from harness.metrics.shares import difference_sides, hits

T = TypeVar("T")
# Values in one piece of work: some 64 MB in single precision.
_BLOCK = 16_000_000
# Counts in one piece of work: they stay in a processor's cache.
_CACHED = 250_000


class Pairs(NamedTuple):
    """Both sides of one row.

    Attributes:
        treated: one array per seed; entry u belongs to the same user as entry u of ``baseline``.
        baseline: the same seeds in the same order, the same users in the same order.
        units: for each seed the ids of its users.
    """

    treated: Groups
    baseline: Groups
    units: Groups


class _Stack(NamedTuple):
    """Rows of one shape; ``counts`` is None where every user has one value in every seed."""

    places: Sequence[int]
    treated: Float[np.ndarray, "row seed user"]
    baseline: Float[np.ndarray, "row seed user"]
    counts: Float[np.ndarray, "#row seed user"] | None


def paired_differences_jointly(
    rows: Sequence[Pairs],
    *,
    seed: int = 0,
    confidence: float = DEFAULT_CONFIDENCE,
    draws: int = DEFAULT_DRAWS,
) -> list[Interval]:
    """Mean of ``treated - baseline`` with its interval, for each row.

    Args:
        rows: values that are NaN on either side are dropped from both.
        seed: of the resamples; the same seed gives the same intervals.
        confidence: coverage aimed at, between 0 and 1.
        draws: bootstrap resamples; 0 gives Student's interval where there is no exact one.

    Returns:
        For each row its interval; ``n`` counts values over all seeds. Bounds are NaN with fewer
        than two users.
    """
    found = [NOTHING] * len(rows)
    for stack in _stacks(rows):
        for place, interval in zip(
            stack.places, _intervals(stack, seed, draws, confidence), strict=True
        ):
            found[place] = interval
    return found


def student_t(
    rows: Sequence[Sequence[float]], *, confidence: float = DEFAULT_CONFIDENCE
) -> list[Interval]:
    """Mean with Student's t interval for each row, whose entries are the values of its seeds.

    Bounds are NaN with fewer than two seeds.
    """
    found = [Interval(sum(r) / len(r) if r else np.nan, np.nan, np.nan, len(r)) for r in rows]
    by_seeds = defaultdict[int, list[int]](list)
    for index, row in enumerate(rows):
        by_seeds[len(row)].append(index)
    for num_seeds, places in by_seeds.items():
        if num_seeds < 2:
            continue
        values = np.array([rows[i] for i in places], dtype=np.float64)
        quantile = t_quantile(num_seeds - 1, confidence)
        half = quantile * values.std(axis=1, ddof=1) / np.sqrt(num_seeds)
        for i, width in zip(places, half.tolist(), strict=True):
            value = found[i].value
            found[i] = Interval(value, value - width, value + width, num_seeds)
    return found


def _stacks(rows: Sequence[Pairs]) -> Iterator[_Stack]:
    """Rows by shape; users that are not the same in every seed make a stack of their own."""
    balanced = defaultdict[tuple[int, int], list[int]](list)
    for place, row in enumerate(rows):
        if row.units and _is_balanced(row):
            balanced[len(row.units), len(row.units[0])].append(place)
            continue
        made = panel([row.treated, row.baseline], row.units)
        if made is not None:
            yield _Stack([place], made.sums[:1], made.sums[1:], made.counts[None])
    for (num_seeds, size), places in balanced.items():
        for chunk in _chunks(places, max(1, _BLOCK // (num_seeds * size))):
            treated, baseline = (
                np.array([rows[i][side] for i in chunk], dtype=np.float32) for side in (0, 1)
            )
            yield _Stack(chunk, treated, baseline, None)


def _is_balanced(row: Pairs) -> bool:
    """Every user in every seed, in the same order, with a value on both sides."""
    first = row.units[0]
    return (
        len(first) > 0
        and all(own is first or np.array_equal(own, first) for own in row.units[1:])
        and not any(np.isnan(v.sum()) for v in (*row.treated, *row.baseline))
        and bool((first[1:] > first[:-1]).all() or len(np.unique(first)) == len(first))
    )


def _intervals(stack: _Stack, seed: int, draws: int, confidence: float) -> list[Interval]:
    steps = stack.treated - stack.baseline
    whole = spread(steps, stack.counts)
    rows, num_seeds, size = steps.shape
    n = num_seeds * size if stack.counts is None else int(stack.counts.sum())
    values = steps.mean(axis=2, dtype=np.float64).mean(axis=1)
    if stack.counts is not None:
        values = whole.value.astype(np.float64)
    if size < 2:
        return [Interval(v, np.nan, np.nan, n) for v in values.tolist()]
    of_hits = _share_at_bounds(stack) == 1
    if stack.counts is not None and (stack.counts > 1).any():
        of_hits[:] = False
    sides = np.zeros((rows, 2))
    if of_hits.any():
        sides[of_hits] = _of_hits(steps[of_hits], stack.counts, confidence)
    if not of_hits.all():
        rest = whole.users[~of_hits]
        sides[~of_hits] = studentised(rest, _counts(size, draws, seed), draws, confidence)
    equal = ~steps.any(axis=(1, 2)) & (_share_at_bounds(stack) >= 0.5) & ~of_hits
    sides[equal] += exact_share(0, size, confidence=confidence).high
    sides = np.hypot(sides, seeds_add(whole, confidence)[:, None])
    low, high = values - sides[:, 0], values + sides[:, 1]
    low[of_hits], high[of_hits] = np.maximum(low[of_hits], -1), np.minimum(high[of_hits], 1)
    bounds = zip(values.tolist(), low.tolist(), high.tolist(), strict=True)
    return [Interval(value, below, above, n) for value, below, above in bounds]


def _share_at_bounds(stack: _Stack) -> Float[np.ndarray, " row"]:
    """Share of each row's values that are 0 or 1; 0 where some lie outside."""
    found = []
    for side in (stack.treated, stack.baseline):
        at_bounds = (side == 0) | (side == 1)
        outside = ((side < 0) | (side > 1)).any(axis=(1, 2))
        if stack.counts is None:
            share = at_bounds.mean(axis=(1, 2))
        else:
            share = (at_bounds & (stack.counts > 0)).sum(axis=(1, 2)) / (stack.counts > 0).sum()
        found.append(np.where(outside, -np.inf, share))
    return np.maximum(np.mean(found, axis=0), 0.0)


def _of_hits(
    steps: Float[np.ndarray, "row seed user"],
    counts: Float[np.ndarray, "#row seed user"] | None,
    confidence: float,
) -> Sides:
    gained, lost = np.maximum(steps, 0), np.maximum(-steps, 0)
    gains, losses = (hits(x, counts, spread(x, counts)) for x in (gained, lost))
    return difference_sides(gains, losses, confidence)


def _counts(size: int, draws: int, seed: int) -> Iterable[Float[np.ndarray, "draw user"]]:
    """How often each of ``size`` users is in each resample; the same for every row of that size."""
    rng = np.random.default_rng([seed, size])
    block = max(1, _CACHED // size)
    for start in range(0, draws, block):
        yield counts_of(size, min(block, draws - start), rng)


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
