"""What projections on a canary's direction say of its coin: a mixture fitted to all canaries.

Registers nothing. Expectation maximisation for two Gaussians of one variance and known weights;
nothing but the projections is used, so that noise of another strength than is claimed is noticed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

STEPS = 50
"""Steps of expectation maximisation."""
SHARPER = 2.0
"""How much sharper what is left must be than what was seen, to be read in its place."""
CLEAR = 3.0
"""Sharpness below which a mixture may have been fitted to mere noise."""


class Reading(NamedTuple):
    """Projections turned into evidence.

    Attributes:
        ratios: log-likelihood ratio of heads to tails, one a canary.
        sums: summed projections in standard deviations of the noise.
        sharpness: fitted signal over fitted noise.
    """

    ratios: Float[Tensor, " canary"]
    sums: Float[Tensor, " canary"]
    sharpness: float


def covered(seen: Float[Tensor, "canary round"], releases: int) -> Bool[Tensor, "canary round"]:
    """Return each canary's first ``releases`` rounds in which something was seen of it."""
    there = seen.isfinite()
    return there & (there.cumsum(1) <= releases)


def repeated(seen: Float[Tensor, "canary round"]) -> float:
    """Return the share of the variance that a canary's rounds have in common, at most 1.

    The intraclass correlation of a one-way analysis of variance: about 0 for noise drawn anew in
    each round, 1 for one noise in all of them; 0 with fewer than two rounds.
    """
    rounds = seen.isfinite().all(0)
    values = seen[:, rounds]
    if min(values.shape) < 2:
        return 0.0
    within = values.var(1, correction=1).mean()
    between = values.mean(1).var(correction=1) - within / values.shape[1]
    return float(between / (between + within).clamp_min(1e-300))


def presence_ratios(seen: Float[Tensor, "canary round"], rate: float) -> Reading:
    """Return the evidence of each canary's presence.

    A present canary is in a round with probability ``rate``, unseen by whom; then its projection
    is N(a, s²), otherwise N(0, s²). Half of the canaries being present, a and s are fitted to all
    projections as to a mixture with the known weight rate/2.

    Args:
        seen: projections, NaN for a round without an aggregate.
        rate: probability of being in a cohort.
    """
    there = seen.isfinite()
    values, weight = seen[there], rate / 2
    mean, variance = values.mean(), values.var(correction=0).clamp_min(1e-300)
    signal = (mean / weight).clamp_min(0.1 * variance.sqrt())
    noise = (variance - weight * (1 - weight) * signal**2).clamp_min(1e-4 * variance)
    for _ in range(STEPS):
        odds = math.log(weight) - math.log1p(-weight) + evidence(values, signal, noise)
        drawn = odds.sigmoid()
        signal = ((drawn * values).sum() / drawn.sum().clamp_min(1e-9)).clamp_min(
            0.1 * noise.sqrt()
        )
        noise = (values.square() - drawn * signal * (2 * values - signal)).mean()
        noise = noise.clamp_min(1e-8 * variance)
    inside = evidence(seen.nan_to_num(), signal, noise) + math.log(rate)
    absent = torch.full_like(inside, math.log1p(-rate) if rate < 1 else -math.inf)
    ratios = torch.logaddexp(inside, absent).masked_fill(~there, 0)
    sharpness = float(signal / noise.sqrt())
    return Reading(ratios.sum(1), seen.nan_to_num().sum(1) / noise.sqrt(), sharpness)


def opposite_ratios(seen: Float[Tensor, "canary round"], rate: float) -> Reading:
    """Return the evidence of each canary's update over its opposite.

    Projections are N(±a, s²) in the rounds in which the canary was seen; ``rate`` plays no part.
    """
    del rate
    values = seen[seen.isfinite()]
    scale = values.square().mean().clamp_min(1e-300)
    signal, noise = (0.5 * scale).sqrt(), 0.5 * scale
    for _ in range(STEPS):
        signal = (values * (values * signal / noise).tanh()).mean().clamp_min(1e-3 * scale.sqrt())
        noise = (scale - signal**2).clamp_min(1e-8 * scale)
    total = seen.nan_to_num().sum(1)
    return Reading(2 * signal / noise * total, total / noise.sqrt(), float(signal / noise.sqrt()))


def evidence(values: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """Return ln N(value; signal, noise)/N(value; 0, noise), ``noise`` being a variance."""
    return signal * (2 * values - signal) / (2 * noise)


def sharpest(readings: list[Reading]) -> Reading:
    """Return the first reading, or the sharpest where that is clear and much sharper."""
    best = max(readings, key=lambda reading: reading.sharpness)
    clear = best.sharpness > max(CLEAR, SHARPER * readings[0].sharpness)
    return best if clear else readings[0]
