"""An interrupted training goes on to the same bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attacks.a_hum import AHum
from defenses.dp_fedavg import DPFedAvg
from defenses.local_dp import LocalDP
from defenses.trimmed_mean import TrimmedMean
from harness.core.errors import Interrupted
from harness.fed.checkpoint import KEPT, Checkpoints
from harness.fed.loop import federate
from harness.store import stored
from tests.unit.fed.toy import toy_state, toy_training

ROUNDS = 5


def _training(kind):
    parts = {
        "plain": {},
        "attacked": {"attack": AHum(), "malicious": (1, 2, 3), "defenses": (TrimmedMean(),)},
        "private": {"defenses": (DPFedAvg(epsilon=1000.0),)},
        "adaptive": {
            "defenses": (
                DPFedAvg(
                    epsilon=1000.0,
                    server_optimizer="adam",
                    server_learning_rate=0.01,
                    server_moments="row",
                ),
                LocalDP(noise_multiplier=0.01, server_optimizer="momentum"),
            )
        },
    }
    return toy_training(rounds=ROUNDS, record=(0, 2, 4), **parts[kind])


def _same(one, two):
    assert torch.equal(one.released.table, two.released.table)
    for name, value in one.released.dense.items():
        assert torch.equal(value, two.released.dense[name])
    assert one.guard == two.guard
    assert one.bytes_up == two.bytes_up
    assert len(one.transcript.rounds) == len(two.transcript.rounds)
    for a, b in zip(one.transcript.rounds, two.transcript.rounds, strict=True):
        assert a.index == b.index
        assert torch.equal(a.message.rows, b.message.rows)
        assert torch.equal(a.message.row_ids, b.message.row_ids)
        assert torch.equal(a.model.item_table, b.model.item_table)
        assert torch.equal(a.aggregate.rows, b.aggregate.rows)
        assert all(
            torch.equal(a.aggregate.dense[n], b.aggregate.dense[n]) for n in b.aggregate.dense
        )


def _stopped_after(training, rounds, folder):
    """Run so many rounds into ``folder``, then stop as a signal would."""
    left = iter(range(rounds, -1, -1))
    next(left)

    def pause():
        if next(left) == 0:
            raise Interrupted("now")

    with pytest.raises(Interrupted):
        federate(
            replace(training, pause=pause),
            toy_state(training),
            Checkpoints(folder, {"training": "toy"}, lambda text: None, seconds=0),
        )


def _resumed(training, folder, name="toy"):
    said = []
    checkpoints = Checkpoints(folder, {"training": name}, said.append, seconds=0)
    return federate(training, toy_state(training), checkpoints), said


@pytest.mark.parametrize("kind", ["plain", "attacked", "private", "adaptive"])
@pytest.mark.parametrize("rounds", [1, 3, ROUNDS])
def test_a_resumed_training_equals_an_uninterrupted_one(kind, rounds, tmp_path):
    whole = federate(_training(kind), toy_state(_training(kind)))
    _stopped_after(_training(kind), rounds, tmp_path)
    outcome, said = _resumed(_training(kind), tmp_path)
    assert said == [f"going on after round {rounds}"]
    _same(outcome, whole)


def test_only_the_newest_rounds_are_kept(tmp_path):
    _stopped_after(_training("plain"), 4, tmp_path)
    assert [p.name[:12] for p in stored(tmp_path, "round-")] == ["round-000003", "round-000004"]
    assert KEPT == 2


@pytest.mark.parametrize("stem", ["round-000003", "record-000002"])
def test_a_damaged_file_costs_a_round_and_no_number(stem, tmp_path):
    whole = federate(_training("plain"), toy_state(_training("plain")))
    _stopped_after(_training("plain"), 3, tmp_path)
    (path,) = stored(tmp_path, stem)
    path.write_bytes(path.read_bytes()[:-1])
    outcome, said = _resumed(_training("plain"), tmp_path)
    assert "going back" in said[0]
    assert said[-1] == "going on after round 2"
    _same(outcome, whole)


def test_two_damaged_rounds_do_not_push_the_new_ones_out(tmp_path):
    _stopped_after(_training("plain"), 4, tmp_path)
    for path in stored(tmp_path, "round-"):
        path.write_bytes(b"")
    _stopped_after(_training("plain"), 1, tmp_path)
    assert [p.name[:12] for p in stored(tmp_path, "round-")] == ["round-000001"]


def test_rounds_of_another_training_are_not_taken_over(tmp_path):
    _stopped_after(_training("plain"), 3, tmp_path)
    outcome, said = _resumed(_training("private"), tmp_path, name="other")
    assert all("training was toy, is other" in line for line in said)
    _same(outcome, federate(_training("private"), toy_state(_training("private"))))


def test_short_rounds_are_written_now_and_then_but_the_last_before_a_stop_always(tmp_path):
    training, left = _training("plain"), iter([False, False, True])

    def pause():
        if next(left):
            raise Interrupted("now")

    checkpoints = Checkpoints(tmp_path, {"training": "toy"}, lambda text: None, seconds=3600)
    with pytest.raises(Interrupted):
        federate(replace(training, pause=pause), toy_state(training), checkpoints)
    assert [p.name[:12] for p in stored(tmp_path, "round-")] == ["round-000003"]
    outcome, _ = _resumed(_training("plain"), tmp_path)
    _same(outcome, federate(_training("plain"), toy_state(_training("plain"))))
