"""Row norm, span check, nearest neighbour and inverse codebook on cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attacks.inverse_codebook import InverseCodebook
from attacks.nearest_neighbor import NearestNeighbor
from attacks.row_norm import RowNorm
from attacks.span_check import ABSTAIN, Span, SpanCheck, chance_residual, column_span
from defenses.replacement import Replacement
from harness.core.defense import Federation
from harness.core.messages import PAD, EmbeddingUpload, ModelUpdate
from harness.core.neighbors import nearest
from harness.core.seeds import Seeds
from tests.unit.attacks.cases import (
    DIM,
    NUM_ITEMS,
    VALUE,
    FlatModel,
    catalogue,
    model,
    rows_of,
    same,
    update,
    view,
)

FEDERATION = Federation(2, 2, 1, 300)


def test_row_norm_scores_are_norms_of_sent_rows():
    message = update()
    claims = RowNorm().infer(view(RowNorm.threat_model, message), Seeds(0))
    scores = claims.scores.dense()
    for place in range(len(message)):
        sent = rows_of(message, place)
        for item in range(NUM_ITEMS):
            expected = float(sent[item].norm()) if item in sent else 0.0
            assert scores[place, item] == pytest.approx(expected, rel=1e-6)
    support = RowNorm(score="support").infer(view(RowNorm.threat_model, message), Seeds(0))
    assert torch.equal(support.scores.dense(), (scores > 0).float())


def test_row_norm_tells_which_rows_were_sent_in_the_rounds_it_reads():
    messages = update(seed=1), update(seed=2)
    seen = view(RowNorm.threat_model, *messages)
    sent = [[set(ids[ids >= 0].tolist()) for ids in message.row_ids] for message in messages]
    for combine, expected in (
        ("single", sent[1]),
        ("average", [a | b for a, b in zip(*sent, strict=True)]),
    ):
        table = RowNorm(combine=combine).infer(seen, Seeds(0)).sent.dense()
        assert [set(row.nonzero().flatten().tolist()) for row in table] == expected


def test_row_norm_chooses_its_round():
    first, last = update(seed=1), update(seed=2)
    seen = view(RowNorm.threat_model, first, last)
    for observe, index, message in (("first", 0, first), ("last", 1, last)):
        claims = RowNorm(observe=observe).infer(seen, Seeds(0))
        alone = RowNorm().infer(view(RowNorm.threat_model, message), Seeds(0))
        assert claims.round_index == index and same(claims.scores, alone.scores)


def test_averaging_over_rounds_divides_the_noise():
    """T averaged releases of fresh noise leave σ/√T (closed form), and the signal as it is."""
    stream = torch.Generator().manual_seed(0)
    rounds, sigma = 25, 0.5
    signal = torch.zeros(NUM_ITEMS, DIM)
    signal[:4] = 1.0
    messages = [
        ModelUpdate(
            torch.tensor([5]),
            {},
            torch.arange(NUM_ITEMS).unsqueeze(0),
            (signal + sigma * torch.randn(NUM_ITEMS, DIM, generator=stream)).unsqueeze(0),
            torch.ones(1, dtype=torch.int64),
        )
        for _ in range(rounds)
    ]
    seen = view(RowNorm.threat_model, *messages)
    averaged = RowNorm(combine="average").infer(seen, Seeds(0)).scores.dense()[0]
    variance = averaged[4:].square().sum() / (26 * DIM)
    expected = sigma**2 / rounds
    assert variance.item() == pytest.approx(expected, rel=5 * (2 / (26 * DIM)) ** 0.5)
    single = RowNorm().infer(seen, Seeds(0)).scores.dense()[0]
    assert averaged[:4].min() > averaged[4:].max()
    assert single[4:].mean() > 4 * averaged[4:].mean()


def gradients(
    handle: FlatModel, lengths: list[int], noise: float = 0.0, dtype: torch.dtype = torch.float32
) -> tuple[ModelUpdate, torch.Tensor]:
    """Updates of one SGD step of a linear map fed with item + position, and the items read."""
    stream = torch.Generator().manual_seed(9)
    dim, positions = handle.position_table.shape[1], len(handle.position_table)
    deltas = torch.zeros(len(lengths), dim, dim, dtype=dtype)
    truth = torch.full((len(lengths), positions), ABSTAIN)
    for client, length in enumerate(lengths):
        items = torch.randperm(len(handle.item_table), generator=stream)[:length]
        truth[client, :length] = items
        x = (handle.item_table[items] + handle.position_table[:length]).to(dtype)
        weight = torch.randn(dim, dim, generator=stream).to(dtype).requires_grad_()
        target = torch.randn(length, dim, generator=stream).to(dtype)
        ((x @ weight - target) ** 2).sum().backward()
        assert weight.grad is not None
        shake = torch.randn(dim, dim, generator=stream).to(dtype)
        deltas[client] = -0.1 * (weight.grad + noise * weight.grad.norm() * shake)
    n = len(lengths)
    empty = torch.full((n, 1), PAD)
    return ModelUpdate(
        torch.arange(n), {VALUE: deltas}, empty, torch.zeros(n, 1, dim), empty[:, 0]
    ), truth


def span_claims(handle, message, **options):
    attack = SpanCheck(**options)
    return attack.infer(view(attack.threat_model, message, handle=handle), Seeds(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_span_check_is_exact_after_one_sgd_step(dtype):
    handle = model(num_items=500, dim=32, positions=20)
    message, truth = gradients(handle, [20, 7, 1], dtype=dtype)
    claims = span_claims(handle, message)
    assert torch.equal(claims.items, truth), "an item is wrong, or an empty position is claimed"
    assert claims.observed_rank.tolist() == [20, 7, 1]


def test_span_residuals_in_double_precision():
    handle = model(num_items=500, dim=32, positions=20)
    message, truth = gradients(handle, [20], dtype=torch.float64)
    span = column_span(message.dense[VALUE][0], 5.0, "gap")
    x = (handle.item_table + handle.position_table[3]).double()
    residual = (x @ span.complement).norm(dim=1) / x.norm(dim=1)
    wrong = torch.arange(500) != truth[0, 3]
    # x is rounded to float32 inside the model, the gradient is not rounded again.
    assert residual[truth[0, 3]] < 1e-6 and residual[wrong].min() > 0.05


@pytest.mark.parametrize("length", [32, 40])
def test_span_check_abstains_when_the_span_is_everything(length):
    handle = model(num_items=500, dim=32, positions=length)
    message, truth = gradients(handle, [length] * 8)
    for rule in ("gap", "noise"):
        claims = span_claims(handle, message, rank=rule)
        assert (claims.items == truth).float().mean() < 0.05
    claims = span_claims(handle, message, rank="gap")
    assert (claims.items == ABSTAIN).float().mean() > 0.9
    assert (claims.observed_rank >= 31).all()


def test_span_check_falls_with_noise():
    handle = model(num_items=500, dim=32, positions=10)
    hits = []
    for noise in (0.0, 1e-5, 1e-3, 1e-1):
        message, truth = gradients(handle, [10] * 6, noise=noise)
        hits.append((span_claims(handle, message).items == truth).float().mean().item())
    assert hits[0] == 1.0 and hits[1] > 0.95 and hits[3] < 0.05
    assert hits == sorted(hits, reverse=True)


def test_span_check_that_expects_noise_sees_further():
    handle = model(num_items=500, dim=32, positions=6)
    message, truth = gradients(handle, [6] * 20, noise=3e-3)
    share = [
        (span_claims(handle, message, **options).items == truth).float().mean().item()
        for options in ({"rank": "gap"}, {})
    ]
    assert share[1] > share[0] + 0.2
    clean, truth = gradients(handle, [6, 3])
    assert torch.equal(span_claims(handle, clean).items, truth)
    # Pure noise spans nothing: rank 0, no claim.
    stream = torch.Generator().manual_seed(1)
    message.dense[VALUE] = torch.randn(20, 32, 32, generator=stream)
    claims = span_claims(handle, message)
    assert (claims.observed_rank <= 1).float().mean() >= 0.9
    assert (claims.items == ABSTAIN).float().mean() > 0.95


def test_span_check_on_a_silent_client_and_a_missing_weight():
    handle = model(positions=4)
    message, _ = gradients(handle, [3])
    silent = message.scaled(torch.zeros(1))
    claims = span_claims(handle, silent)
    assert claims.observed_rank.tolist() == [0] and (claims.items == ABSTAIN).all()
    attack = SpanCheck(parameter="absent")
    assert "absent" in (attack.declines(view(attack.threat_model, message)) or "")


def test_chance_residual_is_the_smallest_of_random_directions():
    dim, rank, num_items = 16, 12, 200
    span = Span(rank, False, torch.eye(dim)[:, rank:])
    stream = torch.Generator().manual_seed(0)
    x = F.normalize(torch.randn(400, num_items, dim, generator=stream), dim=2)
    least = (x @ span.complement).norm(dim=2).amin(1)
    below = (least < chance_residual(span, num_items, 0.3)).float().mean().item()
    exact = 1 - (1 - 0.3 / num_items) ** num_items
    assert below == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 400) ** 0.5)


def test_span_check_on_the_real_backbone():
    """Item + position reach the value weights of SASRec unchanged, so one step gives them away."""
    from models.sasrec import SASRec
    from models.sequences import causal_layout

    backbone = SASRec(32, 1, 2, 8)
    dense = backbone.initial(Seeds(0))
    handle = FlatModel(model(num_items=200, dim=32).item_table, dense["positions"])
    history = np.array([5, 9, 5, 60, 199])
    layout, _ = causal_layout([history], 8)
    dense[VALUE].requires_grad_()
    hidden = backbone.hidden(dense, handle.item_table[layout.ids], layout)[0]
    loss = F.softplus(-(hidden[:-1] * handle.item_table[history[1:]]).sum(1)).mean()
    (grad,) = torch.autograd.grad(loss, dense[VALUE])
    message, _ = gradients(handle, [1])
    message.dense[VALUE] = -0.1 * grad.unsqueeze(0)
    claims = span_claims(handle, message)
    assert claims.items[0].tolist() == [5, 9, 5, 60, *[ABSTAIN] * 4]


def clustered(sizes=(150, 150), dim=24, seed=0):
    stream = torch.Generator().manual_seed(seed)
    total = sum(sizes)
    centres = torch.randn(20, dim, generator=stream)
    vectors = centres[torch.arange(total) % 20] + 0.7 * torch.randn(total, dim, generator=stream)
    domain = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return EmbeddingUpload(domain, F.normalize(vectors, dim=1))


def top1(claims, truth):
    return (claims.scores.dense().argmax(1) == truth).float().mean().item()


def attacked(attack, clean, released, defenses=()):
    public = catalogue(clean.vectors, clean.domain)
    params = tuple({"use": d.name, **d.config.model_dump()} for d in defenses)
    return attack.infer(
        view(attack.threat_model, released, public=public, defense=params), Seeds(5)
    )


def test_nearest_neighbor_is_cosine_and_exact_without_defense():
    clean = clustered()
    longer = EmbeddingUpload(clean.domain, clean.vectors * 7)
    claims = attacked(NearestNeighbor(), clean, longer)
    assert top1(claims, torch.arange(300)) == 1.0
    slow = F.cosine_similarity(longer.vectors[3], clean.vectors[8], dim=0)
    assert claims.scores.dense()[3, 8] == pytest.approx(slow.item(), abs=1e-6)


def test_inverse_codebook_without_replacement_is_nearest_neighbor():
    clean = clustered()
    plain = attacked(NearestNeighbor(), clean, clean)
    assert same(attacked(InverseCodebook(), clean, clean), plain)


def test_inverse_codebook_ignores_the_defense_name():
    clean, defense = clustered(), Replacement(sigma=0.05)
    released = defense.on_client(clean, FEDERATION, Seeds(1))
    public = catalogue(clean.vectors, clean.domain)
    attack = InverseCodebook(samples=4)
    params = defense.config.model_dump()
    claims = [
        attack.infer(
            view(attack.threat_model, released, public=public, defense=({"use": n, **params},)),
            Seeds(5),
        )
        for n in ("replacement", "another name")
    ]
    assert same(claims[0], claims[1])


@pytest.mark.parametrize("sigma", [0.0, 0.01, 0.05])
def test_inverse_codebook_beats_nearest_neighbor_on_replacement(sigma):
    """Self excluded: nearest neighbour is never right, the inverse of the map often is."""
    clean, defense = clustered(), Replacement(sigma=sigma)
    released = defense.on_client(clean, FEDERATION, Seeds(1))
    truth = torch.arange(300)
    adaptive = attacked(InverseCodebook(samples=16), clean, released, (defense,))
    assert top1(attacked(NearestNeighbor(), clean, released), truth) == 0.0
    assert top1(adaptive, truth) > 0.3


def test_inverse_of_a_noise_free_map_scores_preimages():
    clean, defense = clustered(), Replacement(sigma=0.0)
    released = defense.on_client(clean, FEDERATION, Seeds(1))
    claims = attacked(InverseCodebook(), clean, released, (defense,))
    own, scores = clean.vectors[:150], claims.scores.dense()
    code = nearest(own, own, exclude=torch.arange(150)).items[:, 0]
    for place in range(150):
        preimages = (code == code[place]).nonzero().flatten().tolist()
        best = scores[place].topk(len(preimages)).indices.tolist()
        assert sorted(best) == preimages
    # The item that is seen is the one item it cannot be; other domains come after all of them.
    assert scores[0, :150].argmin() == code[0]
    assert scores[0, 150:].max() < scores[0, :150].min()


@pytest.mark.parametrize("upload", ["noisy_self", "noisy_neighbor"])
def test_inverse_codebook_on_noisy_uploads(upload):
    clean, defense = clustered(), Replacement(sigma=0.1, upload=upload)
    released = defense.on_client(clean, FEDERATION, Seeds(1))
    truth = torch.arange(300)
    adaptive = top1(attacked(InverseCodebook(samples=16), clean, released, (defense,)), truth)
    naive = top1(attacked(NearestNeighbor(), clean, released), truth)
    assert adaptive >= naive and adaptive > 0.2


def test_simulated_map_is_the_mechanism():
    """At σ = 0 the attacker's map equals what the defence sends, domain by domain."""
    clean = clustered()
    released = Replacement(sigma=0.0).on_client(clean, FEDERATION, Seeds(1))
    for rows in (slice(0, 150), slice(150, 300)):
        own = clean.vectors[rows]
        code = nearest(own, own, exclude=torch.arange(150)).items[:, 0]
        torch.testing.assert_close(released.vectors[rows], own[code])
