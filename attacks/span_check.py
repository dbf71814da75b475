"""Span check: the server tests which item, at which position, lies in the span of a gradient.

Petrov, Dimitrov, Baader, Müller and Vechev, "DAGER: Exact gradient inversion for large language
models", NeurIPS 2024, arXiv:2405.15586, section 4 (rank deficiency of linear layers' gradients,
first-layer span check).

Differs from the paper: the vocabulary is the item catalogue, one sequence a client, and every
position has its own embedding, so the first layer alone gives item and position; there is no second
stage that joins tokens to sentences. Weights here are ``[in, out]`` and used as x @ W, so
grad W = Σ_t x_tᵀ δ_t and the *column* space of the ``[in, out]`` matrix is span{x_t}, with
x_t = E[i_t] + P[t] (the rows' span in the paper's ``[out, in]`` convention). The rank is where the
ratio of successive singular values is largest, if it reaches ``min_gap``. Without such a gap (more
tokens than dimensions, several local steps, an element-wise optimiser such as Adam, or noise) the
published form, ``rank: gap``, takes the rank as full and abstains; the default, ``rank: noise``,
is the adaptive form [ours] and keeps the singular values that stand out of white noise. The claim
at a position is the item with the smallest residual |x − UUᵀx| / |x|; it is withheld above the
residual that a random direction undercuts with probability ``false_alarm`` over the whole catalogue
(a Beta law, [ours]; embeddings are not isotropic, so this is a guide and no bound), and above
``max_residual`` where a gap was found. A history's last item is a label only and never in the span.
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
from torch import Tensor

from attacks.row_norm import updates
from harness.core.attack import InferenceAttack, ItemAtPosition
from harness.core.messages import ModelUpdate
from harness.core.observe import ModelHandle, ThreatModel, View
from harness.core.params import Paper, Params
from harness.core.registry import ATTACKS
from harness.core.seeds import Seeds

ABSTAIN = -1
NOISE_EDGE = 2.858
"""Optimal hard threshold over the median singular value of a square matrix with white noise of
unknown size (Gavish and Donoho, IEEE Trans. Inf. Theory 2014, arXiv:1305.5870, section III-E)."""


class Span(NamedTuple):
    """Column space of a gradient.

    Attributes:
        rank: numerical rank; ``dim`` where nothing can be told apart.
        exact: whether a gap separates the span from the rest.
        complement: orthonormal basis of the orthogonal complement.
    """

    rank: int
    exact: bool
    complement: Float[Tensor, "dim corank"]


class SpanCheckConfig(Params):
    """Parameters of the span check."""

    parameter: str = Field(
        "blocks.0.value.weight", description="dense [in, out] weight applied to item + position"
    )
    observe: Literal["first", "last"] = Field("last", description="recorded round that is attacked")
    min_gap: float = Field(
        100.0, gt=1, description="smallest ratio of successive singular values that is a gap"
    )
    rank: Literal["gap", "noise"] = Field(
        "noise", description="without a gap: abstain, or take what stands out of white noise"
    )
    max_residual: float = Field(
        0.05, gt=0, le=1, description="largest relative residual claimed where there is a gap"
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
        positions = int(view.protocol.get("window", len(model.position_table)))
        gradients = message.dense[self.config.parameter]
        items = torch.full((len(message), positions), ABSTAIN)
        ranks = torch.zeros(len(message), dtype=torch.int64)
        for client, gradient in enumerate(gradients):
            span = column_span(gradient, self.config.min_gap, self.config.rank)
            ranks[client] = span.rank
            if 0 < span.rank < gradient.shape[0]:
                items[client] = self._claims(model, span, positions)
        return ItemAtPosition(message.clients.clone(), items, ranks, index)

    def _claims(self, model: ModelHandle, span: Span, positions: int) -> Int[Tensor, " position"]:
        table, place = model.item_table.double(), model.position_table.double()
        limit = chance_residual(span, len(table), self.config.false_alarm)
        if span.exact:
            limit = min(limit, self.config.max_residual)
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


def column_span(gradient: Float[Tensor, "dim out"], min_gap: float, rule: str) -> Span:
    """Return numerical rank and complement of a gradient's column space, in float64.

    Args:
        gradient: the weight's delta, square.
        min_gap: smallest ratio of successive singular values that counts as a gap.
        rule: without a gap, ``gap`` calls the rank full; ``noise`` counts the singular values
            above NOISE_EDGE times their median.
    """
    matrix = gradient.detach().double()
    dim = matrix.shape[0]
    full = Span(dim, False, matrix.new_zeros(dim, 0))
    if not bool(matrix.isfinite().all()):
        return full
    if not bool(matrix.any()):
        return Span(0, True, torch.eye(dim, dtype=matrix.dtype))
    basis, values, _ = torch.linalg.svd(matrix, full_matrices=True)
    values = values.clamp_min(values[0] * torch.finfo(torch.float64).eps)
    ratios = values[:-1] / values[1:]
    exact = bool(len(ratios)) and float(ratios.max()) >= min_gap
    if exact:
        rank = int(ratios.argmax()) + 1
    elif rule == "noise":
        # torch's median of an even count is the lower of the middle two.
        rank = int((values > NOISE_EDGE * values.quantile(0.5)).sum())
    else:
        return full
    return Span(rank, exact, basis[:, rank:])


def chance_residual(span: Span, num_items: int, false_alarm: float) -> float:
    """Return the residual that any of ``num_items`` random directions undercuts with a probability.

    The squared residual of an isotropic direction is Beta(corank/2, rank/2); the union bound over
    the catalogue divides the probability by ``num_items``.
    """
    from scipy.stats import beta  # slow: not at every start

    corank = span.complement.shape[1]
    return float(beta.ppf(false_alarm / num_items, corank / 2, span.rank / 2)) ** 0.5
