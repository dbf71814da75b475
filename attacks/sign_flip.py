"""Sign flip: malicious clients send the opposite of an honest update, scaled.

Li, Xu, Chen, Giannakis and Ling, "RSA: Byzantine-robust stochastic aggregation methods", AAAI
2019, arXiv:1811.03761, section on experiments (sign-flipping attack).

Differs from the paper: the honest update is the client's own (``knowledge: own``, default) or the
mean of the benign clients (``omniscient``); item rows travel sparsely, so the omniscient attacker
averages each row over its benign senders and sends every row that a benign client sent. On
uploaded text vectors (SF-UBM) the malicious vectors are negated; no benign vector is read there.

Threat model: malicious clients that deviate from the protocol. ``own`` sees nothing but what each
client computed itself; ``omniscient`` also reads the benign updates of the round, which no real
client can, and is the worst case of this family. In a cohort without a benign client it falls back
to ``own``.

Cost: one pass over the cohort's message. ``omniscient`` widens the row axis to the number of items
that benign clients sent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, TypeVar, cast

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from attacks.crafted_rows import moments, replace_dense, replace_rows
from harness.core.attack import AttackContext, PoisoningAttack
from harness.core.messages import EmbeddingUpload, Message, ModelUpdate
from harness.core.observe import ThreatModel, View
from harness.core.params import Paper, Params
from harness.core.registry import ATTACKS
from harness.core.seeds import Seeds

M = TypeVar("M", bound=Message)

OWN = ThreatModel(
    adversary="client",
    sees=frozenset(),
    acts=True,
    words="Malicious clients send the scaled opposite of the update they computed honestly.",
)
OMNISCIENT = ThreatModel(
    adversary="client",
    sees=frozenset({"messages"}),
    acts=True,
    words=(
        "Malicious clients read the round's benign updates and send the scaled opposite of their "
        "mean (worst case)."
    ),
)


@ATTACKS.register("sign_flip")
class SignFlip(PoisoningAttack):
    """See the module docstring."""

    paper = Paper("arXiv:1811.03761", "reimplementation")
    reads = (ModelUpdate, EmbeddingUpload)
    threat_model = OWN

    class Config(Params):
        """Parameters of the sign flip."""

        scale: float = Field(1.0, gt=0, le=1e6, description="factor on the opposite update")
        knowledge: Literal["own", "omniscient"] = Field(
            "own", description="what is negated: the client's own update, or the benign mean"
        )

    def __init__(self, config: Params | None = None, **values: Any) -> None:
        super().__init__(config, **values)
        if self.config.knowledge == "omniscient":
            # What the adversary sees depends on the configuration, so the instance says so.
            self.threat_model = OMNISCIENT  # pyright: ignore[reportAttributeAccessIssue]

    def craft(
        self,
        view: View,
        message: M,
        malicious: Bool[Tensor, " row"],
        context: AttackContext,
        seeds: Seeds,
    ) -> M:
        """Return the message with the malicious rows flipped."""
        if not bool(malicious.any()):
            return message
        if isinstance(message, EmbeddingUpload):
            vectors = message.vectors.clone()
            vectors[malicious] *= -self.config.scale
            return cast("M", replace(message, vectors=vectors))
        assert isinstance(message, ModelUpdate)
        if self.config.knowledge == "own" or bool(malicious.all()):
            factor = torch.ones(len(message), dtype=message.rows.dtype)
            factor[malicious] = -self.config.scale
            return cast("M", message.scaled(factor))
        # The view, not the argument, is what grants the benign clients' updates.
        seen = cast("ModelUpdate", view.messages()[-1][1])
        benign = moments(seen.select(~malicious))
        dense = {name: -self.config.scale * mean for name, (mean, _) in benign.dense.items()}
        crafted = replace_dense(message, malicious, dense)
        rows = -self.config.scale * benign.mean
        return cast("M", replace_rows(crafted, malicious, benign.item_ids, rows))
