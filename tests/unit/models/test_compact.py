"""Renumbering must be a bijection between a client's distinct items and its rows."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.core.messages import PAD
from models.compact import compact


@given(st.lists(st.lists(st.integers(0, 12), min_size=5, max_size=5), min_size=1, max_size=4))
def test_rows_are_the_distinct_items_and_tokens_find_them(ids):
    tokens = torch.tensor(ids)
    row_ids, index = compact(tokens)
    assert torch.equal(row_ids.gather(1, index), tokens)
    for row, client in zip(row_ids.tolist(), ids, strict=True):
        assert [r for r in row if r != PAD] == sorted(set(client))
