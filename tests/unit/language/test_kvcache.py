from __future__ import annotations

import pytest
import torch
from transformers.cache_utils import DynamicLayer

from harness.language.kvcache import GrowingLayer


@pytest.mark.parametrize("room", [0, 2, 50])
def test_a_growing_layer_holds_what_the_librarys_layer_holds(room: int) -> None:
    stream = torch.Generator().manual_seed(0)
    grown, plain = GrowingLayer(room), DynamicLayer()
    for step, width in enumerate([3, 1, 1, 4, 1]):
        rows = 5 if step < 3 else 2
        keys = torch.randn((rows, 2, width, 8), generator=stream)
        values = torch.randn((rows, 2, width, 8), generator=stream)
        for mine, theirs in zip(
            grown.update(keys, values), plain.update(keys, values), strict=True
        ):
            assert torch.equal(mine, theirs)
        assert grown.get_seq_length() == plain.get_seq_length()
        assert grown.get_mask_sizes(1) == plain.get_mask_sizes(1)
        if step == 2:
            for layer in (grown, plain):
                layer.batch_select_indices(torch.tensor([4, 1]))


def test_rows_that_share_a_prefix_do_not_share_what_follows() -> None:
    prefix = DynamicLayer()
    prefix.update(torch.ones((1, 1, 2, 3)), torch.ones((1, 1, 2, 3)))
    layer = GrowingLayer(4)
    layer.fill_from(prefix, 2)
    new = torch.arange(6.0).reshape(2, 1, 1, 3)
    keys, _ = layer.update(new, new)
    assert keys.shape == (2, 1, 3, 3)
    assert torch.equal(keys[:, :, -1:], new)
    assert torch.equal(keys[:, :, :2], torch.ones((2, 1, 2, 3)))
    assert prefix.get_seq_length() == 2
