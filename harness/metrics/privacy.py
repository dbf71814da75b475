"""What an attack that plays a membership game proves about a claimed privacy budget.

The game: a mechanism runs many times on each of two neighbouring inputs, and the attacker gives
every output a score that should be larger for the first. A mechanism that is (ε, δ)-private bounds
how well any score can tell them apart, so an observed separation is a lower bound on ε (Jagielski,
Ullman and Oprea, NeurIPS 2020, arXiv:2006.07709, section 4; Clopper-Pearson intervals as there).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import beta, norm


def audited_epsilon(
    with_record: Float[np.ndarray, " trial"],
    without_record: Float[np.ndarray, " trial"],
    delta: float,
    *,
    confidence: float = 0.999,
) -> float:
    """Return the smallest ε that is compatible with how well the scores tell two inputs apart.

    The threshold is chosen on the first half of the trials and judged on the second, so that the
    bound holds with the stated confidence although the best threshold was looked for.

    Args:
        with_record: scores of independent runs on the first input.
        without_record: scores of independent runs on its neighbour.
        delta: claimed δ.
        confidence: probability that the bound is not above the true ε.

    Returns:
        A lower bound on ε, 0 where nothing is proved; NaN with fewer than two trials on a side.
    """
    if min(len(with_record), len(without_record)) < 2:
        return float("nan")
    inside, outside = np.asarray(with_record), np.asarray(without_record)
    thresholds = np.unique(np.concatenate([inside[::2], outside[::2]]))
    proved = _bounds(inside[::2], outside[::2], thresholds, delta, confidence)
    best = thresholds[[int(np.argmax(proved))]]
    return float(_bounds(inside[1::2], outside[1::2], best, delta, confidence)[0])


def _bounds(
    inside: Float[np.ndarray, " _trial"],
    outside: Float[np.ndarray, " _trial"],
    thresholds: Float[np.ndarray, " threshold"],
    delta: float,
    confidence: float,
) -> Float[np.ndarray, " threshold"]:
    """Return max(0, ln((TPR − δ)/FPR), ln((TNR − δ)/FNR)) at the pessimistic ends of both rates."""
    # Two rates are bounded at once, so each gets half of the error.
    risk, n, m = (1 - confidence) / 2, len(inside), len(outside)
    hits = n - np.searchsorted(np.sort(inside), thresholds)
    alarms = m - np.searchsorted(np.sort(outside), thresholds)
    found = np.zeros(len(thresholds))
    for least, most in (
        (_least(hits, n, risk), _most(alarms, m, risk)),
        (_least(m - alarms, m, risk), _most(n - hits, n, risk)),
    ):
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.fmax(found, np.log((least - delta) / most))
    return found


def _least(successes: Int[np.ndarray, " threshold"], n: int, risk: float) -> np.ndarray:
    return np.where(successes > 0, beta.ppf(risk, np.maximum(successes, 1), n - successes + 1), 0.0)


def _most(successes: Int[np.ndarray, " threshold"], n: int, risk: float) -> np.ndarray:
    free = np.maximum(n - successes, 1)
    return np.where(successes < n, beta.ppf(1 - risk, successes + 1, free), 1.0)


def gaussian_accuracy(distance: np.ndarray | float, std: float) -> np.ndarray:
    """Return Φ(distance/(2·std)): best accuracy at telling two points apart after Gaussian noise.

    Both points are equally likely; no attack on the noisy release, nor on anything made of it, is
    right more often.
    """
    return np.asarray(norm.cdf(np.asarray(distance) / (2 * std)))


def reconstruction_bound(prior: float, mu: float) -> float:
    """Return Φ(Φ⁻¹(prior) + μ): largest probability to name a secret after a μ-Gaussian-DP release.

    Args:
        prior: probability of the most likely secret without the release.
        mu: sensitivity over noise standard deviation; k releases count √k times.
    """
    return float(norm.cdf(norm.ppf(prior) + mu))
