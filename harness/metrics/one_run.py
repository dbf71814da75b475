"""A lower bound on ε from one training with many canaries, and the Gaussian estimate beside it.

The game: m canaries, each with a fair coin; the auditor guesses the coins of those that it is
surest of and abstains from the rest. Mahloujifar, Melis and Chaudhuri, "Auditing f-differential
privacy in one run", ICML 2025, arXiv:2410.22235, algorithm 3 (with abstentions) bounds how many
guesses can be right under a trade-off curve f; with the curve of (ε, δ) itself the bound holds for
every (ε, δ)-private mechanism. At δ = 0 it agrees with theorem 5.2 of Steinke, Nasr and Jagielski,
NeurIPS 2023, arXiv:2305.08846; at larger δ it is tighter than theirs.

Any number of seeds can be pooled: coins of different trainings are coins of one larger mechanism
that is private to the same degree, because each of them moves its own training alone.

Such bounds are loose: m canaries, all guessed right, prove no more than :func:`provable_epsilon`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import norm
from scipy.stats import t as student_t

SHARES = (1.0, 0.5, 0.25, 0.125)
"""Shares of the canaries that are guessed; the best counts, the error is split among them."""
LARGEST = 100.0
"""No larger ε is looked for."""


def margins(
    scores: Float[np.ndarray, " canary"], heads: Bool[np.ndarray, " canary"]
) -> Float[np.ndarray, " canary"]:
    """Return how surely and how rightly each coin is guessed, −1 to 1.

    The size is the canary's place by surety, 1 for the surest and 1/m for the least sure; the sign
    is negative where the guess, heads for a positive score, is wrong.

    Args:
        scores: log-likelihood ratio of heads to tails.
        heads: the coins.
    """
    size = len(scores)
    place = np.empty(size)
    # Stable, so that ties are broken by the canary's number and never by its coin.
    place[np.argsort(-np.abs(scores), kind="stable")] = np.arange(size)
    return np.where((scores > 0) == heads, 1.0, -1.0) * (size - place) / max(size, 1)


def one_run_epsilon(
    games: Sequence[Float[np.ndarray, " _canary"]], delta: float, *, confidence: float = 0.95
) -> float:
    """Return the ε that the guesses prove the mechanism to exceed or equal.

    Args:
        games: margins of each training's canaries.
        delta: at which ε is bounded.
        confidence: probability that the bound is not above the true ε.

    Returns:
        A lower bound on ε, 0 where nothing is proved; NaN without canaries.
    """
    total = sum(len(game) for game in games)
    if not total:
        return math.nan
    risk = (1 - confidence) / len(SHARES)
    return max(_proved(total, *_guessed(games, share), delta, risk) for share in SHARES)


def provable_epsilon(num_canaries: int, delta: float, *, confidence: float = 0.95) -> float:
    """Return what the bound would be if all guesses were right."""
    return one_run_epsilon([np.ones(num_canaries)], delta, confidence=confidence)


def _guessed(games: Sequence[np.ndarray], share: float) -> tuple[int, int]:
    """Return the number of right guesses and of guesses, over all trainings."""
    right, guesses = 0, 0
    for game in games:
        size = math.ceil(share * len(game))
        surest = np.argsort(-np.abs(game), kind="stable")[:size]
        right, guesses = right + int((game[surest] > 0).sum()), guesses + size
    return right, guesses


def _proved(total: int, right: int, guesses: int, delta: float, risk: float) -> float:
    """Largest ε that is rejected; what rejects ε rejects every smaller one, so bisection finds it.

    The end that is returned was rejected itself, so the bound errs downwards.
    """
    if not rejects(0.0, delta, total, right, guesses, risk):
        return 0.0
    low, high = 0.0, 1.0
    while rejects(high, delta, total, right, guesses, risk):
        low, high = high, 2 * high
        if low >= LARGEST:
            return LARGEST
    while high - low > 1e-3:
        middle = (low + high) / 2
        if rejects(middle, delta, total, right, guesses, risk):
            low = middle
        else:
            high = middle
    return low


def rejects(
    epsilon: float, delta: float, total: int, right: int, guesses: int, risk: float
) -> bool:
    """Whether so many right guesses contradict (ε, δ)-privacy (algorithm 3 with its cap).

    Args:
        epsilon: claimed.
        delta: claimed.
        total: canaries m.
        right: right guesses.
        guesses: guesses made, a number fixed beforehand.
        risk: probability of contradicting a true claim.
    """
    hits, misses = risk * right / total, risk * (guesses - right) / total
    for place in range(right - 1, -1, -1):
        least = max(misses, _least(hits, epsilon, delta))
        if least == misses:
            break  # nothing can change any more
        hits = min(1.0, hits + place / (guesses - place) * (least - misses))
        misses = least
    return hits + misses > guesses / total


def _least(probability: float, epsilon: float, delta: float) -> float:
    """Least probability under a neighbour of an event that has this one here."""
    below = (probability - delta) * math.exp(-epsilon)
    return max(0.0, below, 1 - delta - math.exp(epsilon) * (1 - probability))


def gaussian_estimate(
    heads: Float[np.ndarray, " canary"], tails: Float[np.ndarray, " canary"], delta: float
) -> float:
    """Return ε of two Gaussians fitted to the scores of both coins: an estimate, not a bound.

    Andrew et al., ICLR 2024, arXiv:2302.03098, section 3: exact for the Gaussian mechanism with
    many canaries; nothing is guaranteed for others.

    Args:
        heads: summed projections of canaries whose coin showed heads.
        tails: of the others.
        delta: at which ε is estimated.

    Returns:
        ε, at most ``LARGEST`` × 10⁴; NaN with fewer than two canaries on a side or without spread.
    """
    if min(len(heads), len(tails)) < 2:
        return math.nan
    first, second = ((float(x.mean()), float(x.std(ddof=1))) for x in (heads, tails))
    if not min(first[1], second[1]) > 0:
        return math.nan

    def exceeded(epsilon: float) -> bool:
        return max(_gap(first, second, epsilon), _gap(second, first, epsilon)) > delta

    low, high = 0.0, 1.0
    if not exceeded(low):
        return 0.0
    while exceeded(high) and high < 1e4 * LARGEST:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if exceeded(middle) else (low, middle)
    return low


def separation(heads: Float[np.ndarray, " canary"], tails: Float[np.ndarray, " canary"]) -> float:
    """Return how far apart the scores of both coins lie, in standard deviations.

    Student's t of two samples with one variance, over √m/2: its mean is μ of μ-Gaussian-DP for the
    Gaussian mechanism with as many heads as tails, and nearer to 0 with an unequal number.

    Args:
        heads: summed projections of canaries whose coin showed heads.
        tails: of the others.

    Returns:
        The distance; NaN with fewer than two canaries on a side or without spread.
    """
    n, m = len(heads), len(tails)
    if min(n, m) < 2:
        return math.nan
    squares = ((heads - heads.mean()) ** 2).sum() + ((tails - tails.mean()) ** 2).sum()
    spread = math.sqrt(float(squares) / (n + m - 2) * (1 / n + 1 / m))
    if not spread > 0:
        return math.nan
    return float(heads.mean() - tails.mean()) / spread * 2 / math.sqrt(n + m)


@lru_cache(maxsize=256)
def gaussian_distance(epsilon: float, delta: float) -> float:
    """Return the largest μ for which a μ-Gaussian-DP mechanism is (ε, δ)-private.

    Dong, Roth and Su, JRSS B 2022, arXiv:1905.02383, corollary 2.13 [paper].
    """

    def exceeded(mu: float) -> bool:
        tail = math.exp(epsilon + float(norm.logcdf(-epsilon / mu - mu / 2)))
        return float(norm.cdf(mu / 2 - epsilon / mu)) - tail > delta

    low, high = 0.0, 1.0
    while not exceeded(high):
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if exceeded(middle) else (middle, high)
    return low


def exceeds_claim(
    found: Sequence[tuple[float, int]], epsilon: float, delta: float, *, risk: float = 0.05
) -> bool:
    """Whether canaries lie farther apart than a right claim lets them in all but ``risk`` of cases.

    A one-sided test of the Gaussian mechanism: each training's :func:`separation` times √m/2 is
    noncentral t around μ√m/2 with variance 1 + μ²m/(8(m−2)) or less, and trainings are independent;
    their sum is held against Student's t. It tests what the estimate of ε only suggests, and is no
    proof: other mechanisms have other scores [ours].

    Args:
        found: separation and number of canaries of each training; NaN is left out.
        epsilon: claimed.
        delta: claimed.
        risk: probability of contradicting a right claim.
    """
    measured = [(distance, size) for distance, size in found if math.isfinite(distance)]
    degrees = sum(size - 2 for _, size in measured)
    if degrees < 2 or not 0 < delta < 1 or not 0 <= epsilon < math.inf:
        return False
    mu = gaussian_distance(epsilon, delta)
    excess = sum((distance - mu) * math.sqrt(size) / 2 for distance, size in measured)
    variance = sum(1 + mu**2 * size / (8 * max(size - 2, 1)) for _, size in measured)
    return excess > float(student_t.ppf(1 - risk, degrees)) * math.sqrt(variance)


def _gap(one: tuple[float, float], other: tuple[float, float], epsilon: float) -> float:
    """P(R) − e^ε Q(R) on the region R in which the density of P exceeds e^ε times that of Q."""
    (m1, s1), (m0, s0) = one, other
    # ln p/q − ε as a parabola a x² + b x + c.
    a = 0.5 * (1 / s0**2 - 1 / s1**2)
    b = m1 / s1**2 - m0 / s0**2
    c = 0.5 * (m0 / s0) ** 2 - 0.5 * (m1 / s1) ** 2 + math.log(s0 / s1) - epsilon
    return sum(
        _mass(one, left, right) - math.exp(epsilon + _log_mass(other, left, right))
        for left, right in _positive(a, b, c)
    )


def _positive(a: float, b: float, c: float) -> list[tuple[float, float]]:
    """Return the intervals on which a x² + b x + c is positive."""
    if abs(a) < 1e-12:
        if abs(b) < 1e-12:
            return [(-math.inf, math.inf)] if c > 0 else []
        return [(-c / b, math.inf)] if b > 0 else [(-math.inf, -c / b)]
    inner = b * b - 4 * a * c
    if inner <= 0:
        return [(-math.inf, math.inf)] if a > 0 else []
    left, right = sorted(((-b - math.sqrt(inner)) / (2 * a), (-b + math.sqrt(inner)) / (2 * a)))
    return [(-math.inf, left), (right, math.inf)] if a > 0 else [(left, right)]


def _mass(gaussian: tuple[float, float], left: float, right: float) -> float:
    return math.exp(_log_mass(gaussian, left, right))


def _log_mass(gaussian: tuple[float, float], left: float, right: float) -> float:
    """Return ln of the probability of an interval, in the tail in which it is small."""
    low, high = ((x - gaussian[0]) / gaussian[1] for x in (left, right))
    if low > 0:
        low, high = -high, -low
    top, bottom = float(norm.logcdf(high)), float(norm.logcdf(low))
    if top == -math.inf:
        return -math.inf
    return top + math.log1p(-math.exp(bottom - top)) if bottom < top else -math.inf
