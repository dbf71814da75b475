"""Inverse codebook: the server inverts replacement perturbation by running it itself.

The replacement of SF-UBM (arXiv:2604.14833, equations 2-6) maps items to items of the same public
catalogue, and FELLAS (arXiv:2410.04927) uses the same step; an attacker who knows its public
parameters recomputes the map and guesses from the preimages of what it sees [ours].

Differs from the papers: they evaluate no adaptive attacker. Here the server draws the noise
``samples`` times with randomness of its own, counts how often item i of the sender's domain is
released as item j, and scores i for an upload v by Σ_j P(j came out | v) P(j | i): where a clean
catalogue vector is uploaded, j is the item nearest to v; where a noisy one is, P(j | v) is
proportional to exp(v · x_j / σ²) over unit vectors with an even prior (dependence of the noise on
the choice of j is left out). Ties, above all items that never led to j, are ordered by cosine;
where the mechanism excludes the item itself, that item comes last. ``map: noise free`` takes
σ = 0, one draw. Without a replacement in force the scores are those of ``nearest_neighbor``. If
several are in force the last one is inverted.

Threat model: an honest-but-curious server that sees the uploads, owns the public catalogue with its
domains and encoder, and knows which defence runs with its parameters (Kerckhoffs). It reads these
parameters from the view and branches on them, never on a defence's name.

Cost: for each draw and domain items² × dim multiply-adds; items² counts.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from attacks.nearest_neighbor import cosines, last_upload
from harness.core.attack import InferenceAttack, ItemIdentity
from harness.core.messages import EmbeddingUpload
from harness.core.observe import ThreatModel, View
from harness.core.params import Paper, Params
from harness.core.registry import ATTACKS
from harness.core.seeds import Seeds

CHUNK = 2048


class Mechanism(NamedTuple):
    """Public parameters of a replacement in force.

    Attributes:
        sigma: standard deviation of the noise on each coordinate.
        excludes_self: whether an item may not be its own replacement.
        compares_noisy: whether the candidates carry noise as well.
        upload: ``clean_neighbor``, ``noisy_neighbor`` or ``noisy_self``.
    """

    sigma: float
    excludes_self: bool
    compares_noisy: bool
    upload: str

    @classmethod
    def of(cls, params: dict[str, Any]) -> Mechanism | None:
        """Read a defence's public parameters; None where they describe no replacement."""
        if not {"sigma", "self_neighbor", "compare", "upload"} <= params.keys():
            return None
        return cls(
            sigma=float(params["sigma"]),
            excludes_self=params["self_neighbor"] == "exclude",
            compares_noisy=params["compare"] == "noisy",
            upload=str(params["upload"]),
        )


@ATTACKS.register("inverse_codebook")
class InverseCodebook(InferenceAttack):
    """See the module docstring."""

    paper = Paper("ours", "baseline")
    reads = (EmbeddingUpload,)
    threat_model = ThreatModel(
        adversary="server",
        sees=frozenset({"messages"}),
        knows=frozenset({"catalogue", "defense"}),
        words=(
            "A curious server that knows the replacement's parameters simulates it on the public "
            "catalogue and inverts the map (adaptive)."
        ),
    )

    class Config(Params):
        """Parameters of the inverse codebook."""

        map: Literal["posterior", "noise free"] = Field(
            "posterior", description="frequencies over noise draws, or the map without noise"
        )
        samples: int = Field(32, ge=1, le=10_000, description="noise draws of the posterior")

    def declines(self, view: View) -> str | None:
        """Need an upload and public text vectors."""
        if last_upload(view) is None:
            return "no upload of text vectors is on record"
        return None if view.catalogue.vectors.numel() else "the system shares no text vectors"

    def infer(self, view: View, seeds: Seeds) -> ItemIdentity:
        """Score every catalogue item for every vector of the last recorded upload."""
        upload, catalogue = last_upload(view), view.catalogue
        assert upload is not None
        scores = cosines(upload.vectors, catalogue.vectors)
        found = [Mechanism.of(params) for params in view.defense]
        known = [mechanism for mechanism in found if mechanism is not None]
        if not known:
            return ItemIdentity(upload.domain.clone(), scores)
        scores = scores / 4 - 2.0  # below every score of the sender's own domain
        for domain in upload.domain.unique().tolist():
            rows = (upload.domain == domain).nonzero().flatten()
            items = (catalogue.domain == domain).nonzero().flatten()
            vectors = F.normalize(catalogue.vectors[items].to(upload.vectors.dtype), dim=1)
            inverted = self._invert(
                upload.vectors[rows], vectors, known[-1], seeds.child("domain", domain)
            )
            scores[rows.unsqueeze(1), items] = inverted
        return ItemIdentity(upload.domain.clone(), scores)

    def _invert(
        self,
        uploads: Float[Tensor, "upload dim"],
        vectors: Float[Tensor, "item dim"],
        mechanism: Mechanism,
        seeds: Seeds,
    ) -> Float[Tensor, "upload item"]:
        """Score the domain's items for its uploads: likelihood first, cosine among equals."""
        similarity = cosines(uploads, vectors)
        if mechanism.upload == "noisy_self" or len(vectors) < 2:
            return similarity
        noise_free = self.config.map == "noise free"
        samples = 1 if noise_free else self.config.samples
        used = mechanism._replace(sigma=0.0) if noise_free else mechanism
        codebook = codebook_frequencies(vectors, used, samples, seeds)
        seen = similarity.argmax(1)
        if mechanism.upload == "clean_neighbor" or mechanism.sigma == 0:
            likelihood = codebook[:, seen].T
        else:
            came_out = torch.softmax(uploads @ vectors.T / mechanism.sigma**2, dim=1)
            likelihood = came_out @ codebook.T
        scores = likelihood + (similarity + 1) / (4 * samples)
        if mechanism.excludes_self and mechanism.upload == "clean_neighbor":
            scores[torch.arange(len(uploads)), seen] = -1.0
        return scores


def codebook_frequencies(
    vectors: Float[Tensor, "item dim"], mechanism: Mechanism, samples: int, seeds: Seeds
) -> Float[Tensor, "item item"]:
    """Return how often item i (row) was replaced by item j (column) over noise draws."""
    counts = vectors.new_zeros(len(vectors), len(vectors))
    everyone = torch.arange(len(vectors))
    for draw in range(samples):
        noise = torch.randn(vectors.shape, generator=seeds.torch(draw), dtype=vectors.dtype)
        noisy = vectors + mechanism.sigma * noise
        candidates = noisy if mechanism.compares_noisy else vectors
        counts[everyone, replacements(noisy, candidates, mechanism.excludes_self)] += 1
    return counts / samples


def replacements(
    noisy: Float[Tensor, "item dim"], candidates: Float[Tensor, "item dim"], excludes_self: bool
) -> Int[Tensor, " item"]:
    """Return each noisy vector's nearest candidate by cosine (the mechanism as published)."""
    candidates = F.normalize(candidates, dim=1)
    chosen: list[Tensor] = []
    for start in range(0, len(noisy), CHUNK):
        similarity = noisy[start : start + CHUNK] @ candidates.T
        if excludes_self:
            rows = torch.arange(len(similarity))
            similarity[rows, rows + start] = float("-inf")
        chosen.append(similarity.argmax(1))
    return torch.cat(chosen)
