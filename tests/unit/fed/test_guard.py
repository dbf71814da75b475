"""Every fault in an update is refused, counted and named; the rest of the cohort goes on."""

from __future__ import annotations

import math

import pytest
import torch

from harness.core.errors import RunError
from harness.core.messages import PAD, ModelSum, ModelUpdate
from harness.fed.guard import GuardRecord, admit


def _update(clients=(4, 5, 6)):
    n = len(clients)
    return ModelUpdate(
        clients=torch.tensor(clients),
        dense={"w": torch.ones(n, 2)},
        row_ids=torch.tensor([[0, 1, PAD]] * n),
        rows=torch.ones(n, 3, 2),
        num_examples=torch.full((n,), 3),
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("place", ["dense", "rows"])
def test_a_bad_number_rejects_its_sender_only(value, place):
    update = _update()
    (update.dense["w"] if place == "dense" else update.rows)[1].view(-1)[0] = value
    record = GuardRecord()
    kept = admit(update, 7, record, set())
    assert kept.clients.tolist() == [4, 6]
    assert sum(record.rejected.values()) == 1 and record.received == 3
    assert record.offenders[0][:2] == (7, 5)


def test_a_second_update_of_one_client_is_refused():
    record = GuardRecord()
    assert admit(_update((4, 5, 4)), 0, record, set()).clients.tolist() == [4, 5]
    assert record.rejected == {"sent twice": 1}


def test_a_client_that_sent_in_an_earlier_chunk_is_refused():
    record, seen = GuardRecord(), set()
    admit(_update((4, 5)), 0, record, seen)
    assert admit(_update((5, 6)), 0, record, seen).clients.tolist() == [6]
    assert record.rejected == {"sent twice": 1}


@pytest.mark.parametrize("count", [0, -3, 10**12])
def test_an_absurd_number_of_examples_is_refused(count):
    update, record = _update(), GuardRecord()
    update.num_examples[1] = count
    assert admit(update, 0, record, set()).clients.tolist() == [4, 6]
    assert record.offenders[0][:2] == (0, 5)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_a_broken_sum_is_refused_with_all_its_clients(value):
    total = ModelSum(
        torch.tensor([4, 5]),
        {"w": torch.tensor([value, 0.0])},
        torch.tensor([0, 1]),
        torch.ones(2, 2),
        torch.tensor([1, 1]),
        torch.tensor([3, 3]),
    )
    record = GuardRecord()
    assert len(admit(total, 0, record, set())) == 0
    assert record.rejected == {"not finite or too large in sum": 2}


def test_a_row_sent_twice_and_a_count_of_zero_are_refused():
    update = _update()
    update.row_ids[0] = torch.tensor([1, 1, PAD])
    update.num_examples[2] = 0
    record = GuardRecord()
    assert admit(update, 0, record, set()).clients.tolist() == [5]
    assert record.rejected == {"row repeated": 1, "no examples": 1}


def test_a_clean_message_passes_unchanged():
    update = _update()
    assert admit(update, 0, GuardRecord(), set()) is update


def test_the_run_fails_beyond_the_declared_share_only():
    record = GuardRecord(received=10)
    record.rejected["not finite"] = 5
    record.check(0.5, 3)
    with pytest.raises(RunError, match="5 of 10 updates were rejected"):
        record.check(0.49, 3)
