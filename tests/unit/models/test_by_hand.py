"""Layers differentiated by hand against autograd, on the same weights."""

from __future__ import annotations

import pytest
import torch

from harness.core.client_weight import ClientWeight
from harness.core.seeds import Seeds
from models.by_hand import Attention, Chain, Linear, Norm, through
from models.lumos_objective import recommendation_loss
from models.sasrec import SASRec
from models.sequences import Layout, causal_mask

CLIENTS, TOKENS, DIM = 3, 6, 8
EXACT = {"atol": 1e-12, "rtol": 1e-10}


@pytest.fixture
def draw():
    """Numbers from a stream of the test's own."""
    stream = Seeds(0).torch("by hand")
    return lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=stream)


def _layout(branches):
    steps = torch.arange(TOKENS).expand(CLIENTS, TOKENS)
    mask = causal_mask(TOKENS)
    if branches:
        # Two branches off one trunk of two tokens, a client each its own.
        mask = mask.repeat(CLIENTS, 1, 1)
        mask[:, 4:, 2:4] = False
        mask[1, 3, 2] = False
    return Layout(torch.zeros_like(steps), steps, mask, steps - 1)


@pytest.fixture
def sasrec(draw):
    """An encoder, and weights at which nothing is zero or one."""
    encoder = SASRec(embedding_size=DIM, num_blocks=2, num_heads=2, max_positions=TOKENS)
    initial = encoder.initial(Seeds(0))
    return encoder, {name: p.double() + 0.3 * draw(*p.shape) for name, p in initial.items()}


def _by_autograd(encoder, dense, embedded, layout, weights):
    """States, and the gradients of the embedded tokens and of each client's parameters."""
    copies = {n: p.repeat(CLIENTS, *[1] * p.dim()).requires_grad_() for n, p in dense.items()}
    states = encoder.hidden(copies, embedded, layout)
    gradients = torch.autograd.grad((states * weights).sum(), [embedded, *copies.values()])
    return states, gradients[0], dict(zip(copies, gradients[1:], strict=True))


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("branches", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_the_encoder_gives_the_states_and_gradients_of_autograd(
    sasrec, own, branches, at_once, draw
):
    encoder, dense = sasrec
    layout, embedded = _layout(branches), draw(CLIENTS, TOKENS, DIM).requires_grad_()
    weights = draw(CLIENTS, TOKENS, DIM)
    expected = _by_autograd(encoder, dense, embedded, layout, weights)

    anchor = torch.zeros((), dtype=torch.float64, requires_grad=True)
    factored = {n: ClientWeight(dense[n], CLIENTS, anchor) for n in encoder.factored()}
    plain = {
        n: p.repeat(CLIENTS, 1).requires_grad_() for n, p in dense.items() if n not in factored
    }
    for weight in factored.values():
        if own:  # as after a first step
            weight._owned()
        if at_once:
            weight.step_at_once(1.0)
    states = encoder.hidden({**plain, **factored}, embedded, layout)
    wanted = [embedded, anchor, *plain.values()]
    found = torch.autograd.grad((states * weights).sum(), wanted, materialize_grads=True)

    torch.testing.assert_close(states, expected[0], **EXACT)
    torch.testing.assert_close(found[0], expected[1], **EXACT)
    for name, gradient in zip(plain, found[2:], strict=True):
        torch.testing.assert_close(gradient, expected[2][name], **EXACT)
    for name, weight in factored.items():
        weight.step(1.0)
        torch.testing.assert_close(weight.deltas(), expected[2][name], **EXACT)


def test_adam_dropout_and_shared_weights_go_the_way_of_autograd(sasrec, draw):
    encoder, dense = sasrec
    embedded = draw(CLIENTS, TOKENS, DIM).requires_grad_()
    anchor = torch.zeros((), dtype=torch.float64, requires_grad=True)
    mixed = {**dense, **{n: ClientWeight(dense[n], CLIENTS, anchor) for n in encoder.factored()}}
    each = {n: p.repeat(CLIENTS, 1) if isinstance(p, torch.Tensor) else p for n, p in mixed.items()}
    copies = {n: p.repeat(CLIENTS, *[1] * p.dim()) for n, p in dense.items()}  # as Adam has them
    generator = torch.Generator().manual_seed(0)
    ways = {"client weights": (each, 0.0), "dropout": (each, 0.5), "Adam": (copies, 0.0)}
    ways["shared"] = dense, 0.0
    nodes = {}
    for case, (parameters, dropout) in ways.items():
        states = encoder.hidden(parameters, embedded, _layout(False), dropout, generator)
        assert states.grad_fn is not None
        nodes[case] = states.grad_fn.name()
    assert [case for case, node in nodes.items() if node == "_ByHandBackward"] == ["client weights"]


def test_attention_through_a_nested_graph_is_the_same(draw):
    """The way of devices other than a CPU."""
    inputs = [draw(CLIENTS, TOKENS, DIM) for _ in range(3)]
    gradient = draw(CLIENTS, TOKENS, DIM)
    mask = torch.zeros(1, 1, TOKENS, TOKENS, dtype=torch.float64)
    mask = mask.masked_fill(~causal_mask(TOKENS), -torch.inf)
    here, elsewhere = Attention(2, mask), Attention(2, mask)
    torch.testing.assert_close(here.forward(*inputs), elsewhere._by_autograd(*inputs), **EXACT)
    for one, two in zip(here.backward(gradient), elsewhere.backward(gradient), strict=True):
        torch.testing.assert_close(one, two, **EXACT)


def test_a_gradient_is_added_onto_what_is_there(draw):
    x, gradient, onto = (draw(CLIENTS, TOKENS, DIM) for _ in range(3))
    for products, tolerance in ((None, EXACT), (torch.bfloat16, {"atol": 0.2, "rtol": 0.02})):
        for own in (False, True):
            weight = ClientWeight(draw(DIM, DIM), CLIENTS, torch.zeros(()), products)
            if own:
                weight._owned()
            layer = Linear(weight, torch.zeros(CLIENTS, DIM, dtype=torch.float64))
            layer.forward(x)
            total = onto.clone()
            assert layer.backward(gradient, total) is total
            torch.testing.assert_close(total, onto + gradient @ weight.start.T, **tolerance)


def test_nothing_is_kept_after_the_backward_pass(draw):
    norms = [Norm(torch.ones(CLIENTS, DIM), torch.zeros(CLIENTS, DIM)) for _ in range(2)]
    x = draw(CLIENTS, TOKENS, DIM).float().requires_grad_()
    states = through(Chain([*norms]), x)
    assert all(norm._kept for norm in norms)
    states.sum().backward()
    assert not any(norm._kept for norm in norms)


def test_the_loss_of_pairs_is_differentiated_right(draw):
    states = [draw(CLIENTS, TOKENS, 4).requires_grad_() for _ in range(3)]
    lengths = torch.tensor([TOKENS + 1, 2, 4])
    torch.autograd.gradcheck(lambda *of: recommendation_loss(*of, lengths), states)
    hidden, positive, negative = states
    real = torch.arange(TOKENS) < (lengths - 1).unsqueeze(1)
    up, down = (hidden * positive).sum(-1), (hidden * negative).sum(-1)
    terms = -(torch.sigmoid(up).log() + torch.sigmoid(-down).log())
    obvious = torch.stack([of[kept].mean() for of, kept in zip(terms, real, strict=True)])
    torch.testing.assert_close(recommendation_loss(*states, lengths), obvious, **EXACT)
    far = [30 * x.detach() for x in states]
    assert recommendation_loss(*far, lengths).isfinite().all()
