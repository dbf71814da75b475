"""The studentised bootstrap over users: half widths that hold for few and for skewed values.

A percentile interval of 10 exponential values covers 0.87 for a nominal 0.95, Student's t 0.91, the
studentised bootstrap ("bootstrap-t": Efron 1982; Hall, Annals of Statistics 16, 1988) 0.94: every
resample is divided by its own standard error, so the skewness of the values enters. For many values
it equals the percentile interval.

Two rules of this project [ours]: a resample's standard error counts as at least a quarter of that
of the sample, as a resample of equal values would have none; and with fewer than 8 users the
interval also contains Student's, as so few values have too few resamples.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from harness.metrics.crossed import t_quantile

# Counts or indices are drawn in blocks of about this many, which bounds memory at some 64 MB.
_BLOCK = 4_000_000
_LEAST_ERROR = 0.25
_FEW = 8

Sides = Float[np.ndarray, "row 2"]
"""Half widths below and above, neither negative."""


def studentised(
    users: Float[np.ndarray, "row user"],
    counts: Iterable[Float[np.ndarray, "draw user"]],
    draws: int,
    confidence: float,
) -> Sides:
    """Half widths of the mean over users, for rows that share their resamples.

    Args:
        users: one number per user, less the row's mean.
        counts: how often each user is in each resample, in blocks of resamples.
        draws: resamples in all blocks; none gives Student's interval.
        confidence: coverage aimed at, between 0 and 1.
    """
    rows, size = users.shape
    error = np.sqrt(np.einsum("ru,ru->r", users, users) / (size * max(1, size - 1)))
    by_t = t_quantile(size - 1, confidence) * error
    if not draws:
        return np.stack([by_t, by_t], axis=1)
    squares, ratios, start = users * users, np.empty((rows, draws), users.dtype), 0
    least = np.where(error > 0, _LEAST_ERROR * error, 1.0).astype(users.dtype)[:, None]
    for block in counts:
        means, stop = users @ block.T / size, start + len(block)
        variance = squares @ block.T / size - means * means
        spread = np.sqrt(np.maximum(variance, 0.0) / max(1, size - 1))
        ratios[:, start:stop] = means / np.maximum(spread, least)
        start = stop
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail], axis=1, overwrite_input=True)
    sides = np.stack([np.maximum(high, 0.0) * error, np.maximum(-low, 0.0) * error], axis=1)
    return np.maximum(sides, by_t[:, None]) if size < _FEW else sides


def drawn_counts(
    size: int, draws: int, rng: np.random.Generator
) -> Iterable[Float[np.ndarray, "draw user"]]:
    """How often each of ``size`` users is in each resample, in blocks of resamples."""
    block = max(1, _BLOCK // size)
    for start in range(0, draws, block):
        yield counts_of(size, min(block, draws - start), rng).astype(np.float64)


def counts_of(size: int, draws: int, rng: np.random.Generator) -> Float[np.ndarray, "draw user"]:
    """One block of :func:`drawn_counts`, in single precision."""
    kind = np.uint16 if size < 2**16 else np.uint32
    drawn = rng.integers(size, size=(draws, size), dtype=kind)
    places = drawn + np.arange(0, draws * size, size)[:, None]
    counts = np.bincount(places.ravel(), minlength=draws * size)
    return counts.reshape(draws, size).astype(np.float32)
