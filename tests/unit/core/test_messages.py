"""Messages: norms that cannot overflow, rows by item, averaging against a slow dense twin."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.core.averaging import RunningSum, average, join_updates
from harness.core.messages import PAD, ModelUpdate, rows_by_item

NUM_ITEMS = 7


@st.composite
def updates(draw):
    num_clients = draw(st.integers(1, 5))
    sent = [
        draw(st.lists(st.integers(0, NUM_ITEMS - 1), unique=True, max_size=4))
        for _ in range(num_clients)
    ]
    row_ids = torch.full((num_clients, 4), PAD)
    for row, items in enumerate(sent):
        row_ids[row, : len(items)] = torch.tensor(items, dtype=torch.long)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    rows = torch.randn(num_clients, 4, 3, generator=generator)
    rows[row_ids == PAD] = 0
    dense = {"w": torch.randn(num_clients, 2, generator=generator)}
    return ModelUpdate(
        torch.arange(num_clients), dense, row_ids, rows, torch.ones(num_clients, dtype=torch.long)
    )


def _tables(update):
    """Each client's rows as a full table, and which rows it sent."""
    tables = torch.zeros(len(update), NUM_ITEMS, 3)
    sent = torch.zeros(len(update), NUM_ITEMS, dtype=torch.bool)
    for client in range(len(update)):
        for slot, item in enumerate(update.row_ids[client].tolist()):
            if item != PAD:
                tables[client, item] = update.rows[client, slot]
                sent[client, item] = True
    return tables, sent


@given(updates())
def test_rows_by_item_holds_every_sent_row_once(update):
    tables, sent = _tables(update)
    seen = torch.zeros_like(sent)
    for group in rows_by_item(update):
        for item, members, senders in zip(
            group.item_ids.tolist(), group.members, group.senders.tolist(), strict=True
        ):
            for value, client in zip(members, senders, strict=True):
                torch.testing.assert_close(value, tables[client, item])
                assert not seen[client, item]
                seen[client, item] = True
    assert torch.equal(seen, sent)


@given(updates(), st.booleans())
def test_average_equals_the_dense_mean(update, over_cohort):
    tables, sent = _tables(update)
    divisor = len(update) if over_cohort else sent.sum(0).clamp(min=1).unsqueeze(-1)
    result = average([update], NUM_ITEMS, over_cohort=over_cohort)
    full = torch.zeros(NUM_ITEMS, 3)
    full[result.row_ids] = result.rows
    torch.testing.assert_close(full, tables.sum(0) / divisor)
    torch.testing.assert_close(result.dense["w"], update.dense["w"].mean(0))
    assert sorted(result.row_ids.tolist()) == sent.any(0).nonzero().flatten().tolist()


@given(updates(), st.booleans())
def test_one_chunk_is_averaged_without_sums_in_double_to_the_same_bits(update, over_cohort):
    result = average([update], NUM_ITEMS, over_cohort=over_cohort)
    total = RunningSum(NUM_ITEMS, 3)
    total.add(update)
    slow = total.mean(torch.float32, over_cohort=over_cohort)
    assert torch.equal(result.row_ids, slow.row_ids)
    assert torch.equal(result.rows, slow.rows)
    assert torch.equal(result.dense["w"], slow.dense["w"])


def test_what_stands_in_padding_reaches_no_item():
    rows = torch.tensor([[[1.0], [torch.nan]], [[2.0], [3.0]]])
    row_ids = torch.tensor([[4, PAD], [0, 4]])
    dense = {"w": torch.zeros(2, 1)}
    update = ModelUpdate(torch.arange(2), dense, row_ids, rows, torch.ones(2))
    result = average([update], NUM_ITEMS, over_cohort=False)
    assert result.row_ids.tolist() == [0, 4] and result.rows.tolist() == [[2.0], [2.0]]


@given(updates(), st.randoms(use_true_random=False), st.booleans())
def test_joined_or_in_chunks_the_average_is_the_same(update, random, over_cohort):
    clients = update.clients.tolist()
    random.shuffle(clients)
    parts = [update.select(update.clients == c) for c in clients]
    joined = join_updates(parts)
    assert joined.clients.tolist() == clients
    one = average(parts, NUM_ITEMS, over_cohort=over_cohort)
    two = average([joined], NUM_ITEMS, over_cohort=over_cohort)
    assert torch.equal(one.row_ids, two.row_ids)
    torch.testing.assert_close(one.rows, two.rows)
    torch.testing.assert_close(one.dense["w"], two.dense["w"])


@given(updates(), st.randoms(use_true_random=False))
def test_ordered_puts_every_client_where_it_is_told(update, random):
    places = list(range(len(update)))
    random.shuffle(places)
    moved = update.ordered(torch.tensor(places))
    for client, place in enumerate(places):
        assert moved.clients[place] == update.clients[client]
        assert torch.equal(moved.rows[place], update.rows[client])
        assert torch.equal(moved.dense["w"][place], update.dense["w"][client])


def test_norms_do_not_overflow_in_float32():
    update = ModelUpdate(
        torch.arange(1),
        {"w": torch.full((1, 2), 1e30)},
        torch.full((1, 1), PAD),
        torch.zeros(1, 1, 3),
        torch.ones(1, dtype=torch.long),
    )
    assert update.norms().item() == pytest.approx(2**0.5 * 1e30)
