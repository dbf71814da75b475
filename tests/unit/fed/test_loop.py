"""The rounds: order of stages, who skips what, what is recorded, and that learning happens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from defenses.dp_fedavg import DPFedAvg
from harness.core.attack import PoisoningAttack
from harness.core.averaging import average
from harness.core.defense import Defense
from harness.core.errors import RunError
from harness.core.messages import ModelUpdate
from harness.core.observe import NotGranted, ThreatModel, View
from harness.core.params import Paper, Params
from harness.fed.arriving import draw_cohort
from harness.fed.loop import federate
from harness.metrics.ranking import hit_ratio, target_rank
from tests.unit.fed.toy import toy_state, toy_training


class _Spy(Defense):
    """Notes the order of its stages and doubles what honest clients send."""

    paper = Paper("ours", "baseline")
    reads = (ModelUpdate,)

    def __init__(self, log, label):
        super().__init__(Params())
        self.log, self.label = log, label

    def on_client(self, message, federation, seeds):
        self.log.append((self.label, "client", sorted(message.clients.tolist())))
        return message.scaled(torch.full((len(message),), 2.0))

    def on_server(self, aggregate, federation, seeds):
        self.log.append((self.label, "server", None))
        return aggregate


class _Marker(PoisoningAttack):
    """Writes a constant into the malicious rows."""

    paper = Paper("ours", "baseline")
    reads = (ModelUpdate,)
    threat_model = ThreatModel("client", frozenset({"global model"}), acts=True)
    value = 0.125

    def __init__(self):
        super().__init__(Params())

    def craft(self, view, message, malicious, context, seeds):
        with pytest.raises(NotGranted):
            view.messages()
        assert view.model(context.round_index).item_table.shape == (40, 8)
        rows = message.rows.clone()
        rows[malicious] = self.value
        return replace(message, rows=rows)


def _run(training):
    return federate(training, toy_state(training))


def test_same_seed_same_model_other_seed_other_model():
    first, second, third = (_run(toy_training(seed=s)).released for s in (0, 0, 1))
    assert torch.equal(first.table, second.table)
    assert not torch.equal(first.table, third.table)


def test_honest_clients_pass_the_client_stage_and_malicious_ones_skip_it():
    log, plain = [], toy_training(attack=_Marker(), malicious=range(10), rounds=1)
    defended = toy_training(
        attack=_Marker(), malicious=range(10), rounds=1, defenses=[_Spy(log, "a")]
    )
    before = _run(plain).transcript.rounds[0].message
    after = _run(defended).transcript.rounds[0].message
    honest = before.clients >= 10
    assert log[0][2] == sorted(before.clients[honest].tolist())
    torch.testing.assert_close(after.rows[honest], 2 * before.rows[honest])
    assert (after.rows[~honest] == _Marker.value).all()


def test_stages_run_client_forward_and_server_backward():
    log: list = []
    _run(toy_training(rounds=1, defenses=[_Spy(log, "a"), _Spy(log, "b")]))
    assert [entry[:2] for entry in log] == [
        ("a", "client"),
        ("b", "client"),
        ("b", "server"),
        ("a", "server"),
    ]


def test_without_an_attack_malicious_clients_are_ordinary_clients():
    quiet = _run(toy_training(malicious=range(10))).released
    honest = _run(toy_training()).released
    assert torch.equal(quiet.table, honest.table)


def test_only_wanted_rounds_are_recorded_with_the_model_sent_out():
    outcome = _run(toy_training(record=(0, 2)))
    assert [r.index for r in outcome.transcript.rounds] == [0, 2]
    initial = toy_state(toy_training()).model.table
    assert torch.equal(outcome.transcript.rounds[0].model.item_table, initial)


def test_training_learns_the_ring():
    training = toy_training(rounds=60, cohort_fraction=1.0, record=())
    domain, released = training.domains[0], _run(training).released
    histories = [np.append(h, v) for h, v in zip(domain.histories, domain.validation, strict=True)]
    scores = released.scores(np.arange(30), histories)
    test = np.array([(h[-1] + 1) % 40 for h in histories])
    # Chance is 5/40 = 0.125, four standard errors of it 0.24.
    assert hit_ratio(target_rank(scores, test), 5).mean() > 0.125 + 0.24


def test_poisson_cohorts_vary_in_size_around_the_rate():
    class _Poisson(_Spy):
        sampling = "poisson"

    training = toy_training(defenses=[_Poisson([], "p")])
    federation = training.federation()
    sizes = [
        len(draw_cohort(training, federation, training.seeds.child("round", r))) for r in range(200)
    ]
    assert np.mean(sizes) == pytest.approx(15, abs=4 * (30 * 0.25 / 200) ** 0.5)
    assert len(set(sizes)) > 3


def _moved_without_learning(defenses):
    """All that two rounds change, one of them without a client; training itself moves nothing."""
    seed = next(s for s in range(100) if _cohorts(defenses, s) in ([0, 1], [1, 0]))
    training = toy_training(defenses=defenses, seed=seed, learning_rate=1e-12, **TINY)
    before, outcome = toy_state(training).model, _run(training)
    assert outcome.guard.empty_rounds == 1
    after = outcome.state.model
    moved = [after.dense[name] - start for name, start in before.dense.items()]
    return torch.cat([*(m.flatten() for m in moved), (after.table - before.table).flatten()])


TINY = {"rounds": 2, "cohort_fraction": 1 / 30, "record": (0, 1)}


def _cohorts(defenses, seed):
    training = toy_training(defenses=defenses, seed=seed, **TINY)
    streams = [training.seeds.child("round", r) for r in range(2)]
    return [min(1, len(draw_cohort(training, training.federation(), s))) for s in streams]


def test_a_round_without_clients_is_noised_like_any_other():
    """A model that stands still would tell that nobody was drawn."""
    clip = 0.01
    moved = _moved_without_learning([DPFedAvg(epsilon=None, noise_multiplier=2.0, clip_norm=clip)])
    expected = 2.0 * clip * 2**0.5  # two rounds, an expected cohort of one
    assert len(moved) > 500
    # The deviation of n draws is known to 1/√(2n), 3 % here; one round alone would give 71 %.
    assert moved.std().item() == pytest.approx(expected, rel=0.13)
    assert moved.abs().min() > 0


def test_a_round_without_clients_changes_nothing_where_no_noise_is_claimed():
    still = _moved_without_learning([DPFedAvg(epsilon=None, noise_multiplier=0.0)])
    assert still.abs().max() < 1e-6


def test_too_many_broken_updates_end_the_run_by_name():
    class _Broken(_Marker):
        value = float("nan")

    with pytest.raises(RunError, match="not finite"):
        _run(toy_training(attack=_Broken(), malicious=range(20)))


def test_a_few_broken_updates_are_counted_and_the_run_goes_on():
    class _Broken(_Marker):
        value = float("nan")

    outcome = _run(toy_training(attack=_Broken(), malicious=range(3), rounds=6))
    assert outcome.guard.rejected["not finite"] > 0
    assert torch.isfinite(outcome.released.table).all()


def test_a_training_without_a_single_update_is_an_error_and_no_result():
    training = toy_training()
    short = replace(training.domains[0], histories=[h[:1] for h in training.domains[0].histories])
    with pytest.raises(RunError, match="no round had an update"):
        _run(replace(training, domains=(short,)))


def test_zero_rounds_release_the_initial_model():
    training = toy_training(rounds=0)
    state = toy_state(training)
    assert torch.equal(federate(training, state).released.table, state.model.table)


def test_a_view_grants_nothing_that_the_threat_model_does_not_name():
    transcript = _run(toy_training()).transcript
    view = View(transcript, ThreatModel("outsider", frozenset()))
    for read in (
        view.messages,
        view.aggregates,
        lambda: view.model(0),
        lambda: view.catalogue,
        lambda: view.defense,
        lambda: view.own_histories,
    ):
        with pytest.raises(NotGranted):
            read()


def _close(one, two):
    torch.testing.assert_close(one.table, two.table, atol=1e-6, rtol=1e-6)
    for name, value in one.dense.items():
        torch.testing.assert_close(value, two.dense[name], atol=1e-6, rtol=1e-6)


def test_the_size_of_a_chunk_decides_memory_and_no_number():
    # SGD: under Adam the key bias, whose gradient is rounding noise, moves by a full step.
    runs = [_run(toy_training(optimizer="sgd", chunk_clients=n)) for n in (1, 4, 30)]
    for other in runs[1:]:
        _close(runs[0].released, other.released)
        assert other.bytes_up == pytest.approx(runs[0].bytes_up)


def test_one_step_rounds_give_the_same_numbers_summed_or_not():
    class _Looks(_Spy):
        def on_client(self, message, federation, seeds):
            assert isinstance(message, ModelUpdate)
            return message

    step = {"optimizer": "sgd", "local_epochs": 1, "clip_norm": 0.0, "record": ()}
    summed, single = (
        _run(toy_training(**step)),
        _run(toy_training(**step, defenses=[_Looks([], "eye")])),
    )
    _close(summed.released, single.released)
    assert summed.bytes_up == pytest.approx(single.bytes_up)
    assert summed.guard.received == single.guard.received


def test_a_chunk_comes_to_the_rule_before_the_next_is_trained():
    class _Pulls(_Spy):
        def aggregate(self, messages, federation):
            seen = []
            for message in messages:
                self.log.append(len(message))
                seen.append(message)
            return average(seen, federation.num_items, over_cohort=True)

    log: list = []
    training = toy_training(rounds=1, record=(), chunk_clients=4, defenses=[_Pulls(log, "p")])
    _run(training)
    kinds = ["rule" if isinstance(entry, int) else entry[1] for entry in log]
    assert kinds == ["client", "rule"] * 4 + ["server"]
    assert [entry for entry in log if isinstance(entry, int)] == [4, 4, 4, 3]


@pytest.mark.parametrize("fault", ["missing tensor", "other shape", "other clients"])
def test_an_attack_that_breaks_the_message_is_named(fault):
    class _Clumsy(_Marker):
        name = "clumsy"

        def craft(self, view, message, malicious, context, seeds):
            if fault == "missing tensor":
                dense = dict(list(message.dense.items())[1:])
                return replace(message, dense=dense)
            if fault == "other shape":
                return replace(message, dense={n: d[:, :1] for n, d in message.dense.items()})
            return message.select(~malicious)

    with pytest.raises(RunError, match="attack clumsy changed the form"):
        _run(toy_training(attack=_Clumsy(), malicious=range(10)))
