"""Intervals of many rows at once, for tables of thousands of differences.

The bootstrap is that of :mod:`harness.metrics.interval`: seeds are resampled first, then the
users of each seed drawn. What differs is the cost: resamples of n users are drawn once and serve
every row with n users, so that all rows' resampled means are one matrix product. Each row's
interval has the same distribution as if it were computed alone; two rows' intervals are not
independent of each other, which no single verdict needs. A row's interval is the same whatever
other rows stand beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int, Shaped

from harness.metrics.interval import DEFAULT_CONFIDENCE, DEFAULT_DRAWS, Interval

T = TypeVar("T")
# Values and resampled means in one piece of work: some 64 MB in single precision.
_BLOCK = 16_000_000
# Counts in one piece of work: they stay in a processor's cache.
_CACHED = 250_000
_SEEDS, _USERS = 0, 1


def over_seeds_jointly(
    rows: Sequence[Sequence[Shaped[np.ndarray, " _user"]]],
    *,
    seed: int = 0,
    confidence: float = DEFAULT_CONFIDENCE,
    draws: int = DEFAULT_DRAWS,
) -> list[Interval]:
    """Mean of the seeds' means with a bootstrap interval, for each row.

    Args:
        rows: for each row one array per seed, one number per user; NaN entries are dropped.
        seed: of the resamples; the same seed gives the same intervals.
        confidence: coverage aimed at, between 0 and 1.
        draws: bootstrap resamples.

    Returns:
        For each row its interval; ``n`` counts values over all seeds. Bounds are NaN with fewer
        than two values.
    """
    measured = [[g for g in map(_measured, row) if len(g)] for row in rows]
    found = [_without_bounds(groups) for groups in measured]
    bounded = [i for i, interval in enumerate(found) if interval.n >= 2]
    means = _resampled_means([g for i in bounded for g in measured[i]], draws, seed)
    first, by_seeds = 0, defaultdict[int, list[tuple[int, int]]](list)
    for i in bounded:
        by_seeds[len(measured[i])].append((i, first))
        first += len(measured[i])
    for num_seeds, places in by_seeds.items():
        for chunk in _chunks(places, max(1, _BLOCK // draws)):
            starts = np.array([start for _, start in chunk])
            bounds = _bounds(means, starts[:, None] + np.arange(num_seeds), seed, confidence)
            for (i, _), (low, high) in zip(chunk, bounds, strict=True):
                found[i] = found[i]._replace(low=float(low), high=float(high))
    return found


def student_t(
    rows: Sequence[Sequence[float]], *, confidence: float = DEFAULT_CONFIDENCE
) -> list[Interval]:
    """Mean with Student's t interval for each row, whose entries are the values of its seeds.

    Bounds are NaN with fewer than two seeds.
    """
    from scipy.special import stdtrit  # a third of a second: only who has such rows pays for it

    found = [Interval(sum(r) / len(r) if r else np.nan, np.nan, np.nan, len(r)) for r in rows]
    by_seeds = defaultdict[int, list[int]](list)
    for index, row in enumerate(rows):
        by_seeds[len(row)].append(index)
    for num_seeds, places in by_seeds.items():
        if num_seeds < 2:
            continue
        values = np.array([rows[i] for i in places], dtype=np.float64)
        quantile = stdtrit(num_seeds - 1, 0.5 + confidence / 2)
        half = quantile * values.std(axis=1, ddof=1) / np.sqrt(num_seeds)
        for i, width in zip(places, half.tolist(), strict=True):
            value = found[i].value
            found[i] = Interval(value, value - width, value + width, num_seeds)
    return found


def _measured(values: Shaped[np.ndarray, " user"]) -> Shaped[np.ndarray, " left"]:
    missing = np.isnan(values)
    return values[~missing] if missing.any() else values


def _without_bounds(groups: Sequence[np.ndarray]) -> Interval:
    if not groups:
        return Interval(np.nan, np.nan, np.nan, 0)
    value = sum(float(g.mean(dtype=np.float64)) for g in groups) / len(groups)
    return Interval(value, np.nan, np.nan, sum(map(len, groups)))


def _resampled_means(
    arrays: Sequence[np.ndarray], draws: int, seed: int
) -> Float[np.ndarray, "array draw"]:
    """Means of each array over ``draws`` resamples of its entries."""
    means = np.zeros((len(arrays), draws), np.float32)
    by_size = defaultdict[int, list[int]](list)
    for index, array in enumerate(arrays):
        if array.any():  # the mean of zeros is zero, however they are resampled
            by_size[len(array)].append(index)
    for size, places in by_size.items():
        for chunk in _chunks(places, max(1, _BLOCK // size)):
            values = np.stack([arrays[i] for i in chunk]).astype(np.float32, copy=False)
            start = 0
            for counts in _counts(size, draws, seed):
                stop = start + len(counts)
                means[chunk, start:stop] = values @ counts.T / size
                start = stop
    return means


def _counts(size: int, draws: int, seed: int) -> Iterator[Float[np.ndarray, "draw user"]]:
    """How often each of ``size`` users is in each resample, in blocks of resamples."""
    rng = np.random.default_rng([seed, _USERS, size])
    kind = np.uint16 if size < 2**16 else np.uint32
    block = max(1, _CACHED // size)
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        drawn = rng.integers(size, size=(rows, size), dtype=kind)
        places = drawn + np.arange(0, rows * size, size)[:, None]
        counts = np.bincount(places.ravel(), minlength=rows * size)
        yield counts.reshape(rows, size).astype(np.float32)


def _bounds(
    means: Float[np.ndarray, "array draw"],
    places: Int[np.ndarray, "row seed"],
    seed: int,
    confidence: float,
) -> Float[np.ndarray, "row 2"]:
    """Percentiles of the mean over seeds drawn with replacement.

    Each of the S seeds drawn takes its resampled mean from another place of the S-fold turned list
    of resamples, so that one seed drawn twice counts with two different resamples of its users.
    """
    num_seeds, draws = places.shape[1], means.shape[1]
    rng = np.random.default_rng([seed, _SEEDS, num_seeds])
    chosen = rng.integers(num_seeds, size=(num_seeds, draws))
    total = np.zeros((len(places), draws), np.float32)
    for slot in range(num_seeds):
        turned = (np.arange(draws) + slot * draws // num_seeds) % draws
        total += means[places[:, chosen[slot]], turned]
    tail = (1 - confidence) / 2
    return np.quantile(total / num_seeds, [tail, 1 - tail], axis=1).T


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
