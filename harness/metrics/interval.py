"""Intervals for every number in a report: over users, over seeds, and for paired differences.

All functions drop entries that are NaN (a user for whom the metric does not exist) and say in
``n`` how many were left. Fewer than two measured values give NaN bounds, never a zero width.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

DEFAULT_DRAWS = 2000
DEFAULT_CONFIDENCE = 0.95
# Bootstrap indices are drawn in blocks of about this many, which bounds memory at some 64 MB.
_BLOCK = 4_000_000


class Interval(NamedTuple):
    """An estimate with its uncertainty.

    Attributes:
        value: the estimate; NaN where nothing was measured.
        low: lower bound; NaN with fewer than two measured values.
        high: upper bound; NaN with fewer than two measured values.
        n: measured values behind the estimate (users, or pairs of seed and user).
    """

    value: float
    low: float
    high: float
    n: int


def bootstrap_mean(
    values: Shaped[np.ndarray, " user"],
    rng: np.random.Generator,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
    draws: int = DEFAULT_DRAWS,
) -> Interval:
    """Mean over users with a percentile bootstrap interval (Efron 1979).

    Args:
        values: one number per user; NaN entries are dropped.
        rng: the stream the resamples are drawn from.
        confidence: coverage aimed at, between 0 and 1.
        draws: bootstrap resamples.
    """
    return over_seeds([values], rng, confidence=confidence, draws=draws)


def over_seeds(
    groups: Sequence[Shaped[np.ndarray, " _user"]],
    rng: np.random.Generator,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
    draws: int = DEFAULT_DRAWS,
) -> Interval:
    """Mean of the seeds' means; seeds are resampled first, then users within each seed drawn.

    With one seed this is the plain bootstrap over users. With S seeds the spread between seeds is
    underestimated by a factor of about ``sqrt((S - 1) / S)``, as in any bootstrap of S things.

    Args:
        groups: one array per seed, one number per user; NaN entries are dropped.
        rng: the stream the resamples are drawn from.
        confidence: coverage aimed at, between 0 and 1.
        draws: bootstrap resamples.
    """
    columns = [_measured(np.asarray(g, dtype=np.float64)[:, None]) for g in groups]
    columns = [c for c in columns if len(c)]
    n = sum(len(c) for c in columns)
    if not columns:
        return Interval(np.nan, np.nan, np.nan, 0)
    value = float(np.mean([c.mean() for c in columns]))
    if n < 2:
        return Interval(value, np.nan, np.nan, n)
    means = _hierarchical_means(columns, draws, rng)[:, 0]
    low, high = _percentiles(means, confidence)
    return Interval(value, low, high, n)


def proportion_over_seeds(
    groups: Sequence[Shaped[np.ndarray, " _user"]],
    rng: np.random.Generator,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
    draws: int = DEFAULT_DRAWS,
) -> Interval:
    """As :func:`over_seeds`, but values of 0 and 1 never give an interval of zero width.

    A bootstrap of 0 hits in 100 users claims [0, 0]. Where every value is 0 or 1, the interval is
    therefore widened to contain Wilson's interval of the pooled proportion. Other values pass
    through unchanged.
    """
    found = over_seeds(groups, rng, confidence=confidence, draws=draws)
    pooled = _measured(np.concatenate([np.asarray(g, dtype=np.float64) for g in groups])[:, None])
    if found.n < 2 or not np.isin(pooled, (0.0, 1.0)).all():
        return found
    wilson = wilson_interval(int(pooled.sum()), found.n, confidence=confidence)
    return found._replace(low=min(found.low, wilson.low), high=max(found.high, wilson.high))


def paired_difference(
    treated: Sequence[Shaped[np.ndarray, " _user"]],
    baseline: Sequence[Shaped[np.ndarray, " _user"]],
    rng: np.random.Generator,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
    draws: int = DEFAULT_DRAWS,
) -> Interval:
    """Mean of ``treated - baseline`` over the same seeds and the same users.

    Hits and misses (0 and 1) that agree for every user give no interval of zero width: it reaches
    to Wilson's bound on the share of users who could differ unseen.

    Args:
        treated: one array per seed; entry u belongs to the same user as entry u of ``baseline``.
        baseline: the same seeds in the same order, the same users in the same order.
        rng: the stream the resamples are drawn from.
        confidence: coverage aimed at, between 0 and 1.
        draws: bootstrap resamples.

    Raises:
        ValueError: the two sides do not have the same seeds and users.
    """
    pairs = _pairs(treated, baseline)
    differences = [pair[:, 0] - pair[:, 1] for pair in pairs]
    found = over_seeds(differences, rng, confidence=confidence, draws=draws)
    unseen = _unseen(pairs, confidence)
    return found._replace(low=found.low - unseen, high=found.high + unseen)


def paired_ratio(
    treated: Sequence[Shaped[np.ndarray, " _user"]],
    baseline: Sequence[Shaped[np.ndarray, " _user"]],
    rng: np.random.Generator,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
    draws: int = DEFAULT_DRAWS,
) -> Interval:
    """Mean of ``treated`` over mean of ``baseline``, both resampled together.

    Args and errors are those of :func:`paired_difference`. A baseline of mean 0 has no ratio: the
    value is NaN. Where some resample has a baseline of 0, the bounds are NaN.
    """
    pairs = _pairs(treated, baseline)
    n = sum(len(p) for p in pairs)
    if not pairs:
        return Interval(np.nan, np.nan, np.nan, 0)
    value = _ratio(np.mean([p.mean(axis=0) for p in pairs], axis=0)[None])[0]
    if n < 2 or np.isnan(value):
        return Interval(float(value), np.nan, np.nan, n)
    low, high = _percentiles(_ratio(_hierarchical_means(pairs, draws, rng)), confidence)
    unseen = _unseen(pairs, confidence) / float(np.mean([p[:, 1].mean() for p in pairs]))
    return Interval(float(value), low - unseen, high + unseen, n)


def wilson_interval(successes: int, n: int, *, confidence: float = DEFAULT_CONFIDENCE) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927), which does not collapse at 0 and 1.

    Args:
        successes: trials that succeeded, ``0 <= successes <= n``.
        n: trials.
        confidence: coverage aimed at, between 0 and 1.

    Raises:
        ValueError: ``successes`` is outside ``0..n``.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be between 0 and n = {n}, got {successes}")
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    share = successes / n
    if n < 2:
        return Interval(share, np.nan, np.nan, n)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)), n)


def _pairs(
    treated: Sequence[np.ndarray], baseline: Sequence[np.ndarray]
) -> list[Float[np.ndarray, "_user 2"]]:
    """Return each seed's values side by side, users without both and seeds without users left out.

    Raises:
        ValueError: the two sides do not have the same seeds and users.
    """
    shapes = [np.shape(t) for t in treated], [np.shape(b) for b in baseline]
    if shapes[0] != shapes[1]:
        raise ValueError(f"paired values need the same seeds and users, got {shapes}")
    sides = zip(treated, baseline, strict=True)
    pairs = [_measured(np.stack([t, b], axis=1).astype(np.float64)) for t, b in sides]
    return [pair for pair in pairs if len(pair)]


def _unseen(pairs: Sequence[Float[np.ndarray, "_user 2"]], confidence: float) -> float:
    """Share of users who could differ although none of these does; 0 if one does, or no hits."""
    both = np.concatenate([np.empty((0, 2)), *pairs])
    hits = np.isin(both, (0.0, 1.0)).all()
    if len(both) < 2 or not hits or (both[:, 0] != both[:, 1]).any():
        return 0.0
    return wilson_interval(0, len(both), confidence=confidence).high


def _measured(values: Float[np.ndarray, "user column"]) -> Float[np.ndarray, "left column"]:
    return values[~np.isnan(values).any(axis=1)]


def _ratio(means: Float[np.ndarray, "draw 2"]) -> Float[np.ndarray, " draw"]:
    below = means[:, 1]
    return np.divide(means[:, 0], below, out=np.full_like(below, np.nan), where=below != 0)


def _percentiles(draws: Float[np.ndarray, " draw"], confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _hierarchical_means(
    groups: Sequence[Float[np.ndarray, "_user column"]], draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw column"]:
    """Mean over S seeds drawn with replacement, each by users drawn with replacement."""
    chosen = rng.integers(len(groups), size=(draws, len(groups)))
    means = np.empty((*chosen.shape, groups[0].shape[1]))
    for index, group in enumerate(groups):
        slots = chosen == index
        means[slots] = _bootstrap_means(group, int(slots.sum()), rng)
    return means.mean(axis=1)


def _bootstrap_means(
    values: Float[np.ndarray, "user column"], draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw column"]:
    """Means of ``draws`` resamples of the users; exact and cheap where few values are distinct."""
    n = len(values)
    distinct, counts = np.unique(values, axis=0, return_counts=True)
    if 4 * len(distinct) <= n:
        return rng.multinomial(n, counts / n, size=draws) @ distinct / n
    block = max(1, _BLOCK // n)
    parts = [
        values[rng.integers(n, size=(min(block, draws - start), n))].mean(axis=1)
        for start in range(0, draws, block)
    ]
    return np.concatenate(parts) if parts else np.empty((0, values.shape[1]))
