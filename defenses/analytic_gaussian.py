"""The exact privacy curve of the Gaussian mechanism; registers nothing.

Balle and Wang, "Improving the Gaussian mechanism for differential privacy: analytical calibration
and optimal denoising", ICML 2018, arXiv:1805.06530, theorem 8. Everything depends on μ = Δ/σ alone;
k releases of fresh noise compose to exactly μ√k (Dong, Roth and Su, arXiv:1905.02383, corollary 2).
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr


def delta_of(epsilon: float, mu: float) -> float:
    """Return δ(ε) = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ)."""
    second = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
    return float(ndtr(mu / 2 - epsilon / mu)) - math.exp(second)


def epsilon_of(delta: float, mu: float) -> float:
    """Return the smallest ε ≥ 0 with δ(ε) ≤ ``delta``."""
    if delta_of(0.0, mu) <= delta:
        return 0.0
    high = 1.0
    while delta_of(high, mu) > delta:
        high *= 2
    return float(brentq(lambda e: delta_of(e, mu) - delta, 0.0, high, xtol=1e-12, rtol=1e-12))


def mu_of(epsilon: float, delta: float) -> float:
    """Return the largest μ that satisfies (ε, δ); the inverse of :func:`epsilon_of` in μ."""
    low, high = -20.0, 0.0
    while delta_of(epsilon, math.exp(high)) < delta:
        high += 1.0
    root = brentq(lambda x: delta_of(epsilon, math.exp(x)) - delta, low, high, xtol=1e-12)
    return math.exp(float(root))
