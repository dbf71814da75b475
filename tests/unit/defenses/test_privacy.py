"""DP-FedAvg and local DP: null cases, noise and clip in closed form, accountants and oracles."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from opacus.accountants import create_accountant
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.stats import norm

from defenses.accounting import calibrate, epsilon_spent
from defenses.analytic_gaussian import delta_of, epsilon_of, mu_of
from defenses.clipping import clip_update
from defenses.dp_fedavg import DPFedAvg
from defenses.local_dp import LocalDP
from harness.core.defense import Federation
from harness.core.errors import RunError, ScenarioError
from harness.core.messages import ModelAggregate, ModelUpdate
from harness.core.seeds import Seeds
from tests.unit.attacks.cases import DIM, NUM_ITEMS, rows_of, same, update

FEDERATION = Federation(
    num_clients=100, cohort_size=10, num_rounds=20, num_items=NUM_ITEMS, round_index=0
)


def ready(defense, federation=FEDERATION):
    defense.setup(federation)
    return defense


def opacus_epsilon(noise_multiplier, rate, steps, delta):
    ledger = create_accountant("rdp")
    ledger.history = [(noise_multiplier, rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ledger.get_epsilon(delta=delta)


# Clipping


@given(st.floats(1e-3, 1e3), st.floats(1e-6, 1e30))
def test_clip_bounds_the_whole_norm_and_keeps_direction(bound, size):
    message = update(6).scaled(torch.full((6,), size))
    clipped = clip_update(message, bound)
    before, after = message.norms(), clipped.norms()
    torch.testing.assert_close(after, before.clamp_max(bound), rtol=1e-5, atol=0.0)
    for old, new in ((message.dense["bias"], clipped.dense["bias"]), (message.rows, clipped.rows)):
        scale = (after / before.clamp_min(1e-300)).reshape(-1, *[1] * (old.dim() - 1))
        torch.testing.assert_close(new.double(), old.double() * scale, rtol=1e-5, atol=1e-30)


def test_clip_by_hand_counts_dense_and_rows_together():
    ids = torch.tensor([[4]])
    message = ModelUpdate(
        torch.zeros(1, dtype=torch.int64),
        {"w": torch.tensor([[3.0]])},
        ids,
        torch.tensor([[[0.0, 4.0]]]),
        ids[:, 0],
    )
    clipped = clip_update(message, 1.0)
    assert clipped.dense["w"].tolist() == [[pytest.approx(0.6)]]
    assert clipped.rows[0, 0].tolist() == [0.0, pytest.approx(0.8)]
    assert same(clip_update(message, 5.0), message), "a norm at the bound is not touched"


def test_clip_survives_extremes():
    huge = update(3).scaled(torch.full((3,), 1e37))
    torch.testing.assert_close(
        clip_update(huge, 1.0).norms(), torch.ones(3).double(), rtol=1e-5, atol=0
    )
    zero = update(3).scaled(torch.zeros(3))
    assert same(clip_update(zero, 1.0), zero)


# DP-FedAvg


def test_dp_fedavg_without_clip_and_noise_is_the_sum_over_the_expected_cohort():
    defense = ready(DPFedAvg(epsilon=None, noise_multiplier=0.0, clip_norm=1e12))
    message = update(7)
    sent = defense.on_client(message, FEDERATION, Seeds(0))
    assert same(sent, message)
    aggregate = defense.on_server(defense.aggregate([sent], FEDERATION), FEDERATION, Seeds(0))
    table = torch.zeros(NUM_ITEMS, DIM)
    for place in range(7):
        for item, row in rows_of(message, place).items():
            table[item] += row
    assert aggregate.row_ids.tolist() == list(range(NUM_ITEMS))
    torch.testing.assert_close(aggregate.rows, table / 10)  # qN = 10, though 7 came
    torch.testing.assert_close(aggregate.dense["bias"], message.dense["bias"].sum(0) / 10)
    assert defense.spent(FEDERATION) is None


def test_the_server_clips_what_malicious_clients_did_not():
    defense = ready(DPFedAvg(epsilon=None, noise_multiplier=0.0, clip_norm=0.5))
    message = update(1).scaled(torch.tensor([1e6]))
    aggregate = defense.aggregate([message], FEDERATION)
    total = sum(float(d.square().sum()) for d in (*aggregate.dense.values(), aggregate.rows))
    assert math.sqrt(total) == pytest.approx(0.5 / 10, rel=1e-5)


@pytest.mark.parametrize(("z", "clip", "rate"), [(1.0, 1.0, 1.0), (3.0, 0.5, 1.0), (0.5, 2.0, 4.0)])
def test_central_noise_has_the_stated_standard_deviation_on_every_coordinate(z, clip, rate):
    """Whatever the server's rate is: what is seen is the noisy mean, and the rate comes after."""
    federation = replace(FEDERATION, num_items=4000)
    defense = ready(
        DPFedAvg(epsilon=None, noise_multiplier=z, clip_norm=clip, server_learning_rate=rate),
        federation,
    )
    message = update(3).scaled(torch.zeros(3))
    aggregate = defense.on_server(defense.aggregate([message], federation), federation, Seeds(0))
    assert isinstance(aggregate, ModelAggregate)
    expected, n = z * clip / 10, aggregate.rows.numel()
    # Five standard errors of a standard deviation from n draws, σ/√(2n): a variance read as a
    # standard deviation, or noise on the sent rows alone, is far outside.
    assert aggregate.rows.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * n))
    assert abs(aggregate.rows.mean().item()) < 5 * expected / math.sqrt(n)
    assert (aggregate.rows != 0).any(1).all(), "a row without noise shows who was not sent"
    assert (aggregate.dense["bias"] != 0).all()
    assert not torch.equal(aggregate.rows[0], aggregate.dense["bias"])
    step = defense.on_apply(aggregate, federation, {})
    torch.testing.assert_close(step.rows, rate * aggregate.rows)
    torch.testing.assert_close(step.dense["bias"], rate * aggregate.dense["bias"])


def test_noise_comes_after_the_clip():
    """Signal at the clip plus noise of many clips: clipped afterwards the norm would be C."""
    defense = ready(DPFedAvg(epsilon=None, noise_multiplier=50.0, clip_norm=1.0))
    aggregate = defense.aggregate([defense.on_client(update(5), FEDERATION, Seeds(0))], FEDERATION)
    noisy = defense.on_server(aggregate, FEDERATION, Seeds(0))
    assert noisy.rows.norm().item() == pytest.approx(5.0 * math.sqrt(NUM_ITEMS * DIM), rel=0.25)


def test_dp_budget_is_met_and_says_against_whom():
    defense = ready(DPFedAvg(epsilon=4.0))
    budget = defense.spent(FEDERATION)
    assert 4.0 * (1 - 2e-3) <= budget.epsilon <= 4.0
    assert budget.delta == pytest.approx(100**-1.1)
    assert budget.sampling == "poisson" == DPFedAvg.sampling
    assert "not the server" in budget.adversary
    assert "added or removed" in budget.unit


def test_less_budget_means_more_noise_and_large_budgets_hardly_any():
    z = [ready(DPFedAvg(epsilon=e)).noise_multiplier for e in (0.1, 8.0, 1e6)]
    assert z == sorted(z, reverse=True) and z[0] > 5 and z[-1] < 0.02


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_rdp_accountant_against_the_exact_gaussian(epsilon):
    """One round of everybody: the exact curve is known; Rényi is an upper bound, 25 % loose."""
    z = calibrate(epsilon, 1e-5, 1.0, 1, "rdp")
    exact = epsilon_of(1e-5, 1 / z)
    assert exact <= epsilon <= exact * 1.25
    assert epsilon_spent(z, 1e-5, 1.0, 1, "rdp") == pytest.approx(epsilon, rel=2e-3)


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_subsampled_accountant_against_the_exact_one_round_curve(accountant):
    """One Poisson round: δ(ε) by integrating (1−q)N(0,z²) + qN(1,z²) against N(0,z²)."""
    z, q = 0.8, 0.2
    claimed = epsilon_spent(z, 1e-4, q, 1, accountant)

    def hockey_stick(epsilon, remove):
        def gap(x):
            base, shifted = norm.pdf(x, 0, z), norm.pdf(x, 1, z)
            mixture = (1 - q) * base + q * shifted
            a, b = (mixture, base) if remove else (base, mixture)
            return max(0.0, a - math.exp(epsilon) * b)

        return quad(gap, -8, 9, limit=400, points=[0, 1, 2, 3])[0]

    delta = max(hockey_stick(claimed, True), hockey_stick(claimed, False))
    assert delta <= 1e-4 * (1 + 1e-3), "the accountant claims too little"
    lower = max(hockey_stick(claimed * 0.6, True), hockey_stick(claimed * 0.6, False))
    assert lower > 1e-4, "the accountant is far too loose"


def test_dp_configuration_errors():
    for values in (
        {"epsilon": 0.0},
        {"epsilon": -1.0},
        {"noise_multiplier": 1.0},
        {"epsilon": None},
        {"epsilon": 200.0, "accountant": "prv"},
        {"clip_norm": 0.0},
        {"clip_norm": None},
        {"epsilon": None, "noise_multiplier": 1.0, "clip_norm": None},
        {"epsilon": None, "noise_multiplier": 1e-200},
        {"epsilon": None, "noise_multiplier": 1e200},
        {"epsilon": 1e-300},
        {"epsilon": 1e300},
    ):
        with pytest.raises(ValidationError):
            DPFedAvg(**values)
    with pytest.raises(ScenarioError, match="cannot be met"):
        DPFedAvg(epsilon=1e-3, delta=1e-5).setup(FEDERATION)
    with pytest.raises(ScenarioError, match="delta must be given"):
        DPFedAvg().setup(replace(FEDERATION, num_clients=1, cohort_size=1))
    with pytest.raises(RunError, match="setup"):
        DPFedAvg().spent(FEDERATION)
    assert "epsilon 50 is hardly" in DPFedAvg(epsilon=50.0).doubts()[0]
    for defense in (DPFedAvg(delta=0.5), LocalDP(delta=0.5)):
        assert "one client in 2 whole" in defense.doubts()[0]
    assert not DPFedAvg(epsilon=10.0, delta=0.0099).doubts() + DPFedAvg().doubts()
    assert not LocalDP().doubts()
    assert "delta above" in DPFedAvg(delta=0.5).check(FEDERATION, 0.0)[0]
    assert "delta above" in LocalDP(delta=0.5).check(FEDERATION, 0.0)[0]
    assert not DPFedAvg(epsilon=8.0).check(FEDERATION, 0.0)


@pytest.mark.parametrize("rate", [1e-4, 0.1, 1.0])
@pytest.mark.parametrize("z", [1e-4, 1e-2, 1e2, 1e6])
def test_every_noise_that_is_allowed_has_a_budget_that_is_not_negative(z, rate):
    for rounds in (1, 1000):
        assert 0 <= epsilon_spent(z, 1e-5, rate, rounds, "rdp") < math.inf
        assert 0 <= epsilon_spent(z, 0.9, rate, rounds, "rdp") < math.inf


def test_budgets_that_no_accountant_stands_end_in_one_line():
    for z in (1e-200, 1e200):
        with pytest.raises(ScenarioError, match="noise_multiplier is from") as caught:
            epsilon_spent(z, 1e-5, 0.1, 10, "rdp")
        assert "\n" not in str(caught.value)
    with pytest.raises(ScenarioError, match="proves nothing below"):
        calibrate(1e-300, 1e-5, 0.1, 10, "rdp")


@pytest.mark.parametrize("clip", [0.3, 5.0, 1e6])
def test_what_is_released_moves_by_the_clip_at_most_with_one_client_more(clip):
    """Sensitivity by brute force: leave out every client in turn, large and small ones."""
    sizes = torch.tensor([0.01, 0.3, 1.0, 7.0, 1e3, 1e20])
    message, defense = update(6).scaled(sizes), ready(DPFedAvg(clip_norm=clip))

    def released(chosen):
        found = defense.aggregate([message.select(chosen)], FEDERATION)
        return torch.cat([*(d.flatten() for d in found.dense.values()), found.rows.flatten()])

    everybody, moved = released(torch.ones(6, dtype=torch.bool)), []
    for left_out in range(6):
        moved.append(released(torch.arange(6) != left_out).sub(everybody).double().norm() * 10)
    assert max(moved) <= clip * (1 + 1e-4)
    if clip < 1e6:
        assert max(moved) >= clip * (1 - 1e-4), "the bound is reached, so it is no accident"


# The analytic Gaussian mechanism


@pytest.mark.parametrize("mu", [0.1, 0.5, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0, 5.0])
def test_gaussian_curve_against_numerical_integration(mu, epsilon):
    """δ(ε) = ∫ max(0, p − e^ε q) for p = N(μ, 1), q = N(0, 1)."""

    def gap(x):
        return max(0.0, norm.pdf(x, mu) - math.exp(epsilon) * norm.pdf(x))

    cross = epsilon / mu + mu / 2
    delta = quad(gap, cross, max(cross, mu) + 12, limit=200)[0]
    assert delta_of(epsilon, mu) == pytest.approx(delta, rel=1e-6, abs=1e-12)


@given(st.floats(0.01, 200.0), st.floats(1e-8, 0.1))
def test_gaussian_inverses_agree(epsilon, delta):
    mu = mu_of(epsilon, delta)
    assert epsilon_of(delta, mu) == pytest.approx(epsilon, rel=1e-6, abs=1e-6)


def test_gaussian_known_value():
    # Classical calibration σ = √(2 ln(1.25/δ))/ε at ε = 0.5 must be valid but not tight.
    sigma = math.sqrt(2 * math.log(1.25 / 1e-5)) / 0.5
    assert 0.3 < epsilon_of(1e-5, 1 / sigma) < 0.5
    assert epsilon_of(0.9, 0.1) == 0.0
