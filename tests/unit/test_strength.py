"""Every rule on the strength of a defence passes what it should and refuses what it should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.strength import (
    TooWeak,
    require_bound,
    require_chance,
    require_epsilon,
    require_identical,
    require_monotone,
    require_noise,
    require_norms,
    require_power,
    require_utility,
)
from tests.unit.attacks.cases import update

STREAM = np.random.default_rng(0)
NOISE = STREAM.normal(size=200) * 0.1 + STREAM.normal(size=(2, 200)) * 0.01
UNKNOWN = [np.full(200, np.nan), np.ones(200)]
"""One seed that diverged beside one that did not."""


def groups(mean: float) -> list[np.ndarray]:
    """Two seeds of the same 200 units, with the same noise for every mean, so that they pair."""
    return [mean + NOISE[0], mean + NOISE[1]]


def test_power_is_an_interval_above_chance() -> None:
    require_power(groups(0.6), 0.5)
    for weak in (groups(0.5), groups(0.505), groups(0.3), [np.ones(1)]):
        with pytest.raises(TooWeak, match="not above chance"):
            require_power(weak, 0.5)
    with pytest.raises(TooWeak, match="seed 1 of 2 was not measured"):
        require_power(UNKNOWN, 0.5)


def test_identical_means_bits_types_and_shapes() -> None:
    message = update()
    require_identical(update(), message)
    zero = torch.zeros(3)
    others = [
        (replace(message, rows=message.rows + 1e-7), message),
        ((zero,), (zero.double(),)),
        ([zero], [-zero]),
        ({"a": zero}, {"b": zero}),
        ([zero], [zero, zero]),
        (np.zeros(2), np.zeros(3)),
        (1, 2),
        (1, 1.0),
    ]
    for one, other in others:
        with pytest.raises(TooWeak, match="differs"):
            require_identical(one, other)
    with pytest.raises(TooWeak, match=r"value\.rows differs"):
        require_identical(*others[0])
    require_identical(np.array([np.nan]), np.array([np.nan]))


def test_monotone_refuses_a_rise_and_a_ladder_without_effect() -> None:
    require_monotone([groups(0.9), groups(0.7), groups(0.5)], 0.5)
    require_monotone([groups(0.9), groups(0.4), groups(0.5)], 0.5)
    with pytest.raises(TooWeak, match="step 2"):
        require_monotone([groups(0.9), groups(0.6), groups(0.8)], 0.5)
    with pytest.raises(TooWeak, match="lowers nothing"):
        require_monotone([groups(0.9), groups(0.9)], 0.5)
    with pytest.raises(TooWeak):
        require_monotone([groups(0.9), UNKNOWN, groups(0.5)], 0.5)


def test_chance_is_reached_within_a_margin() -> None:
    require_chance(groups(0.5), 0.5, 0.05)
    require_chance([np.zeros(200)], 0.004, 0.03)
    with pytest.raises(TooWeak):
        require_chance(groups(0.54), 0.5, 0.5)
    with pytest.raises(TooWeak):
        require_chance([np.zeros(5)], 0.004, 0.03)
    with pytest.raises(TooWeak):
        require_chance(UNKNOWN, 0.5, 1.0)


def test_bounds_in_the_mean_and_by_unit() -> None:
    require_bound(groups(0.5), 0.5)
    require_bound(groups(0.5), groups(0.5))
    for bound in (0.45, groups(0.499)):
        with pytest.raises(TooWeak, match="closed-form"):
            require_bound(groups(0.5), bound)
    with pytest.raises(TooWeak):
        require_bound(UNKNOWN, 1.0)


def test_utility_is_judged_by_its_lower_bound() -> None:
    require_utility(groups(0.97), groups(1.0), 0.05)
    with pytest.raises(TooWeak, match="utility"):
        require_utility(groups(0.94), groups(1.0), 0.05)
    with pytest.raises(TooWeak, match="not measured"):
        require_utility(UNKNOWN, groups(1.0), 0.05)


def drawn(std: float = 0.5) -> torch.Tensor:
    return std * torch.randn(6, 3000, generator=torch.Generator().manual_seed(1))


def test_noise_of_the_right_size_passes_and_each_fault_has_its_words() -> None:
    require_noise(drawn(), 0.5)
    shared = drawn()
    shared[3] = shared[1]
    holes = drawn()
    holes[:, 7] = 0
    for noise, words in (
        (drawn(0.52), "standard deviation"),
        (drawn(0.25), "standard deviation"),
        (drawn() + 0.05, "mean"),
        (shared, "used twice"),
        (holes, "carry no noise"),
        (drawn() * float("nan"), "standard deviation"),
    ):
        with pytest.raises(TooWeak, match=words):
            require_noise(noise, 0.5)


def test_norms_and_budgets() -> None:
    require_norms(torch.tensor([0.2, 1.0]), 1.0)
    require_epsilon(1.9, 2.0)
    with pytest.raises(TooWeak):
        require_norms(torch.tensor([0.2, 1.001]), 1.0)
    with pytest.raises(TooWeak):
        require_norms(torch.tensor([float("nan")]), 1.0)
    for audited in (2.1, float("nan")):
        with pytest.raises(TooWeak):
            require_epsilon(audited, 2.0)
