"""Bounds of a ratio of two means over the same users."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from harness.metrics.crossed import Panel, Spread
from harness.metrics.shares import (
    FEW_USERS,
    difference_sides,
    gained_and_lost,
    hits,
    share_sides,
    steps_of,
)

# A denominator that may be less than this share of its value bounds no ratio.
_LEAST_SHARE = 0.01


def fieller_sides(each: Spread, scaled: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2"]:
    """Half widths of a ratio; NaN where the denominator may be 0.

    Args:
        each: numerator and denominator.
        scaled: half widths of the numerator less ratio times denominator, in standard errors.
    """
    above, below = each.value
    size = each.users.shape[1]
    covariance = each.users @ each.users.T / (size * max(1, size - 1))
    sides = []
    for quantile, sign in zip(scaled, (-1.0, 1.0), strict=True):
        square = below**2 - quantile**2 * covariance[1, 1]
        if square < _LEAST_SHARE * below**2:
            return np.full(2, np.nan)
        middle = above * below - quantile**2 * covariance[0, 1]
        rest = above**2 - quantile**2 * covariance[0, 0]
        root = (middle + sign * np.sqrt(max(0.0, middle**2 - square * rest))) / square
        sides.append(max(0.0, sign * (root - above / below)))
    return np.array(sides)


def few_hits_sides(found: Panel, each: Spread, confidence: float) -> Float[np.ndarray, "2"]:
    """Half widths of a ratio from exact shares, where few users hit, miss or differ; else 0."""
    counts = np.broadcast_to(found.counts, found.sums.shape)
    both = hits(found.sums, counts, each)
    below, sides = float(each.value[1]), np.zeros(2)
    if (np.minimum(both.hitting, both.missing) < FEW_USERS).any():
        widths = share_sides(both, confidence)
        low, high = each.value - widths[:, 0], each.value + widths[:, 1]
        sides = np.maximum(sides, _ratio_of_shares(each.value, low, high))
    differing = steps_of(found).any(axis=1).sum()
    if differing < FEW_USERS:
        sides = np.maximum(sides, difference_sides(*gained_and_lost(found), confidence)[0] / below)
    return sides


def _ratio_of_shares(
    value: Float[np.ndarray, "2"], low: Float[np.ndarray, "2"], high: Float[np.ndarray, "2"]
) -> Float[np.ndarray, "2"]:
    """Half widths of a ratio of two shares taken as independent (Donner and Zou 2012, MOVER-R)."""
    (top, bottom), product = value, value[0] * value[1]
    if low[1] < _LEAST_SHARE * bottom:
        return np.full(2, np.nan)
    left, right = low[0] * (2 * top - low[0]), high[1] * (2 * bottom - high[1])
    lower = (product - np.sqrt(max(0.0, product**2 - left * right))) / right if right > 0 else 0.0
    left, right = high[0] * (2 * top - high[0]), low[1] * (2 * bottom - low[1])
    upper = (product + np.sqrt(max(0.0, product**2 - left * right))) / right
    return np.maximum(np.array([top / bottom - lower, upper - top / bottom]), 0.0)
