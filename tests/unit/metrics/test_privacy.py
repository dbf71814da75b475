"""Audited ε against mechanisms whose ε is known, and closed forms against Monte Carlo."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from defenses.analytic_gaussian import epsilon_of
from harness.metrics.privacy import audited_epsilon, gaussian_accuracy, reconstruction_bound


def responses(epsilon: float, trials: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Randomised response: tells the truth with probability e^ε/(1 + e^ε)."""
    stream, honest = np.random.default_rng(seed), math.exp(epsilon) / (1 + math.exp(epsilon))
    truth = (stream.random((2, trials)) < honest).astype(float)
    return truth[0], 1 - truth[1]


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0])
def test_randomised_response_is_audited_from_below_and_tightly(epsilon: float) -> None:
    found = [audited_epsilon(*responses(epsilon, 20_000, seed), 0.0) for seed in range(20)]
    assert max(found) <= epsilon
    assert min(found) > 0.75 * epsilon


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
def test_the_gaussian_mechanism_is_never_audited_above_its_curve(mu: float) -> None:
    stream, delta = np.random.default_rng(1), 1e-5
    for _ in range(20):
        inside, outside = stream.normal(mu, 1, 2000), stream.normal(0, 1, 2000)
        assert audited_epsilon(inside, outside, delta) <= epsilon_of(delta, mu)


def test_what_is_proved_when_everything_or_nothing_is_told_apart() -> None:
    ones, zeros = np.ones(400), np.zeros(400)
    # 200 of 200 hits and no false alarm: Clopper-Pearson at half of 0.001 each, by hand.
    edge = 0.0005 ** (1 / 200)
    assert audited_epsilon(ones, zeros, 0.0) == pytest.approx(math.log(edge / (1 - edge)))
    assert audited_epsilon(ones, ones, 0.0) == 0.0
    assert audited_epsilon(zeros, ones, 0.0) < 1e-9 or audited_epsilon(zeros, ones, 0.0) == 0.0
    assert math.isnan(audited_epsilon(np.ones(1), zeros, 0.0))
    assert math.isnan(audited_epsilon(ones, np.ones(0), 0.0))


def test_two_points_are_told_apart_as_often_as_the_formula_says() -> None:
    stream, distance, std = np.random.default_rng(2), 1.3, 0.9
    right = (stream.normal(0, std, 40_000) < distance / 2).mean()
    assert gaussian_accuracy(distance, std) == pytest.approx(right, abs=0.01)
    several = gaussian_accuracy(np.array([0.0, distance]), std)
    assert several.shape == (2,) and several[0] == 0.5


def test_naming_one_of_many_is_bounded() -> None:
    """N orthogonal secrets behind noise; the best guess is the largest coordinate."""
    stream, count, sigma = np.random.default_rng(3), 20, 0.8
    noisy = np.eye(count)[stream.integers(count, size=4000)] + 0.0
    truth = noisy.argmax(1)
    hits = ((noisy + sigma * stream.normal(size=noisy.shape)).argmax(1) == truth).mean()
    bound = reconstruction_bound(1 / count, math.sqrt(2) / sigma)
    assert 1 / count < hits <= bound
    assert bound == pytest.approx(norm.cdf(norm.ppf(1 / count) + math.sqrt(2) / sigma))
