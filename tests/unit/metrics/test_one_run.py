"""The one-run bound against published values, mechanisms whose ε is known, and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from defenses.analytic_gaussian import epsilon_of
from harness.metrics.one_run import (
    gaussian_estimate,
    margins,
    one_run_epsilon,
    provable_epsilon,
    rejects,
)


def p_value(m: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Theorem 5.2 of Steinke, Nasr and Jagielski, written out: an independent, looser bound."""
    q = 1 / (1 + math.exp(-epsilon))
    tail = binom.pmf(np.arange(right - 1, -1, -1), guesses, q).cumsum() / np.arange(1, right + 1)
    return float(min(1.0, binom.sf(right - 1, guesses, q) + 2 * m * delta * tail.max()))


def largest(reject) -> float:
    """First ε on a grid that is not rejected."""
    return next(e for e in np.arange(0, 12, 0.01) if not reject(e))


def coins(size: int, stream: np.random.Generator) -> np.ndarray:
    return stream.random(size) < 0.5


def responded(epsilon: float, size: int, stream: np.random.Generator, delta: float = 0.0):
    """Margins of randomised response that gives every coin away with probability δ."""
    heads = coins(size, stream)
    revealed = stream.random(size) < delta
    honest = stream.random(size) < 1 / (1 + math.exp(-epsilon))
    sign = np.where(np.where(revealed | honest, heads, ~heads), 1.0, -1.0)
    return margins(sign * np.where(revealed, 50.0, stream.random(size)), heads)


def told(mu: float, size: int, stream: np.random.Generator) -> np.ndarray:
    """Margins of a Gaussian mechanism: log-likelihood ratios of N(±μ/2, 1)."""
    heads = coins(size, stream)
    return margins(mu * (np.where(heads, mu / 2, -mu / 2) + stream.normal(size=size)), heads)


def test_the_printed_example_of_the_one_run_paper() -> None:
    # arXiv:2305.08846, appendix D: 75 of 100 guesses, 1000 canaries, δ = 1e-4: 0.673.
    theirs = largest(lambda e: p_value(1000, 100, 75, e, 1e-4) <= 0.05)
    ours = largest(lambda e: rejects(e, 1e-4, 1000, 75, 100, 0.05))
    assert theirs == pytest.approx(0.673, abs=0.011)
    assert ours == pytest.approx(theirs, abs=0.05)


@pytest.mark.parametrize(("m", "guesses", "right"), [(100, 100, 80), (400, 100, 97), (60, 60, 60)])
def test_without_delta_it_is_the_binomial_test(m: int, guesses: int, right: int) -> None:
    theirs = largest(lambda e: p_value(m, guesses, right, e, 0.0) <= 0.05)
    ours = largest(lambda e: rejects(e, 0.0, m, right, guesses, 0.05))
    assert ours == pytest.approx(theirs, abs=0.12)


def test_with_delta_it_is_tighter_than_the_one_run_paper() -> None:
    theirs = largest(lambda e: p_value(471, 118, 118, e, 5e-4) <= 0.05)
    assert largest(lambda e: rejects(e, 5e-4, 471, 118, 118, 0.05)) > theirs + 0.5


def test_more_right_guesses_prove_more_and_chance_proves_nothing() -> None:
    found = [one_run_epsilon([_with_right(v, 200)], 1e-5) for v in range(100, 201, 10)]
    assert found == sorted(found) and found[0] == 0.0
    assert found[-1] == provable_epsilon(200, 1e-5) > 3
    assert math.isnan(one_run_epsilon([], 1e-5))


def _with_right(right: int, size: int) -> np.ndarray:
    """So many right guesses, spread evenly over the surest and the least sure."""
    place = np.random.default_rng(0).permutation(size)
    return np.where(np.arange(size) < right, 1.0, -1.0) * (place + 1) / size


@pytest.mark.parametrize(("epsilon", "delta", "size"), [(1.0, 0.0, 300), (2.0, 1e-3, 400)])
def test_randomised_response_is_bounded_from_below(epsilon: float, delta: float, size: int) -> None:
    stream = np.random.default_rng(0)
    found = np.array(
        [one_run_epsilon([responded(epsilon, size, stream, delta)], delta) for _ in range(200)]
    )
    # At most 5 % above the truth; 200 trials may show 18 with probability 1 %.
    assert (found > epsilon).sum() <= 18
    assert np.median(found) > 0.5 * epsilon


@pytest.mark.parametrize(("mu", "fair"), [(0.5, 0.2), (1.0, 0.25), (2.0, 0.25)])
def test_the_gaussian_mechanism_is_bounded_from_below(mu: float, fair: float) -> None:
    stream, delta = np.random.default_rng(1), 1e-4
    truth = epsilon_of(delta, mu)
    found = np.array([one_run_epsilon([told(mu, 1000, stream)], delta) for _ in range(60)])
    assert (found <= truth).all()
    assert np.median(found) > fair * truth


def test_seeds_are_pooled_as_one_larger_game() -> None:
    stream = np.random.default_rng(2)
    games = [told(3.0, 200, stream) for _ in range(5)]
    alone = [one_run_epsilon([game], 1e-5) for game in games]
    assert one_run_epsilon(games, 1e-5) > max(alone)
    assert one_run_epsilon([g.astype(np.float32) for g in games], 1e-5) == one_run_epsilon(
        games, 1e-5
    )


def test_margins_say_how_surely_and_how_rightly() -> None:
    scores, heads = np.array([5.0, -3.0, 0.0, 1.0]), np.array([True, True, False, False])
    assert margins(scores, heads).tolist() == [1.0, -0.75, 0.25, -0.5]


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
def test_the_estimate_is_the_gaussian_mechanisms_epsilon(mu: float) -> None:
    stream = np.random.default_rng(3)
    heads, tails = stream.normal(mu, 2, 40_000) + mu, stream.normal(0, 2, 40_000)
    assert gaussian_estimate(heads, tails, 1e-3) == pytest.approx(epsilon_of(1e-3, mu), rel=0.08)


def test_the_estimate_of_unequal_spreads_agrees_with_integration() -> None:
    stream = np.random.default_rng(4)
    heads, tails = stream.normal(1, 2, 500), stream.normal(0, 1, 500)
    epsilon = gaussian_estimate(heads, tails, 0.01)
    x = np.linspace(-60, 60, 2_000_001)

    def density(values: np.ndarray) -> np.ndarray:
        s = values.std(ddof=1)
        return np.exp(-0.5 * ((x - values.mean()) / s) ** 2) / (s * math.sqrt(2 * math.pi))

    p, q = density(heads), density(tails)
    gaps = [
        float(np.maximum(a - math.exp(epsilon) * b, 0).sum() * (x[1] - x[0]))
        for a, b in ((p, q), (q, p))
    ]
    assert max(gaps) == pytest.approx(0.01, rel=1e-3)


def test_what_cannot_be_estimated_is_nan() -> None:
    assert math.isnan(gaussian_estimate(np.ones(1), np.zeros(5), 0.01))
    assert math.isnan(gaussian_estimate(np.ones(5), np.zeros(5), 0.01))
    same = np.random.default_rng(5).normal(size=200)
    assert gaussian_estimate(same, same, 0.01) == 0.0
