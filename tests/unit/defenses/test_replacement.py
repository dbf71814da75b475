"""Replacement perturbation: identity, closed forms for two items, and the equations one by one."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from scipy.stats import norm

from defenses.replacement import Replacement
from harness.core.defense import Federation
from harness.core.errors import RunError
from harness.core.messages import EmbeddingUpload
from harness.core.seeds import Seeds
from tests.unit.attacks.cases import same, upload

FEDERATION = Federation(2, 2, 1, 30)


def sent(message: EmbeddingUpload, seed: int = 0, **options) -> EmbeddingUpload:
    return Replacement(**options).on_client(message, FEDERATION, Seeds(seed))


def pairs(distance: float, count: int) -> EmbeddingUpload:
    """``count`` domains of two unit vectors each, ``distance`` apart."""
    angle = 2 * math.asin(distance / 2)
    two = torch.tensor([[1.0, 0.0, 0.0], [math.cos(angle), math.sin(angle), 0.0]])
    return EmbeddingUpload(torch.arange(count).repeat_interleave(2), two.repeat(count, 1))


def test_no_noise_with_self_allowed_is_the_identity():
    message = upload()
    released = sent(message, sigma=0.0, self_neighbor="allow", compare="clean")
    torch.testing.assert_close(released.vectors, message.vectors, rtol=0, atol=2e-7)
    raw = sent(message, sigma=0.0, self_neighbor="allow", compare="clean", normalize=False)
    assert same(raw, message)


@pytest.mark.parametrize(("distance", "sigma"), [(0.5, 0.2), (1.0, 0.5), (1.0, 3.0)])
def test_two_items_swap_with_the_closed_form_probability(distance, sigma):
    """For unit vectors the noisy cosine prefers the other item iff n·(b − a) > |a − b|²/2.

    So P(swap) = Φ(−|a − b|/(2σ)), as in the L2 form; σ read as a variance is far outside.
    """
    count = 4000
    message = pairs(distance, count)
    released = sent(message, sigma=sigma, self_neighbor="allow", compare="clean")
    swapped = (released.vectors - message.vectors).norm(dim=1) > distance / 2
    expected = norm.cdf(-distance / (2 * sigma))
    error = math.sqrt(expected * (1 - expected) / (2 * count))
    assert swapped.float().mean().item() == pytest.approx(expected, abs=4 * error)
    assert abs(norm.cdf(-distance / (2 * math.sqrt(sigma))) - expected) > 8 * error


def test_out_of_many_items_leaving_obeys_the_union_bound():
    message = upload(sizes=(200,), dim=6)
    sigma, leave = 0.1, torch.zeros(200)
    for seed in range(40):
        released = sent(message, seed, sigma=sigma, self_neighbor="allow", compare="clean")
        leave += (released.vectors - message.vectors).norm(dim=1) > 1e-5
    distance = torch.cdist(message.vectors, message.vectors).fill_diagonal_(float("inf"))
    bound = torch.from_numpy(norm.cdf(-distance.numpy() / (2 * sigma))).sum(1)
    assert (leave.sum() / 40).item() <= bound.clamp_max(1.0).sum().item() * 1.05
    assert leave.sum() > 0


def test_paper_form_against_the_equations_written_out():
    message, sigma = upload(), 0.3
    released = sent(message, sigma=sigma)
    for domain in (0, 1):
        rows = (message.domain == domain).nonzero().flatten().tolist()
        stream = Seeds(0).torch("replacement", -1, domain)
        clean = message.vectors[rows]
        noisy = clean + sigma * torch.randn(clean.shape, generator=stream)
        for i, row in enumerate(rows):
            cosines = [float(F.cosine_similarity(noisy[i], v, dim=0)) for v in noisy]
            cosines[i] = -2.0
            best = max(range(len(rows)), key=cosines.__getitem__)
            torch.testing.assert_close(released.vectors[row], clean[best])


@pytest.mark.parametrize("sigma", [0.0, 0.01, 0.5])
def test_the_item_itself_is_never_sent_and_the_neighbour_is_of_its_own_domain(sigma):
    message = upload()
    released = sent(message, sigma=sigma)
    same_vector = (released.vectors.unsqueeze(1) - message.vectors).norm(dim=2) < 1e-5
    source = same_vector.int().argmax(1)
    assert same_vector.any(1).all() and (source != torch.arange(30)).all()
    assert torch.equal(message.domain[source], message.domain)


def test_plain_noise_has_the_stated_standard_deviation():
    message = upload(sizes=(3000,), dim=16)
    noise = sent(message, sigma=0.2, upload="noisy_self").vectors - message.vectors
    assert noise.std().item() == pytest.approx(0.2, rel=5 / math.sqrt(2 * noise.numel()))


def test_noisy_neighbour_is_the_neighbour_plus_noise():
    message = upload()
    clean, noisy = (
        sent(message, sigma=0.05, upload=u) for u in ("clean_neighbor", "noisy_neighbor")
    )
    distance = (clean.vectors - noisy.vectors).norm(dim=1)
    assert (distance > 0).all() and (distance < 0.05 * math.sqrt(8) * 2.5).all()


def test_uploads_are_unit_vectors_unless_told_otherwise():
    message = upload()
    longer = EmbeddingUpload(message.domain, message.vectors * 5)
    torch.testing.assert_close(sent(longer).vectors.norm(dim=1), torch.ones(30))
    kept = sent(longer, normalize=False).vectors.norm(dim=1)
    torch.testing.assert_close(kept, torch.full((30,), 5.0))


def test_a_domain_does_not_depend_on_the_others():
    both = upload()
    first = EmbeddingUpload(both.domain[:12], both.vectors[:12])
    assert torch.equal(sent(both).vectors[:12], sent(first).vectors)


def test_what_cannot_be_asked():
    with pytest.raises(ValidationError, match="compare: clean"):
        Replacement(self_neighbor="allow")
    with pytest.raises(ValidationError):
        Replacement(sigma=-0.1)
    with pytest.raises(RunError, match="one item"):
        sent(upload(sizes=(1, 5)))
    assert Replacement().spent(FEDERATION) is None
