"""Coins are the loop's: what tails means, who passes the client stage, and what resumes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks.canary import SEEN, Canary
from defenses.dp_fedavg import DPFedAvg
from defenses.local_dp import LocalDP
from harness.core.audit import Game
from harness.core.errors import Interrupted
from harness.core.seeds import Seeds
from harness.fed.auditing import canary_claims, claimed, game_of, toss
from harness.fed.checkpoint import Checkpoints
from harness.fed.loop import federate
from tests.unit.fed.toy import toy_state, toy_training

CANARIES = tuple(range(0, 30, 2))


def _audited(coins, defenses=(), **options):
    options = {"cohort_fraction": 1.0, "rounds": 2, **options}
    training = toy_training(
        attack=Canary(), malicious=CANARIES, defenses=defenses, record=(0,), **options
    )
    return replace(training, threat=replace(training.threat, coins=np.asarray(coins)))


def _run(training):
    return federate(training, toy_state(training))


def test_coins_are_fair_and_of_a_stream_of_their_own():
    coins = toss(10_000, Seeds(0))
    assert abs(coins.mean() - 0.5) < 0.02
    assert (coins == toss(10_000, Seeds(0))).all() and (coins != toss(10_000, Seeds(1))).any()


def test_the_claim_says_which_game_is_played():
    training = toy_training()
    sizes = training.federation()
    central, local = DPFedAvg(epsilon=None, noise_multiplier=1.0), LocalDP(noise_multiplier=1.0)
    for defense in (central, local):
        defense.setup(sizes)
    assert game_of([], sizes) == Game("add or remove", "aggregates", sizes.sampling_rate)
    assert game_of([central], sizes) == game_of([], sizes)
    assert game_of([local], sizes) == Game("replace", "messages", 0.5, 3)
    assert claimed([central, local], sizes) is None


def test_tails_never_exists_where_a_client_is_added_or_removed():
    heads, tails = np.ones(30, bool), np.zeros(30, bool)
    sent = _run(_audited(heads)).transcript.rounds[0].message
    none = _run(_audited(tails)).transcript.rounds[0].message
    assert set(sent.clients.tolist()) == set(range(30))
    assert set(none.clients.tolist()) == set(range(30)) - set(CANARIES)
    honest = [c in set(none.clients.tolist()) for c in sent.clients.tolist()]
    assert torch.equal(sent.select(torch.tensor(honest)).rows[:, : none.rows.shape[1]], none.rows)
    nobody = _run(toy_training(rounds=2, cohort_fraction=1.0)).transcript.rounds[0].message
    kept = torch.tensor([c not in CANARIES for c in nobody.clients.tolist()])
    assert torch.equal(nobody.select(kept).dense["positions"], none.dense["positions"])


def test_tails_is_the_opposite_where_an_update_is_replaced_and_noise_falls_on_both():
    defense = (LocalDP(noise_multiplier=1e-6, clip_norm=0.5),)
    both = [
        _run(_audited(np.full(30, side), defense)).transcript.rounds[0].message
        for side in (True, False)
    ]
    canary = torch.tensor([c in CANARIES for c in both[0].clients.tolist()])
    for message in both:
        # Ten times too loud, and clipped as an honest update is.
        assert torch.allclose(message.norms()[canary], torch.full((15,), 0.5).double(), atol=1e-3)
    rows = [message.select(canary).rows for message in both]
    assert torch.allclose(rows[0], -rows[1], atol=1e-4) and bool((rows[0] != -rows[1]).any())
    honest = [message.select(~canary).rows for message in both]
    assert torch.equal(*honest)


def test_the_auditor_sees_no_coin_and_the_coins_change_the_scores():
    coins = np.arange(30) % 4 < 2
    scores = [
        canary_claims(training, _run(training)).scores
        for training in (_audited(coins), _audited(coins), _audited(~coins))
    ]
    assert torch.equal(scores[0], scores[1]) and not torch.equal(scores[0], scores[2])


@pytest.mark.parametrize("defenses", [(), (LocalDP(noise_multiplier=0.1),)])
def test_an_audit_resumes_to_the_same_scores(tmp_path, defenses):
    training = _audited(np.arange(30) % 4 < 2, defenses, rounds=4, cohort_fraction=0.5)
    whole = _run(training)
    left = iter((0, 1, 1))

    def pause():
        if next(left):
            raise Interrupted("now")

    folder = tmp_path / "rounds"

    def kept():
        return Checkpoints(folder, {"training": "toy"}, lambda text: None, seconds=0)

    with pytest.raises(Interrupted):
        federate(replace(training, pause=pause), toy_state(training), kept())
    again = federate(training, toy_state(training), kept())
    assert torch.equal(again.memory[SEEN].nan_to_num(9), whole.memory[SEEN].nan_to_num(9))
    assert again.memory[SEEN].shape == (15, 4)
    one, other = canary_claims(training, again), canary_claims(training, whole)
    assert torch.equal(one.scores, other.scores) and torch.equal(one.sums, other.sums)


def test_the_auditor_also_sees_rounds_without_clients():
    """Under a budget for Poisson cohorts they are noised and released like any other."""
    defense = DPFedAvg(epsilon=None, noise_multiplier=1.0)
    training = _audited(np.zeros(30, bool), (defense,), cohort_fraction=1 / 30, rounds=8)
    outcome = _run(training)
    assert 0 < outcome.guard.empty_rounds < 8
    scores = canary_claims(training, outcome)
    assert np.isfinite(np.asarray(scores.scores)).all()
