"""Negatives of a whole chunk, against one client at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.negatives import sample_negatives
from models.sequences import complement_sample

NUM_ITEMS = 12
HISTORIES = st.lists(
    st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=20), min_size=1, max_size=6
)


@given(HISTORIES, st.integers(0, 1000))
def test_each_client_gets_what_it_would_get_alone(histories, seed):
    draws = np.random.default_rng(seed).random((len(histories), 3, 4))
    found = sample_negatives(draws, [np.array(h) for h in histories], NUM_ITEMS)
    for client, history in enumerate(histories):
        had = np.unique(history)
        allowed = NUM_ITEMS - len(had)
        if not allowed:
            assert (found[client] == -1).all()
            continue
        ranks = (draws[client] * allowed).astype(np.int64)
        np.testing.assert_array_equal(found[client], complement_sample(ranks, had))
        assert not np.isin(found[client], had).any()


def test_all_allowed_items_are_equally_likely():
    histories = [np.array([0, 3, 3, 7]), np.array([11])]
    draws = (np.arange(9 * 11) + 0.5).reshape(1, 9, 11) / 99
    found = sample_negatives(np.repeat(draws, 2, 0), histories, NUM_ITEMS)
    for client, history in enumerate(histories):
        allowed = np.setdiff1d(np.arange(NUM_ITEMS), history)
        items, counts = np.unique(found[client], return_counts=True)
        np.testing.assert_array_equal(items, allowed)
        assert counts.max() - counts.min() <= 1
        assert counts.sum() == 99


def test_the_largest_draw_stays_inside():
    found = sample_negatives(np.full((1, 1, 1), np.nextafter(1, 0)), [np.array([11])], NUM_ITEMS)
    assert found.item() == 10
