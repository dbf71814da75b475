"""Span check: the server tests which item, at which position, lies in the span of a gradient.

Petrov, Dimitrov, Baader, Müller and Vechev, "DAGER: Exact gradient inversion for large language
models", NeurIPS 2024, arXiv:2405.15586, section 4 (rank deficiency of linear layers' gradients,
first-layer span check).

Differs from the paper: the vocabulary is the item catalogue, one sequence a client, and every
position has its own embedding, so the first layer alone gives item and position; there is no second
stage that joins tokens to sentences. Weights here are ``[in, out]`` and used as x @ W, so
grad W = Σ_t x_tᵀ δ_t and the *column* space of the ``[in, out]`` matrix is span{x_t}, with
x_t = E[i_t] + P[t] (the rows' span in the paper's ``[out, in]`` convention). The rank is where the
ratio of successive singular values is largest; a ratio below ``min_gap`` counts as full rank, and
the attack then abstains: no span is left to test (more tokens than dimensions, several local steps,
an element-wise optimiser such as Adam, or noise). The claim at a position is the item with the
smallest residual |x − UUᵀx| / |x|; it is withheld above ``max_residual``, and above the residual
that a random direction stays below with probability ``false_alarm`` over the whole catalogue
(a Beta law, [ours]; embeddings are not isotropic, so this is a guide near full rank, no bound).
Items of synthetic views and of other sequences in the same update lie in the span as well.

Threat model: an honest-but-curious server that sees a client's update and the model it sent out.
Exact for one SGD step without noise; the item table need not be uploaded.

Cost: for each client an SVD of a dim × dim matrix and items × positions × (dim − rank)
multiply-adds, one position at a time in float64.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from scipy.stats import beta
from torch import Tensor

from attacks.row_norm import updates
from harness.core.attack import InferenceAttack, ItemAtPosition
from harness.core.messages import ModelUpdate
from harness.core.observe import ModelHandle, ThreatModel, View
from harness.core.params import Paper, Params
from harness.core.registry import ATTACKS
from harness.core.seeds import Seeds

ABSTAIN = -1


class Span(NamedTuple):
    """Column space of a gradient.

    Attributes:
        rank: numerical rank; ``dim`` where no gap was found.
        complement: orthonormal basis of the orthogonal complement.
    """

    rank: int
    complement: Float[Tensor, "dim corank"]


class SpanCheckConfig(Params):
    """Parameters of the span check."""

    parameter: str = Field(
        "blocks.0.value.weight", description="dense [in, out] weight applied to item + position"
    )
    observe: Literal["first", "last"] = Field("last", description="recorded round that is attacked")
    min_gap: float = Field(
        5.0, gt=1, description="ratio of successive singular values below which rank is full"
    )
    max_residual: float = Field(
        0.05, gt=0, le=1, description="largest relative residual that is still claimed"
    )
    false_alarm: float = Field(
        0.01, gt=0, le=1, description="probability that a random catalogue yields a claim"
    )


@ATTACKS.register("span_check")
class SpanCheck(InferenceAttack):
    """See the module docstring."""

    paper = Paper("arXiv:2405.15586", "simplified")
    reads = (ModelUpdate,)
    threat_model = ThreatModel(
        adversary="server",
        sees=frozenset({"messages", "global model"}),
        words=(
            "A curious server tests which item at which position lies in the span of the gradient "
            "of the first attention block's value weights."
        ),
    )
    Config = SpanCheckConfig

    def declines(self, view: View) -> str | None:
        """Need an update that holds the weight, and the model of that round."""
        recorded = updates(view)
        if not recorded:
            return "no model update is on record"
        name = self.config.parameter
        if name not in recorded[-1][1].dense:
            return f"the update has no parameter {name!r}"
        return None

    def infer(self, view: View, seeds: Seeds) -> ItemAtPosition:
        """Claim an item for every position of every client, or abstain."""
        recorded = updates(view)
        index, message = recorded[0 if self.config.observe == "first" else -1]
        model = view.model(index)
        positions = int(view.protocol.get("max_length", len(model.position_table)))
        gradients = message.dense[self.config.parameter]
        items = torch.full((len(message), positions), ABSTAIN)
        ranks = torch.zeros(len(message), dtype=torch.int64)
        for client, gradient in enumerate(gradients):
            span = column_span(gradient, self.config.min_gap)
            ranks[client] = span.rank
            if 0 < span.rank < gradient.shape[0]:
                items[client] = self._claims(model, span, positions)
        return ItemAtPosition(message.clients.clone(), items, ranks, index)

    def _claims(self, model: ModelHandle, span: Span, positions: int) -> Int[Tensor, " position"]:
        table, place = model.item_table.double(), model.position_table.double()
        limit = min(
            self.config.max_residual,
            chance_residual(span, len(table), self.config.false_alarm),
        )
        # Projecting on the complement, not 1 − |Uᵀx|², keeps residuals below the square root of
        # the machine precision apart.
        outside, outside_place = table @ span.complement, place @ span.complement
        claims = torch.full((positions,), ABSTAIN)
        for t in range(min(positions, len(place))):
            residual = (outside + outside_place[t]).norm(dim=1) / (table + place[t]).norm(dim=1)
            best = residual.nan_to_num(nan=float("inf")).argmin()
            if residual[best] <= limit:
                claims[t] = best
        return claims


def column_span(gradient: Float[Tensor, "dim out"], min_gap: float) -> Span:
    """Return rank (by the largest gap) and complement of a gradient's column space, in float64."""
    matrix = gradient.detach().double()
    dim = matrix.shape[0]
    full = Span(dim, matrix.new_zeros(dim, 0))
    if not bool(matrix.isfinite().all()):
        return full
    if not bool(matrix.any()):
        return Span(0, torch.eye(dim, dtype=matrix.dtype))
    basis, values, _ = torch.linalg.svd(matrix, full_matrices=True)
    values = values.clamp_min(values[0] * torch.finfo(torch.float64).eps)
    ratios = values[:-1] / values[1:]
    if not len(ratios) or float(ratios.max()) < min_gap:
        return full
    rank = int(ratios.argmax()) + 1
    return Span(rank, basis[:, rank:])


def chance_residual(span: Span, num_items: int, false_alarm: float) -> float:
    """Return the residual that any of ``num_items`` random directions undercuts with a probability.

    The squared residual of an isotropic direction is Beta(corank/2, rank/2); the union bound over
    the catalogue divides the probability by ``num_items``.
    """
    corank = span.complement.shape[1]
    return float(beta.ppf(false_alarm / num_items, corank / 2, span.rank / 2)) ** 0.5
