"""LUMOS's losses against closed forms and a loop over users."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from models.lumos_objective import contrastive_loss, recommendation_loss

ALL = torch.ones(1, 3, dtype=torch.bool)


def _slow(states, temperature):
    """The formula of section 3, term by term."""
    anchor, future, rephrased, counterfactual = states
    sims = [
        math.exp(F.cosine_similarity(anchor, v, dim=0).item() / temperature)
        for v in (future, rephrased, counterfactual)
    ]
    return -math.log(sims[0] / sum(sims)) - math.log(sims[1] / sum(sims))


def test_equals_the_formula_term_by_term():
    states = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = contrastive_loss(states, ALL.expand(5, 3), 0.5)
    assert loss.tolist() == pytest.approx([_slow(s, 0.5) for s in states], rel=1e-9)


def test_lower_bound_is_two_log_two_when_positives_tie_and_the_negative_vanishes():
    anchor = torch.tensor([1.0, 0.0])
    states = torch.stack([anchor, anchor, anchor, -anchor]).unsqueeze(0)
    assert contrastive_loss(states, ALL, 0.07).item() == pytest.approx(2 * math.log(2), abs=1e-6)


def test_weight_zero_equals_an_absent_counterfactual():
    states = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(1))
    absent = torch.tensor([[True, True, False]])
    off = contrastive_loss(states, ALL, 0.07, counterfactual_weight=0.0)
    torch.testing.assert_close(off, contrastive_loss(states, absent, 0.07))


def test_weight_multiplies_the_counterfactual_in_the_partition():
    states = torch.zeros(1, 4, 2)
    states[..., 0] = 1.0
    loss = contrastive_loss(states, ALL, 1.0, counterfactual_weight=2.0)
    assert loss.item() == pytest.approx(2 * math.log(4))


def test_no_view_gives_zero_loss_and_zero_gradient():
    states = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(2), requires_grad=True)
    loss = contrastive_loss(states, torch.zeros(2, 3, dtype=torch.bool), 0.07)
    assert loss.tolist() == [0.0, 0.0]
    (gradient,) = torch.autograd.grad(loss.sum(), states)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_recommendation_loss_averages_real_positions_only():
    generator = torch.Generator().manual_seed(3)
    hidden, positive, negative = (torch.randn(2, 4, 3, generator=generator) for _ in range(3))
    loss = recommendation_loss(hidden, positive, negative, torch.tensor([5, 3]))
    for row, positions in ((0, 4), (1, 2)):
        terms = [
            math.log1p(math.exp(-(hidden[row, t] @ positive[row, t]).item()))
            + math.log1p(math.exp((hidden[row, t] @ negative[row, t]).item()))
            for t in range(positions)
        ]
        assert loss[row].item() == pytest.approx(sum(terms) / positions, rel=1e-5)
