"""Claims made in blocks against whole tables, written out as before they were made in blocks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from attacks.inverse_codebook import InverseCodebook, Mechanism
from attacks.nearest_neighbor import NearestNeighbor
from attacks.row_norm import RowNorm
from defenses.replacement import Replacement
from harness.core.defense import Federation
from harness.core.messages import EmbeddingUpload
from harness.core.seeds import Seeds
from tests.unit.attacks.cases import catalogue, update, view

FEDERATION, SIZES = Federation(2, 2, 1, 90), (40, 50)


def clean_upload() -> EmbeddingUpload:
    stream = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(sum(SIZES), 24, generator=stream), dim=1)
    # Titles that occur twice have one vector.
    vectors[[7, 30, 60]] = vectors[[3, 29, 41]]
    return EmbeddingUpload(torch.arange(2).repeat_interleave(torch.tensor(SIZES)), vectors)


def whole_cosines(vectors: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return F.normalize(vectors, dim=1) @ F.normalize(table, dim=1).T


def whole_codebook(
    vectors: torch.Tensor, mechanism: Mechanism, samples: int, seeds: Seeds
) -> torch.Tensor:
    """How often item i (row) was replaced by item j (column): items × items numbers."""
    counts = torch.zeros(len(vectors), len(vectors))
    for draw in range(samples):
        noise = torch.randn(vectors.shape, generator=seeds.torch(draw))
        noisy = vectors + mechanism.sigma * noise
        similarity = noisy @ F.normalize(noisy if mechanism.compares_noisy else vectors, dim=1).T
        if mechanism.excludes_self:
            similarity.fill_diagonal_(float("-inf"))
        counts[torch.arange(len(vectors)), similarity.argmax(1)] += 1
    return counts / samples


def whole_inverse(uploads, vectors, mechanism: Mechanism, samples: int, seeds: Seeds):
    similarity = whole_cosines(uploads, vectors)
    if mechanism.upload == "noisy_self":
        return similarity
    codebook, seen = whole_codebook(vectors, mechanism, samples, seeds), similarity.argmax(1)
    if mechanism.upload == "clean_neighbor" or mechanism.sigma == 0:
        likelihood = codebook[:, seen].T
    else:
        likelihood = torch.softmax(uploads @ vectors.T / mechanism.sigma**2, dim=1) @ codebook.T
    scores = likelihood + (similarity + 1) / (4 * samples)
    if mechanism.excludes_self and mechanism.upload == "clean_neighbor":
        scores[torch.arange(len(uploads)), seen] = -1.0
    return scores


def attacked(attack, released: EmbeddingUpload, *defenses: Replacement):
    clean = clean_upload()
    seen = view(
        attack.threat_model,
        released,
        public=catalogue(clean.vectors, clean.domain),
        defense=tuple(d.config.model_dump() for d in defenses),
    )
    return attack.infer(seen, Seeds(5))


def assert_any_block(scores, expected: torch.Tensor, atol: float) -> None:
    everything = scores.dense()
    torch.testing.assert_close(everything, expected, rtol=0, atol=atol)
    for height in (1, 2, 7, len(scores)):
        blocks = [scores.make(rows) for rows in torch.arange(len(scores)).split(height)]
        assert torch.equal(torch.cat(blocks), everything)


@pytest.mark.parametrize(
    "options",
    [
        {"sigma": 0.05},
        {"sigma": 0.0},
        {"sigma": 0.3, "self_neighbor": "allow", "compare": "clean"},
        {"sigma": 0.1, "upload": "noisy_neighbor"},
        {"sigma": 0.1, "upload": "noisy_self"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
@pytest.mark.parametrize("form", ["posterior", "noise free"])
def test_inverse_codebook_equals_the_whole_tables(options, form):
    clean, defense, samples = clean_upload(), Replacement(**options), 8
    released = defense.on_client(clean, FEDERATION, Seeds(1))
    claims = attacked(InverseCodebook(samples=samples, map=form), released, defense)
    mechanism = Mechanism.of(defense.config.model_dump())
    assert mechanism is not None
    if form == "noise free":
        mechanism, samples = mechanism._replace(sigma=0.0), 1
    expected = whole_cosines(released.vectors, clean.vectors) / 4 - 2
    for domain in (0, 1):
        own = clean.domain == domain
        inside = torch.outer(own, own)
        expected[inside] = whole_inverse(
            released.vectors[own],
            clean.vectors[own],
            mechanism,
            samples,
            Seeds(5).child("domain", domain),
        ).flatten()
    assert_any_block(claims.scores, expected, 1e-6)


def test_nearest_neighbor_equals_the_whole_table():
    clean = clean_upload()
    longer = EmbeddingUpload(clean.domain, clean.vectors.flip(0) * 3)
    claims = attacked(NearestNeighbor(), longer)
    assert_any_block(claims.scores, whole_cosines(longer.vectors, clean.vectors), 1e-6)
    twins = claims.scores.dense()
    assert torch.equal(twins[:, 7], twins[:, 3]), "equal titles are told apart"


@pytest.mark.parametrize("score", ["norm", "support"])
def test_row_norm_in_any_block(score):
    message = update(9)
    scores = RowNorm(score=score).infer(view(RowNorm.threat_model, message), Seeds(0)).scores
    expected = torch.zeros(scores.shape)
    for client in range(9):
        for slot, item in enumerate(message.row_ids[client].tolist()):
            if item >= 0:
                expected[client, item] = message.rows[client, slot].norm()
    assert_any_block(scores, expected if score == "norm" else (expected > 0).float(), 1e-6)
