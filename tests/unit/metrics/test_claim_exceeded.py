"""The rule that calls a claimed ε suspicious: its false alarms and its power, by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from harness.metrics.one_run import exceeds_claim, gaussian_distance, separation

DELTA = 1e-5
TRAININGS = 2000


def _alarms(mu: float, epsilon: float, canaries: int, seeds: int) -> float:
    """Share of audits that call the claim suspicious when the mechanism is μ-Gaussian-DP."""
    rng = np.random.default_rng([int(epsilon * 100), canaries, seeds])
    alarms = 0
    for _ in range(TRAININGS // seeds):
        found = []
        for _ in range(seeds):
            heads = rng.random(canaries) < 0.5
            scores = 7.0 * (rng.normal(size=canaries) + mu * heads) + 3.0
            found.append((separation(scores[heads], scores[~heads]), canaries))
        alarms += exceeds_claim(found, epsilon, DELTA)
    return alarms / (TRAININGS // seeds)


@pytest.mark.parametrize(("canaries", "seeds"), [(20, 1), (300, 1), (300, 3)])
@pytest.mark.parametrize("epsilon", [0.1, 0.3, 1.0, 3.0, 8.0])
def test_right_claims_are_suspected_in_one_case_of_twenty(epsilon, canaries, seeds):
    share = _alarms(gaussian_distance(epsilon, DELTA), epsilon, canaries, seeds)
    # Three standard errors of a share of 0.05.
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / (TRAININGS // seeds))


@pytest.mark.parametrize(("epsilon", "factor", "least"), [
    (0.5, 100.0, 0.95), (1.0, 100.0, 0.99), (8.0, 100.0, 0.99),  # the noise is off, nearly
    (3.0, 2.0, 0.9), (8.0, 2.0, 0.99),  # half of the standard deviation
])  # fmt: skip
def test_planted_bugs_are_suspected(epsilon, factor, least):
    assert _alarms(factor * gaussian_distance(epsilon, DELTA), epsilon, 300, 3) >= least


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 8.0, 50.0])
def test_the_distance_is_where_the_trade_off_reaches_delta(epsilon):
    mu = gaussian_distance(epsilon, DELTA)
    spent = norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
    assert spent == pytest.approx(DELTA, rel=1e-3)


def test_what_was_not_measured_makes_nothing_suspicious():
    assert not exceeds_claim([], 1.0, DELTA)
    assert not exceeds_claim([(math.nan, 300)], 1.0, DELTA)
    assert not exceeds_claim([(9.0, 300)], math.nan, DELTA)
    assert not exceeds_claim([(9.0, 300)], math.inf, DELTA)
    assert math.isnan(separation(np.ones(1), np.ones(5)))
    assert math.isnan(separation(np.ones(4), np.ones(5)))
    assert exceeds_claim([(9.0, 300), (math.nan, 300)], 1.0, DELTA)
