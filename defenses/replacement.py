"""Replacement perturbation: each item's text vector is sent as that of a noisy nearest neighbour.

Guo, Yang, Ren, Chen, Liu and Chen, SF-UBM, arXiv:2604.14833, section 3.3.1, equations 2-6; the
same step in FELLAS, arXiv:2410.04927. (2) ẽ_i = e_i + n_i, n_i ~ N(0, σ² I), σ the standard
deviation of each coordinate [paper]; (3) s_ij = cos(ẽ_i, ẽ_j); (4, 5) the item itself is excluded;
(6) j* = argmax_j s_ij, and item i is uploaded as e_{j*}.

Differs from the paper, or settles what it leaves open: vectors have unit length first
[inferred]; equation 6 does not say whether e_{j*} or ẽ_{j*} is uploaded, and ``upload`` takes the
clean one [inferred]; ``noisy_self`` sends ẽ_i, plain noise, for comparison [ours]. ``compare:
clean`` and ``self_neighbor: allow`` give the d_X-privacy form, in which two items swap with
probability Φ(−|a − b|/(2σ)) [ours]; with noisy candidates an item is always its own nearest
neighbour, so ``self_neighbor: allow`` needs ``compare: clean``. Released code of the lineage takes
0.01 as a *variance* [code: FELLAS]; σ here is never a variance. The draw is made once a round; the
system uploads once, so nothing is averaged over redraws.

Guarantee: none. The item itself is never the output, which alone makes ε infinite, and there is no
clipping. What remains is an empirical question: σ means nothing without the vectors' length, so
read it as σ√dim / |e|. With σ = 0, ``self_neighbor: allow`` and ``compare: clean`` it is the
identity on distinct unit vectors.

Cost: items² × dim multiply-adds in a domain, in chunks; no extra traffic.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from harness.core.defense import Defense, Federation
from harness.core.errors import RunError
from harness.core.messages import EmbeddingUpload, Message
from harness.core.neighbors import nearest
from harness.core.params import Paper, Params
from harness.core.registry import DEFENSES
from harness.core.seeds import Seeds

M = TypeVar("M", bound=Message)


class ReplacementConfig(Params):
    """Parameters of the replacement."""

    sigma: float = Field(
        0.1, ge=0, le=1e6, description="noise standard deviation per coordinate [paper: 0.1, 0.05]"
    )
    self_neighbor: Literal["exclude", "allow"] = Field(
        "exclude", description="whether an item may be its own replacement [paper: exclude]"
    )
    compare: Literal["noisy", "clean"] = Field(
        "noisy", description="what the noisy vector is compared with [paper: noisy]"
    )
    upload: Literal["clean_neighbor", "noisy_neighbor", "noisy_self"] = Field(
        "clean_neighbor", description="which vector is sent (equation 6)"
    )
    normalize: bool = Field(True, description="scale vectors to unit length first [inferred]")

    @model_validator(mode="after")
    def _meaningful(self) -> ReplacementConfig:
        if self.self_neighbor == "allow" and self.compare == "noisy":
            raise ValueError(
                "self_neighbor: allow needs compare: clean (among noisy vectors an item is its own "
                "nearest neighbour at every sigma)"
            )
        return self


@DEFENSES.register("replacement")
class Replacement(Defense):
    """See the module docstring."""

    paper = Paper("arXiv:2604.14833", "reimplementation")
    reads = (EmbeddingUpload,)
    strength = "sigma"
    Config = ReplacementConfig

    def on_client(self, message: M, federation: Federation, seeds: Seeds) -> M:
        """Return the upload with every vector replaced within its own domain."""
        if not isinstance(message, EmbeddingUpload):
            return message
        vectors = message.vectors.clone()
        for domain in message.domain.unique().tolist():
            rows = (message.domain == domain).nonzero().flatten()
            stream = seeds.torch("replacement", federation.round_index, domain)
            vectors[rows] = self._perturbed(vectors[rows], domain, stream)
        return cast("M", replace(message, vectors=vectors))

    def _perturbed(
        self, vectors: Float[Tensor, "item dim"], domain: int, stream: torch.Generator
    ) -> Float[Tensor, "item dim"]:
        config: ReplacementConfig = self.config
        clean = F.normalize(vectors, dim=1) if config.normalize else vectors
        noise = torch.randn(clean.shape, generator=stream, dtype=clean.dtype)
        noisy = clean + config.sigma * noise
        if config.upload == "noisy_self":
            return noisy
        exclude = config.self_neighbor == "exclude"
        if exclude and len(vectors) < 2:
            raise RunError(f"replacement: domain {domain} has one item, so no other to send")
        candidates = noisy if config.compare == "noisy" else clean
        own = torch.arange(len(vectors)) if exclude else None
        chosen = nearest(noisy, candidates, exclude=own).items[:, 0]
        return noisy[chosen] if config.upload == "noisy_neighbor" else clean[chosen]
