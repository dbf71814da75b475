"""Intervals for every number in a report: over users, over seeds, and for paired differences.

Users are resampled jointly for all seeds, as the same users return in every seed, and the seeds'
part is added with the quantile that their small number asks for; :mod:`harness.metrics.crossed`
says how. Hits and misses (0 and 1) have exact bounds (:mod:`harness.metrics.shares`), other values
a studentised bootstrap (:mod:`harness.metrics.resampling`). One seed covers users only, whatever
another training would give.

All functions drop entries that are NaN (a user for whom the metric does not exist) and say in
``n`` how many were left. Fewer than two users give NaN bounds, never a zero width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from harness.metrics.crossed import Groups, Panel, Spread, panel, seeds_add, spread
from harness.metrics.ratios import few_hits_sides, fieller_sides
from harness.metrics.resampling import Sides, drawn_counts, studentised
from harness.metrics.shares import (
    are_hits,
    clopper_pearson,
    difference_sides,
    gained_and_lost,
    hits,
    share_sides,
    steps_of,
)

DEFAULT_DRAWS = 2000
DEFAULT_CONFIDENCE = 0.95


class Interval(NamedTuple):
    """An estimate with its uncertainty.

    Attributes:
        value: the estimate; NaN where nothing was measured.
        low: lower bound; NaN with fewer than two users.
        high: upper bound; NaN with fewer than two users.
        n: measured values behind the estimate (users, or pairs of seed and user).
    """

    value: float
    low: float
    high: float
    n: int


NOTHING = Interval(np.nan, np.nan, np.nan, 0)


def bootstrap_mean(
    values: Shaped[np.ndarray, " user"],
    rng: np.random.Generator,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
    draws: int = DEFAULT_DRAWS,
) -> Interval:
    """Mean over the users of one training; another training is not covered.

    Args:
        values: one number per user; NaN entries are dropped.
        rng: the stream the resamples are drawn from.
        confidence: coverage aimed at, between 0 and 1.
        draws: bootstrap resamples; 0 gives Student's interval where there is no exact one.
    """
    return over_seeds([values], rng, confidence=confidence, draws=draws)


def over_seeds(
    groups: Groups,
    rng: np.random.Generator,
    *,
    units: Groups | None = None,
    confidence: float = DEFAULT_CONFIDENCE,
    draws: int = DEFAULT_DRAWS,
) -> Interval:
    """Mean of the seeds' means, over users and seeds; with one seed over users only.

    Where every value is 0 or 1 the bounds are exact ones of a share and stay within 0 and 1.

    Args:
        groups: one array per seed, one number per user; NaN entries are dropped.
        rng: the stream the resamples are drawn from.
        units: for each seed the ids of its users; by default a place is a user in every seed.
        confidence: coverage aimed at, between 0 and 1.
        draws: bootstrap resamples; 0 gives Student's interval where there is no exact one.
    """
    found = panel([groups], units)
    if found is None:
        return NOTHING
    whole = spread(found.sums[:1], found.counts[None])
    if are_hits(found):
        sides = share_sides(hits(found.sums[:1], found.counts[None], whole), confidence)
        return _bounded(whole, sides, found.n, confidence, limits=(0.0, 1.0))
    sides = _by_resamples(whole, rng, draws, confidence)
    return _bounded(whole, sides, found.n, confidence)


def paired_difference(
    treated: Groups,
    baseline: Groups,
    rng: np.random.Generator,
    *,
    units: Groups | None = None,
    confidence: float = DEFAULT_CONFIDENCE,
    draws: int = DEFAULT_DRAWS,
) -> Interval:
    """Mean of ``treated - baseline`` over the same seeds and the same users.

    Hits and misses (0 and 1) have bounds from the shares of users gained and lost, so that pairs
    which agree for every user leave room for users who would not. So do other values from 0 to 1
    of which half stand at 0 or 1 and which agree for every user.

    Args:
        treated: one array per seed; entry u belongs to the same user as entry u of ``baseline``.
        baseline: the same seeds in the same order, the same users in the same order.
        rng: the stream the resamples are drawn from.
        units: for each seed the ids of its users; by default a place is a user in every seed.
        confidence: coverage aimed at, between 0 and 1.
        draws: bootstrap resamples; 0 gives Student's interval where there is no exact one.

    Raises:
        ValueError: the two sides do not have the same seeds and users.
    """
    found = _paired(treated, baseline, units)
    if found is None:
        return NOTHING
    steps = spread(steps_of(found), found.counts[None])
    if are_hits(found):
        sides = difference_sides(*gained_and_lost(found), confidence)
        return _bounded(steps, sides, found.n, confidence, limits=(-1.0, 1.0))
    sides = _by_resamples(steps, rng, draws, confidence) + _unseen(found, confidence)
    return _bounded(steps, sides, found.n, confidence)


def paired_ratio(
    treated: Groups,
    baseline: Groups,
    rng: np.random.Generator,
    *,
    units: Groups | None = None,
    confidence: float = DEFAULT_CONFIDENCE,
    draws: int = DEFAULT_DRAWS,
) -> Interval:
    """Mean of ``treated`` over mean of ``baseline``, both over the same users and seeds.

    Over users the bounds are Fieller's (J. R. Stat. Soc. B 16, 1954): those ratios r for which
    ``treated - r · baseline`` may have mean 0, judged by the studentised bootstrap. Hits of fewer
    than 10 users, or pairs that differ in fewer than 10 users, are held against the exact bounds of
    their shares as well, and the wider bound counts.

    Args and errors are those of :func:`paired_difference`. A baseline of mean 0 has no ratio: the
    value is NaN. Where the baseline's own interval reaches down to 0 (to a hundredth of its value),
    the bounds are NaN.
    """
    found = _paired(treated, baseline, units)
    if found is None:
        return NOTHING
    each = spread(found.sums, np.broadcast_to(found.counts, found.sums.shape))
    above, below = each.value.tolist()
    if below == 0:
        return Interval(np.nan, np.nan, np.nan, found.n)
    value = above / below
    rest = spread((found.sums[:1] - value * found.sums[1:]) / below, found.counts[None])
    error = float(np.sqrt(rest.from_users[0]))
    scaled = _by_resamples(rest, rng, draws, confidence)[0] / (error or 1.0)
    sides, limits = fieller_sides(each, scaled), (-np.inf, np.inf)
    if are_hits(found):
        sides, limits = np.maximum(sides, few_hits_sides(found, each, confidence)), (0.0, np.inf)
    rest = rest._replace(value=np.array([value]))
    return _bounded(rest, sides[None], found.n, confidence, limits)


def exact_share(successes: int, n: int, *, confidence: float = DEFAULT_CONFIDENCE) -> Interval:
    """A share with Clopper and Pearson's bounds (Biometrika 26, 1934).

    Args:
        successes: trials that succeeded, ``0 <= successes <= n``.
        n: trials.
        confidence: coverage aimed at, between 0 and 1.

    Raises:
        ValueError: ``successes`` is outside ``0..n``.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be between 0 and n = {n}, got {successes}")
    if n < 2:
        return Interval(successes / n if n else np.nan, np.nan, np.nan, n)
    counts = np.array([float(successes)]), np.array([float(n)])
    low, high = clopper_pearson(*counts, confidence)[0].tolist()
    return Interval(successes / n, low, high, n)


def _paired(treated: Groups, baseline: Groups, units: Groups | None) -> Panel | None:
    shapes = [np.shape(t) for t in treated], [np.shape(b) for b in baseline]
    if shapes[0] != shapes[1]:
        raise ValueError(f"paired values need the same seeds and users, got {shapes}")
    return panel([treated, baseline], units)


def _by_resamples(whole: Spread, rng: np.random.Generator, draws: int, confidence: float) -> Sides:
    counts = drawn_counts(whole.users.shape[1], draws, rng)
    return studentised(whole.users, counts, draws, confidence)


def _bounded(
    whole: Spread,
    sides: Sides,
    n: int,
    confidence: float,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """Put the seeds' part to the bounds over users."""
    value = float(whole.value[0])
    if whole.users.shape[1] < 2 or np.isnan(sides).any():
        return Interval(value, np.nan, np.nan, n)
    below, above = np.hypot(sides[0], seeds_add(whole, confidence)[0]).tolist()
    return Interval(value, max(limits[0], value - below), min(limits[1], value + above), n)


def _unseen(found: Panel, confidence: float) -> float:
    """What users could differ by although none of these does; 0 if one does, or values are fine."""
    values = found.sums[:, found.counts > 0]
    coarse = ((values >= 0) & (values <= 1)).all() and np.isin(values, (0.0, 1.0)).mean() >= 0.5
    if steps_of(found).any() or not coarse:
        return 0.0
    return exact_share(0, found.counts.shape[1], confidence=confidence).high
