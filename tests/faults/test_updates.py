"""Rows 43 to 55 of the table of faults: what clients send, and what becomes of it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from attacks.sign_flip import SignFlip
from harness.core.errors import RunError
from harness.core.messages import PAD, EmbeddingUpload, Form, ModelSum, ModelUpdate
from harness.fed.checkpoint import Checkpoints
from harness.fed.guard import GuardRecord, admit, within_ratio
from harness.fed.loop import federate
from tests.faults.thirds import CLIENTS, CODES, Codebook, Codes, Halves, Sets, training
from tests.unit.fed.toy import toy_state, toy_training

ITEMS, DIM = 9, 2
FORM = Form.like(
    ModelUpdate.of_nobody({"w": torch.zeros(2), "v": torch.zeros(3, 2)}, torch.zeros(ITEMS, DIM)),
    below={"row_ids": ITEMS},
)
UPLOADS = Form.like(
    EmbeddingUpload(torch.zeros(0, dtype=torch.int64), torch.zeros(0, DIM)), rows={0: 2, 1: 3}
)


def update(clients=(4, 5, 6)) -> ModelUpdate:
    n = len(clients)
    return ModelUpdate(
        clients=torch.tensor(clients, dtype=torch.int64),
        dense={"w": torch.ones(n, 2), "v": torch.ones(n, 3, 2)},
        row_ids=torch.tensor([[0, 1, PAD]] * n, dtype=torch.int64).reshape(n, 3),
        rows=torch.ones(n, 3, DIM),
        num_examples=torch.full((n,), 3),
    )


def upload() -> EmbeddingUpload:
    return EmbeddingUpload(torch.tensor([0, 0, 1, 1, 1]), torch.ones(5, DIM))


def judged(message, form=FORM, invited=None, seen=None):
    record = GuardRecord()
    kept = admit(message, 7, record, set() if seen is None else seen, form, invited)
    return kept, record


# Rows 43 to 46: numbers.


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30, -1e30])
@pytest.mark.parametrize("place", ["w", "v", "rows"])
def test_a_bad_number_refuses_its_sender_alone(value, place):
    message = update()
    (message.rows if place == "rows" else message.dense[place])[1].view(-1)[-1] = value
    kept, record = judged(message)
    assert kept.clients.tolist() == [4, 6]
    assert record.offenders == [
        (7, 5, "too large" if math.isfinite(value) else "not finite"),
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_a_bad_vector_refuses_the_upload_of_its_domain(value):
    message = upload()
    message.vectors[3, 1] = value
    kept, record = judged(message, UPLOADS)
    assert kept.domain.tolist() == [0, 0]
    assert record.received == 2 and [client for _, client, _ in record.offenders] == [1]


@pytest.mark.parametrize("value", [1e30, 1e200, 1e-200])
def test_norms_neither_overflow_nor_vanish(value):
    message = update()
    double = replace(
        message,
        dense={n: d.double() * value for n, d in message.dense.items()},
        rows=message.rows.double() * value,
    )
    torch.testing.assert_close(double.norms() / value, message.norms(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45])
def test_zeros_and_denormals_are_accepted(value):
    message = update()
    message.dense["w"][1] = value
    message.rows[1] = value
    assert judged(message)[0] is message


# Row 47: form.

MISSHAPEN = {
    "missing tensor": lambda m: replace(m, dense={"w": m.dense["w"]}),
    "no dense at all": lambda m: replace(m, dense={}),
    "extra tensor": lambda m: replace(m, dense={**m.dense, "x": torch.ones(3, 1)}),
    "other shape": lambda m: replace(m, dense={**m.dense, "w": torch.ones(3, 5)}),
    "other axes": lambda m: replace(m, dense={**m.dense, "w": torch.ones(3)}),
    "other dtype": lambda m: replace(m, dense={**m.dense, "w": torch.ones(3, 2).double()}),
    "half": lambda m: replace(m, rows=m.rows.half()),
    "complex": lambda m: replace(m, dense={**m.dense, "w": torch.ones(3, 2) * 1j}),
    "whole numbers": lambda m: replace(m, rows=m.rows.long()),
    "wider rows": lambda m: replace(m, rows=torch.ones(3, 3, DIM + 1)),
    "fewer slots": lambda m: replace(m, rows=m.rows[:, :2]),
    "flat ids": lambda m: replace(m, row_ids=m.row_ids[:, 0]),
    "ids as floats": lambda m: replace(m, row_ids=m.row_ids.float()),
    "counts as floats": lambda m: replace(m, num_examples=torch.full((3,), math.nan)),
    "more clients than rows": lambda m: replace(m, clients=torch.tensor([4, 5, 6, 7])),
    "clients as floats": lambda m: replace(m, clients=m.clients.float()),
    "sparse": lambda m: replace(m, dense={**m.dense, "w": m.dense["w"].to_sparse()}),
    "no tensor": lambda m: replace(m, rows=[1, 2, 3]),
    "nothing": lambda m: replace(m, dense=None),
    "a number": lambda m: replace(m, num_examples=torch.tensor(3)),
    "without numbers": lambda m: replace(m, rows=torch.ones(3, 3, DIM, device="meta")),
}


@pytest.mark.parametrize("fault", MISSHAPEN)
def test_a_misshapen_message_is_refused_with_every_client_named(fault):
    kept, record = judged(MISSHAPEN[fault](update()))
    assert len(kept) == 0
    assert sum(record.rejected.values()) == record.received >= 1
    if fault not in ("more clients than rows", "clients as floats"):
        assert [client for _, client, _ in record.offenders] == [4, 5, 6]
    assert all(reason for _, _, reason in record.offenders)


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ([0, ITEMS, PAD], "row_ids out of range"),
        ([0, 2**62, PAD], "row_ids out of range"),
        ([-2, 1, PAD], "row_ids out of range"),
        ([-(2**62), 1, PAD], "row_ids out of range"),
        ([1, 1, PAD], "row repeated"),
    ],
)
def test_an_impossible_row_id_refuses_its_sender_alone(ids, reason):
    message = update()
    message.row_ids[1] = torch.tensor(ids)
    kept, record = judged(message)
    assert kept.clients.tolist() == [4, 6]
    assert record.offenders == [(7, 5, reason)]


def test_a_message_of_another_kind_is_refused():
    kept, record = judged(upload())
    assert len(kept) == 0 and record.rejected.total() == 2
    assert "EmbeddingUpload where a ModelUpdate" in record.offenders[0][2]


@pytest.mark.parametrize("broken", [update(()), replace(update(()), dense={})])
def test_an_empty_message_changes_nothing(broken):
    kept, record = judged(broken)
    assert len(kept) == 0 and record == GuardRecord()


@pytest.mark.parametrize(
    ("domain", "refused"),
    [([0, 0, 1, 1, 1], 0), ([0, 0, 1, 1, 1, 1], 1), ([0, 1, 1, 1], 1), ([0, 0, 7, 7, 7], 1)],
)
def test_an_upload_has_one_vector_for_each_item(domain, refused):
    message = EmbeddingUpload(torch.tensor(domain), torch.ones(len(domain), DIM))
    _, record = judged(message, UPLOADS)
    assert record.rejected.total() == refused


def test_an_upload_of_another_width_or_order_is_refused():
    wide = EmbeddingUpload(upload().domain, torch.ones(5, DIM + 1))
    mixed = EmbeddingUpload(torch.tensor([0, 1, 0, 1, 1]), torch.ones(5, DIM))
    for message in (wide, mixed):
        kept, record = judged(message, UPLOADS)
        assert len(kept) == 0 and record.rejected.total() == 2


def _sum(**changes):
    total = ModelSum(
        clients=torch.tensor([4, 5]),
        dense={"w": torch.ones(2), "v": torch.ones(3, 2)},
        item_ids=torch.tensor([0, 1]),
        rows=torch.ones(2, DIM),
        senders=torch.tensor([1, 2]),
        num_examples=torch.tensor([3, 3]),
    )
    return replace(total, **changes)


SUMS = {
    "missing tensor": {"dense": {"w": torch.ones(2)}},
    "other shape": {"dense": {"w": torch.ones(3), "v": torch.ones(3, 2)}},
    "other dtype": {"dense": {"w": torch.ones(2).double(), "v": torch.ones(3, 2)}},
    "wide rows": {"rows": torch.ones(2, DIM + 1)},
    "row missing": {"rows": torch.ones(1, DIM)},
    "id too large": {"item_ids": torch.tensor([0, ITEMS])},
    "id negative": {"item_ids": torch.tensor([-1, 0])},
    "id twice": {"item_ids": torch.tensor([1, 1])},
    "client twice": {"clients": torch.tensor([4, 4])},
    "NaN": {"rows": torch.full((2, DIM), math.nan)},
}


@pytest.mark.parametrize("fault", SUMS)
def test_a_broken_sum_is_refused_with_all_its_clients(fault):
    kept, record = judged(_sum(**SUMS[fault]))
    assert len(kept) == 0 and record.rejected.total() == record.received == 2
    assert len(judged(_sum())[0]) == 2


# Rows 48 and 49: counts, and who sends when.


@pytest.mark.parametrize("count", [0, -3, 10**12, -(2**63), 2**63 - 1])
def test_an_impossible_number_of_examples_refuses_its_sender(count):
    message = update()
    message.num_examples[1] = count
    assert judged(message)[0].clients.tolist() == [4, 6]


def test_a_claimed_number_of_examples_gives_no_weight():
    modest, boastful = update(), update()
    boastful.num_examples[0] = 999_999
    from harness.core.averaging import average

    one, two = (average([m], ITEMS, over_cohort=True) for m in (modest, boastful))
    assert torch.equal(one.rows, two.rows) and torch.equal(one.dense["w"], two.dense["w"])


def test_of_two_updates_of_one_client_the_first_valid_one_counts():
    message = update((4, 5, 5, 5))
    message.rows[1] = math.nan
    message.rows[3] = 7
    kept, record = judged(message)
    assert kept.clients.tolist() == [4, 5] and float(kept.rows[1].max()) == 1
    assert record.rejected == {"not finite": 1, "sent twice": 1}


def test_a_client_that_was_not_drawn_or_does_not_exist_is_refused():
    kept, record = judged(update((4, 99, -7)), invited={4, 5})
    assert kept.clients.tolist() == [4]
    assert record.rejected == {"not invited": 2}


# The bound relative to the cohort.


def _chunks(lengths, size=3):
    message = update(tuple(range(len(lengths))))
    factor = torch.tensor(lengths, dtype=torch.float32)
    whole = message.scaled(factor / message.norms().float())
    places = torch.arange(len(lengths))
    return [whole.select(part) for part in places.split(size)]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_one_client_at_nine_hundred_thousand_is_refused_whatever_the_chunks(size):
    lengths = [0.5, 1.0, 2.0, 1.0, 9e5, 1.5, 0.8]
    record = GuardRecord()
    chunks = [judged(chunk)[0] for chunk in _chunks(lengths, size)]
    assert sum(map(len, chunks)) == 7, "the absolute bound lets it through"
    kept = list(within_ratio(chunks, 10.0, 7, record))
    assert ModelUpdate.join(kept).clients.tolist() == [0, 1, 2, 3, 5, 6]
    assert record.offenders == [(7, 4, "far longer than the cohort's median")]


@pytest.mark.parametrize("lengths", [[1.0, 2.0, 9.9], [1.0, 9e5], [0.0, 0.0, 0.0, 5.0], []])
def test_honest_small_and_silent_cohorts_pass_whole(lengths):
    chunks, record = _chunks(lengths) if lengths else [], GuardRecord()
    assert list(within_ratio(chunks, 10.0, 0, record)) == chunks
    assert not record.rejected


def test_the_median_of_an_even_cohort_is_between_its_middle_two():
    record = GuardRecord()
    kept = list(within_ratio(_chunks([1.0, 1.0, 3.0, 3.9], 9), 2.0, 0, record))
    assert len(kept[0]) == 4 and not record.rejected


def test_a_training_under_the_bound_stands_what_ruins_it_without():
    attack = {"attack": SignFlip(scale=9e5), "malicious": (1, 2, 3)}
    free = federate(toy_training(**attack), toy_state(toy_training(**attack)))
    bound = replace(toy_training(**attack), norm_ratio=20.0)
    outcome = federate(bound, toy_state(bound))
    assert outcome.guard.rejected["far longer than the cohort's median"] >= 1
    assert outcome.released.table.abs().max() < 10 < free.released.table.abs().max()


def test_the_bound_changes_no_number_of_an_honest_training():
    free, bound = toy_training(), replace(toy_training(), norm_ratio=100.0)
    one, two = (federate(t, toy_state(t)) for t in (free, bound))
    torch.testing.assert_close(one.released.table, two.released.table, rtol=1e-5, atol=1e-6)
    assert not two.guard.rejected


# Row 51: nothing is left.


def test_rounds_of_which_nothing_is_left_change_nothing_and_end_the_run_by_number():
    system = Codes(rounds=9)
    broken = training(
        attack=Sets(math.nan), malicious=range(CLIENTS), system=system, reject_share=1.0
    )
    with pytest.raises(RunError, match=r"3 rounds in a row.*24 not finite.*limits.refused_rounds"):
        federate(broken, torch.zeros(4))


def test_one_round_of_which_nothing_is_left_leaves_the_model_as_it_was():
    class Once(Sets):
        def craft(self, view, message, malicious, context, seeds):
            self.value = math.nan if context.round_index == 1 else 1.0
            return super().craft(view, message, malicious, context, seeds)

    outcome = federate(
        training(attack=Once(), malicious=range(CLIENTS), reject_share=1.0), torch.zeros(4)
    )
    assert outcome.released.tolist() == [2.0] * 4
    assert outcome.guard.empty_rounds == 1 and outcome.guard.refused_rounds == 0
    assert [record.index for record in outcome.transcript.rounds] == [0, 2]


# A kind of message that nobody has heard of (design: rooms don't list kinds).


def test_a_third_kind_is_recorded_whole():
    outcome = federate(training(), torch.zeros(4))
    assert [len(record.message) for record in outcome.transcript.rounds] == [CLIENTS] * 3
    assert outcome.guard.received == 3 * CLIENTS
    assert outcome.bytes_up == 8 + 8 + 16


def test_a_third_kind_is_attacked_whole():
    attack = Sets(100.0)
    outcome = federate(training(attack=attack, malicious=(0, 7)), torch.zeros(4))
    assert attack.shown == [(CLIENTS, CLIENTS)] * 3
    message = outcome.transcript.rounds[0].message
    honest = torch.arange(4.0) + torch.arange(CLIENTS)[:, None]
    honest[[0, 7]] = 100.0
    assert torch.equal(message.moves["centre"], honest)
    assert torch.equal(outcome.transcript.rounds[0].aggregate.centres, honest.mean(0))


def test_malicious_clients_of_a_third_kind_skip_the_client_stage():
    quiet = Sets(8.0)
    outcome = federate(training(attack=quiet, malicious=(2,), defenses=(Halves(),)), torch.zeros(4))
    sent = outcome.transcript.rounds[0].message.moves["centre"]
    assert sent[2].tolist() == [8.0] * 4
    assert sent[1].tolist() == [0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e9])
def test_a_third_kind_is_guarded(value):
    outcome = federate(training(attack=Sets(value), malicious=(5,)), torch.zeros(4))
    assert outcome.guard.rejected.total() == 3
    assert {client for _, client, _ in outcome.guard.offenders} == {5}
    assert outcome.released.isfinite().all()


def test_ids_of_a_third_kind_are_held_against_the_announced_range():
    message = Codes().message([0, 1, 2])
    message.codes[1] = CODES
    kept, record = judged(message, Codes().form(torch.zeros(4)))
    assert kept.clients.tolist() == [0, 2]
    assert record.rejected == {"codes out of range": 1}


def test_a_third_kind_is_kept_in_checkpoints(tmp_path):
    whole = federate(training(), torch.zeros(4))
    checkpoints = Checkpoints(tmp_path, {"training": "x"}, lambda text: None, seconds=0)
    federate(training(), torch.zeros(4), checkpoints)
    said: list[str] = []
    again = federate(
        training(), torch.zeros(4), Checkpoints(tmp_path, {"training": "x"}, said.append)
    )
    assert said == ["going on after round 3"]
    assert torch.equal(again.released, whole.released)
    for one, two in zip(again.transcript.rounds, whole.transcript.rounds, strict=True):
        assert torch.equal(one.message.moves["centre"], two.message.moves["centre"])
        assert isinstance(one.aggregate, Codebook)


def test_an_attack_that_breaks_a_third_kind_is_named():
    class Clumsy(Sets):
        name = "clumsy"

        def craft(self, view, message, malicious, context, seeds):
            return replace(message, moves={})

    with pytest.raises(RunError, match=r"attack clumsy changed the form.*moves.centre is missing"):
        federate(training(attack=Clumsy(), malicious=(5,)), torch.zeros(4))


def test_a_client_stage_that_breaks_the_form_ends_the_run_by_name():
    class Breaks(Halves):
        def on_client(self, message, federation, seeds):
            return replace(message, moves={"centre": message.moves["centre"].double()})

    with pytest.raises(RunError, match=r"8 of 8 updates were rejected.*float64, not float32"):
        federate(training(defenses=(Breaks(),)), torch.zeros(4))
