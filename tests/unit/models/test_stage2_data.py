"""Stage 2's training moments: only training items, none twice, bounded, the same for a seed."""

from __future__ import annotations

import numpy as np

from harness.core.seeds import Seeds
from models.backbone import SequenceModel, build_backbone, initial_table
from models.stage2_data import draw_questions

HISTORIES = (np.array([1, 2, 3, 4]), np.array([5]), np.array([6, 7, 8]))


def _model():
    backbone = build_backbone(
        "sasrec", embedding_size=4, num_blocks=1, num_heads=1, max_positions=8
    )
    return SequenceModel(backbone, backbone.initial(Seeds(0)), initial_table(9, 4, Seeds(0)), 8)


def test_every_moment_once_when_there_is_room():
    questions = draw_questions(_model(), HISTORIES, 100, Seeds(1))
    pairs = {(tuple(h), t) for h, t in zip(questions.history, questions.target, strict=True)}
    assert pairs == {
        ((1,), 2),
        ((1, 2), 3),
        ((1, 2, 3), 4),
        ((6,), 7),
        ((6, 7), 8),
    }
    assert len(questions) == 5


def test_state_belongs_to_the_history_before_the_moment():
    model = _model()
    questions = draw_questions(model, HISTORIES, 100, Seeds(1))
    for state, history in zip(questions.state, questions.history, strict=True):
        assert np.allclose(state, model.encode([history])[0], atol=1e-6)


def test_a_bound_keeps_a_seeded_subset():
    first = draw_questions(_model(), HISTORIES, 3, Seeds(1))
    again = draw_questions(_model(), HISTORIES, 3, Seeds(1))
    assert len(first) == 3 and first.history == again.history


def test_negatives_will_avoid_everything_the_user_had():
    questions = draw_questions(_model(), HISTORIES, 100, Seeds(1))
    for history, target, seen in zip(
        questions.history, questions.target, questions.seen, strict=True
    ):
        assert {*history, target} <= seen
