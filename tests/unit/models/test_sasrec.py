"""SASRec: shared and per-sequence weights agree; the encoder is causal; sampling avoids history."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.core.seeds import Seeds
from models.backbone import SequenceModel, build_backbone, initial_table
from models.sequences import causal_layout, complement_sample


def _model(name="sasrec"):
    backbone = build_backbone(name, embedding_size=8, num_blocks=2, num_heads=2, max_positions=10)
    return SequenceModel(
        backbone, backbone.initial(Seeds(3)), initial_table(20, 8, Seeds(3)), max_length=10
    )


@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
def test_one_copy_a_client_equals_shared_weights(name):
    model = _model(name)
    layout, _ = causal_layout([np.array([1, 2, 3]), np.array([4, 5])], 10)
    shared = model.backbone.hidden(model.dense, model.table[layout.ids], layout)
    copies = {n: p.unsqueeze(0).expand(2, *p.shape) for n, p in model.dense.items()}
    each = model.backbone.hidden(copies, model.table[layout.ids], layout)
    torch.testing.assert_close(each, shared, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
def test_a_later_item_never_changes_an_earlier_state(name):
    model = _model(name)
    states = []
    for tail in (7, 8):
        layout, _ = causal_layout([np.array([1, 2, 3, tail])], 10)
        states.append(model.backbone.hidden(model.dense, model.table[layout.ids], layout)[0, :3])
    torch.testing.assert_close(states[0], states[1])


def test_a_state_does_not_depend_on_the_batch_around_it():
    model = _model()
    alone = model.encode([[1, 2, 3]])
    together = model.encode([[4], [1, 2, 3], list(range(10)), []])
    torch.testing.assert_close(together[1], alone[0], atol=1e-6, rtol=1e-5)
    assert torch.equal(together[3], torch.zeros(8))


def test_only_the_most_recent_items_count():
    model = _model()
    long = list(range(15))
    torch.testing.assert_close(model.encode([long]), model.encode([long[-10:]]))


@given(st.sets(st.integers(0, 11), min_size=0, max_size=11))
def test_complement_sample_covers_exactly_the_items_not_excluded(excluded):
    allowed = sorted(set(range(12)) - excluded)
    draws = complement_sample(np.arange(len(allowed)), np.array(sorted(excluded), dtype=np.int64))
    assert draws.tolist() == allowed
