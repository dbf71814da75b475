"""Local DP: null case, noise, releases that a budget covers, exact composition."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from opacus.accountants import create_accountant
from pydantic import ValidationError

from defenses.analytic_gaussian import epsilon_of
from defenses.clipping import clip_update
from defenses.local_dp import LocalDP, whole_table
from harness.core.defense import Federation
from harness.core.messages import PAD
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


def test_local_dp_without_noise_is_clipping_alone():
    for clip in (1e12, None):
        defense = ready(LocalDP(noise_multiplier=0.0, clip_norm=clip, rows="sent"))
        assert same(defense.on_client(update(), FEDERATION, Seeds(0)), update())
        whole = ready(LocalDP(noise_multiplier=0.0, clip_norm=clip))
        sent = whole.on_client(update(), FEDERATION, Seeds(0))
        assert same(sent, whole_table(update(), NUM_ITEMS))
        assert defense.spent(FEDERATION) is whole.spent(FEDERATION) is None
    with pytest.raises(ValidationError, match="sent rows"):
        LocalDP(noise_multiplier=1.0, rows="sent")


def test_local_noise_covers_the_whole_table_with_the_stated_deviation():
    federation = replace(FEDERATION, num_items=3000)
    defense = ready(LocalDP(noise_multiplier=0.25, clip_norm=2.0), federation)
    silent = update(4).scaled(torch.zeros(4))
    sent = defense.on_client(silent, federation, Seeds(0))
    assert torch.equal(sent.row_ids, torch.arange(3000).repeat(4, 1))
    n = sent.rows.numel()
    assert sent.rows.std().item() == pytest.approx(0.5, rel=5 / math.sqrt(2 * n))
    assert (sent.rows != 0).any(2).all() and (sent.dense["bias"] != 0).all()
    correlation = torch.corrcoef(sent.rows.flatten(1)).fill_diagonal_(0).abs().max()
    assert correlation < 5 / math.sqrt(n / 4), "two clients share their noise"


def test_local_noise_is_added_to_the_clipped_update():
    message = update(5)
    defense = ready(LocalDP(noise_multiplier=1e-9, clip_norm=0.1))
    sent = defense.on_client(message, FEDERATION, Seeds(0))
    clipped = clip_update(message, 0.1)
    for place in range(5):
        got, rows = rows_of(sent, place), rows_of(clipped, place)
        for item in range(NUM_ITEMS):
            torch.testing.assert_close(
                got[item], rows.get(item, torch.zeros(DIM)), atol=1e-7, rtol=0
            )
    assert PAD not in sent.row_ids


def test_local_noise_does_not_depend_on_the_chunk():
    defense, message = ready(LocalDP()), update(4)
    whole = defense.on_client(message, FEDERATION, Seeds(0))
    part = message.select(torch.tensor([False, True, False, True]))
    alone = defense.on_client(part, FEDERATION, Seeds(0))
    assert torch.equal(whole.rows[[1, 3]], alone.rows)
    assert torch.equal(whole.dense["bias"][[1, 3]], alone.dense["bias"])


@pytest.mark.parametrize(
    ("releases", "count"), [("expected", 2), ("every round", 20), ("95th percentile", 4)]
)
def test_local_budget_composes_and_takes_twice_the_clip(releases, count):
    defense = ready(LocalDP(noise_multiplier=4.0, releases=releases, delta=1e-5))
    budget = defense.spent(FEDERATION)
    assert budget.epsilon == pytest.approx(epsilon_of(1e-5, 2 * math.sqrt(count) / 4.0))
    # Independent: Opacus' Rényi accountant at rate 1, noise over the sensitivity 2C.
    bound = opacus_epsilon(4.0 / 2, 1.0, count, 1e-5)
    assert budget.epsilon <= bound <= budget.epsilon * 1.25
    assert f"{count} of 20 rounds" in budget.unit and "replaced" in budget.unit


def test_local_budget_covers_95_percent_of_the_cohorts_that_are_drawn():
    """Drawn as the loop draws them: a fixed number of clients a round, without replacement."""
    federation = Federation(num_clients=943, cohort_size=94, num_rounds=40, num_items=NUM_ITEMS)
    stream = np.random.default_rng(0)
    rounds = np.zeros((20, 943), dtype=int)
    for training in rounds:
        for _ in range(40):
            training[stream.choice(943, 94, replace=False)] += 1
    shares = {}
    for releases in ("expected", "95th percentile", "every round"):
        defense = ready(LocalDP(noise_multiplier=4.0, releases=releases), federation)
        budget = defense.spent(federation)
        shares[releases] = float((rounds <= budget.releases).mean())
        assert bool(defense.check(federation, 0.0)) == (releases == "expected")
    assert 0.55 < shares["expected"] < 0.70, "a third of the clients exceeds the average"
    assert 0.95 <= shares["95th percentile"] < 0.99
    assert shares["every round"] == 1.0


def test_local_budget_says_the_average_and_the_worst_beside_it():
    federation = Federation(num_clients=943, cohort_size=94, num_rounds=40, num_items=NUM_ITEMS)
    said = ready(LocalDP(noise_multiplier=4.0, delta=1e-3), federation).spent(federation).note
    average, worst = (epsilon_of(1e-3, 2 * math.sqrt(k) / 4.0) for k in (40 * 94 / 943, 40))
    assert f"average of 3.98727 rounds epsilon is {average:.4g}" in said
    assert f"in every round {worst:.4g}" in said
    assert said.startswith("95.9% of clients are drawn at most so often")


def test_local_budgets_at_the_ends_of_what_is_allowed():
    for values in (
        {"noise_multiplier": 1e-9},
        {"noise_multiplier": 1e6},
        {"noise_multiplier": None, "epsilon": 1e-6},
        {"noise_multiplier": None, "epsilon": 1e12},
    ):
        budget = ready(LocalDP(**values)).spent(FEDERATION)
        assert 0 <= budget.epsilon < math.inf
    for values in (
        {"noise_multiplier": 1e-200},
        {"noise_multiplier": 1e200},
        {"noise_multiplier": None, "epsilon": 1e-300},
        {"noise_multiplier": None, "epsilon": 1e300},
        {"clip_norm": None},
    ):
        with pytest.raises(ValidationError):
            LocalDP(**values)


def test_local_budget_is_met_when_asked_for():
    defense = ready(LocalDP(noise_multiplier=None, epsilon=3.0))
    assert defense.spent(FEDERATION).epsilon == pytest.approx(3.0, rel=1e-6)
    for values in ({"epsilon": 1.0}, {"noise_multiplier": None}, {"noise_multiplier": -1.0}):
        with pytest.raises(ValidationError):
            LocalDP(**values)
