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

Cost: for each draw and domain items² × dim multiply-adds; at most one count an item and draw. The
scores are made a block of uploads at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor

from attacks.nearest_neighbor import last_upload
from harness.core.attack import InferenceAttack, ItemIdentity
from harness.core.cosine import cosines, products, unit_rows
from harness.core.messages import EmbeddingUpload
from harness.core.neighbors import nearest
from harness.core.observe import ThreatModel, View
from harness.core.params import Paper, Params
from harness.core.registry import ATTACKS
from harness.core.scores import RowScores
from harness.core.seeds import Seeds


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
        mechanism = known[-1]
        if self.config.map == "noise free":
            mechanism = mechanism._replace(sigma=0.0)
        samples = 1 if self.config.map == "noise free" else self.config.samples
        books: dict[int, Codebook] = {}
        for domain in upload.domain.unique().tolist():
            items = (catalogue.domain == domain).nonzero().flatten()
            vectors = unit_rows(catalogue.vectors[items].to(upload.vectors.dtype))
            stream = seeds.child("domain", domain)
            books[domain] = Codebook.drawn(items, vectors, mechanism, samples, stream)

        def make(rows: Int[Tensor, " row"]) -> Float[Tensor, "row item"]:
            similarity = scores.make(rows)
            values = similarity / 4 - 2.0  # below every score of the sender's own domain
            for domain in upload.domain[rows].unique().tolist():
                own, book = (upload.domain[rows] == domain).nonzero().flatten(), books[domain]
                inverted = book.invert(upload.vectors[rows[own]], similarity[own][:, book.items])
                values[own.unsqueeze(1), book.items] = inverted
            return values

        return ItemIdentity(upload.domain.clone(), RowScores(scores.shape, make))


@dataclass(frozen=True)
class Codebook:
    """The replacement of one domain's items, turned round.

    Attributes:
        items: the domain's items in the catalogue.
        vectors: their unit vectors.
        mechanism: what is inverted.
        samples: noise draws.
        sources: how often item j (row) came from item i (column), over the draws; sparse, since
            an item has at most one replacement a draw. None where nothing is replaced.
    """

    items: Int[Tensor, " item"]
    vectors: Float[Tensor, "item dim"]
    mechanism: Mechanism
    samples: int
    sources: csr_array | None

    @classmethod
    def drawn(
        cls,
        items: Int[Tensor, " item"],
        vectors: Float[Tensor, "item dim"],
        mechanism: Mechanism,
        samples: int,
        seeds: Seeds,
    ) -> Codebook:
        """Simulate the mechanism ``samples`` times."""
        replaced = mechanism.upload != "noisy_self" and len(vectors) >= 2
        sources = simulated_sources(vectors, mechanism, samples, seeds) if replaced else None
        return cls(items, vectors, mechanism, samples, sources)

    def invert(
        self, uploads: Float[Tensor, "upload dim"], similarity: Float[Tensor, "upload item"]
    ) -> Float[Tensor, "upload item"]:
        """Score the domain's items for its uploads: likelihood first, cosine among equals."""
        if self.sources is None:
            return similarity
        seen = similarity.argmax(1)
        if self.mechanism.upload == "clean_neighbor" or self.mechanism.sigma == 0:
            likelihood = torch.from_numpy(self.sources[seen.numpy()].toarray())
        else:
            exponents = products(uploads, self.vectors) / self.mechanism.sigma**2
            came_out = torch.softmax(exponents, dim=1).numpy()
            # Sources first: a sparse matrix times contiguous rows, one for each item that came out.
            likelihood = torch.from_numpy((self.sources.T @ came_out.T).T)
        scores = likelihood + (similarity + 1) / (4 * self.samples)
        if self.mechanism.excludes_self and self.mechanism.upload == "clean_neighbor":
            scores[torch.arange(len(uploads)), seen] = -1.0
        return scores


def simulated_sources(
    vectors: Float[Tensor, "item dim"], mechanism: Mechanism, samples: int, seeds: Seeds
) -> csr_array:
    """Return how often item j (row) replaced item i (column), as a share of the noise draws."""
    everyone = torch.arange(len(vectors))
    released: list[Tensor] = []
    for draw in range(samples):
        noise = torch.randn(vectors.shape, generator=seeds.torch(draw), dtype=vectors.dtype)
        noisy = vectors + mechanism.sigma * noise
        candidates = noisy if mechanism.compares_noisy else vectors
        own = everyone if mechanism.excludes_self else None
        released.append(nearest(noisy, candidates, exclude=own).items[:, 0])
    places = (torch.cat(released).numpy(), everyone.repeat(samples).numpy())
    once = torch.ones(len(vectors) * samples, dtype=vectors.dtype).numpy()
    sources = csr_array((once, places), shape=(len(vectors), len(vectors)))
    sources.data /= samples
    return sources
