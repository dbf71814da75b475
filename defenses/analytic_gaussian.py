"""The exact privacy curve of the Gaussian mechanism; registers nothing.

Balle and Wang, "Improving the Gaussian mechanism for differential privacy: analytical calibration
and optimal denoising", ICML 2018, arXiv:1805.06530, theorem 8. Everything depends on μ = Δ/σ alone;
k releases of fresh noise compose to exactly μ√k (Dong, Roth and Su, arXiv:1905.02383, corollary 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.special import log_ndtr, ndtr


def delta_of(epsilon: float, mu: float) -> float:
    """Return δ(ε) = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ)."""
    # The product is a probability; where ε is enormous, rounding would take its logarithm above 0.
    second = min(0.0, epsilon + float(log_ndtr(-mu / 2 - epsilon / mu)))
    return float(ndtr(mu / 2 - epsilon / mu)) - math.exp(second)


def epsilon_of(delta: float, mu: float) -> float:
    """Return the smallest ε ≥ 0 with δ(ε) ≤ ``delta``."""
    if delta_of(0.0, mu) <= delta:
        return 0.0
    return _first_at_most(delta, lambda epsilon: delta_of(epsilon, mu))


def mu_of(epsilon: float, delta: float) -> float:
    """Return the largest μ that satisfies (ε, δ); the inverse of :func:`epsilon_of` in μ."""
    return 1 / _first_at_most(delta, lambda sigma: delta_of(epsilon, 1 / sigma))


def _first_at_most(delta: float, curve: Callable[[float], float]) -> float:
    """Return the point of (0, ∞) from which a decreasing curve is at most ``delta``, from above."""
    low, high = 0.0, 1.0
    while curve(high) > delta:
        low, high = high, high * 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if curve(middle) > delta else (low, middle)
    return high
