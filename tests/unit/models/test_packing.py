"""The packed layout must give what four separate passes give, for every encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.core.seeds import Seeds
from models.backbone import build_backbone, initial_table
from models.packing import collate, collate_histories, pack_user
from models.sequences import causal_layout

NUM_ITEMS = 30


def _backbone(name):
    return build_backbone(name, embedding_size=8, num_blocks=2, num_heads=2, max_positions=16)


def _last_state(backbone, dense, table, sequence):
    layout, last = causal_layout([np.array(sequence)], 16)
    return backbone.hidden(dense, table[layout.ids], layout)[0, last[0]]


@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
def test_packed_states_equal_separate_passes(name):
    backbone = _backbone(name)
    dense, table = backbone.initial(Seeds(1)), initial_table(NUM_ITEMS, 8, Seeds(1))
    cases = [
        ([1, 2, 3, 4, 5], [6, 7], [1, 2, 9, 4, 8], [20, 21, 22]),
        ([3, 1], [4], [7, 1], [9]),
        ([5, 6, 7, 8, 9, 10, 11], [1, 2, 3, 4, 5], [5, 6, 7, 8, 9, 10, 12], [13]),
    ]
    batch = collate([pack_user(*case) for case in cases])
    hidden = backbone.hidden(dense, table[batch.layout.ids], batch.layout)
    for row, (history, future, rephrased, counterfactual) in enumerate(cases):
        separate = [history, history + future, rephrased, counterfactual]
        for view, sequence in enumerate(separate):
            expected = _last_state(backbone, dense, table, sequence)
            torch.testing.assert_close(
                hidden[row, batch.ends[row, view]], expected, atol=2e-6, rtol=1e-5
            )


def test_history_states_do_not_see_the_views():
    backbone = _backbone("sasrec")
    dense, table = backbone.initial(Seeds(2)), initial_table(NUM_ITEMS, 8, Seeds(2))
    states = []
    for future in ([6, 7], [20]):
        batch = collate([pack_user([1, 2, 3], future, [1, 9, 3], [4])])
        states.append(backbone.hidden(dense, table[batch.layout.ids], batch.layout)[0, :3])
    torch.testing.assert_close(states[0], states[1])


def test_absent_views_leave_no_tokens_and_no_flag():
    user = pack_user([1, 2, 3], None, [1, 2, 3], [])
    assert user.present == (False, False, False)
    assert user.ids.tolist() == [1, 2, 3]


def test_padding_adds_no_item_that_the_user_does_not_have():
    batch = collate([pack_user([7, 8], None, None, None), pack_user([1, 2, 3], [4], None, [5])])
    assert set(batch.layout.ids[0].tolist()) == {7, 8}


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 5))
def test_every_token_attends_to_itself_and_to_nothing_later_in_its_sequence(history, cut):
    rephrased = [*history[:cut], *[i + 10 for i in history[cut:]]]
    batch = collate([pack_user(history, [20], rephrased, [21, 22])])
    mask, position = batch.layout.mask[0], batch.layout.positions[0]
    assert mask.diagonal().all()
    query, key = mask.nonzero(as_tuple=True)
    assert (position[key] <= position[query]).all()


@given(st.lists(st.lists(st.integers(0, 29), min_size=1, max_size=9), min_size=1, max_size=5))
def test_histories_alone_are_packed_as_users_without_views_are(histories):
    one = collate([pack_user(history[-6:], None, None, None) for history in histories])
    two = collate_histories([np.array(history) for history in histories], 6)
    for name in ("ends", "present", "lengths", "in_history"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    for name in ("ids", "positions", "parent"):
        assert torch.equal(getattr(one.layout, name), getattr(two.layout, name)), name
    shared = two.layout.mask.expand_as(one.layout.mask)
    assert torch.equal(one.layout.mask[one.in_history], shared[two.in_history])
    assert bool(shared.any(2).all())
