"""LUMOS's local objective, for all clients of a chunk at once.

L(u) = L_rec(u) + λ·L_CL(u), arXiv:2602.09306v1, section 3 [digest-A].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.core.client_weight import Parameter, Parameters, apply_function
from harness.core.unread_rows import UnreadRows
from models.backbone import Backbone
from models.packing import PackedBatch
from models.sasrec import rows_at
from models.sequences import Layout


def contrastive_loss(
    states: Float[Tensor, "client 4 dim"],
    present: Bool[Tensor, "client 3"],
    temperature: float,
    counterfactual_weight: float = 1.0,
) -> Float[Tensor, " client"]:
    """Return the tri-view loss; a view that is absent stands neither in the sum nor in Z.

    Args:
        states: last hidden states of history, future, rephrased and counterfactual sequence.
        present: which views exist.
        temperature: τ.
        counterfactual_weight: factor of the counterfactual's term in Z (1: as published).
    """
    anchor, views = states[:, :1], states[:, 1:]
    logits = F.cosine_similarity(anchor, views, dim=-1) / temperature
    weight = logits.new_ones(3)
    weight[2:] = counterfactual_weight
    in_sum = logits.masked_fill(~present, -torch.inf) + weight.log()
    partition = torch.logsumexp(in_sum, dim=1, keepdim=True)
    losses = (partition - logits[:, :2]).masked_fill(~present[:, :2], 0.0)
    return losses.sum(1)


def recommendation_loss(
    hidden: Float[Tensor, "client position dim"],
    positive: Float[Tensor, "client position dim"],
    negative: Float[Tensor, "client position dim"],
    lengths: Int[Tensor, " client"],
) -> Float[Tensor, " client"]:
    """Return mean binary cross-entropy over each client's training positions.

    Position ``t`` predicts item ``t + 1``, so a history of n items has n − 1 positions.
    """
    real = _real(hidden, lengths).to(hidden.dtype)
    share = real / real.sum(1, keepdim=True)
    return apply_function(_PairLoss, hidden, positive, negative, share)


class _PairLoss(torch.autograd.Function):
    """Σ share · (softplus(−h·p) + softplus(h·n)), in half as many passes as autograd's."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, positive: Tensor, negative: Tensor, share: Tensor
    ) -> Float[Tensor, " client"]:
        up, down = (hidden * positive).sum(-1), (hidden * negative).sum(-1)
        ctx.save_for_backward(hidden, positive, negative, share, up, down)
        return ((F.softplus(-up) + F.softplus(down)) * share).sum(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, positive, negative, share, up, down = ctx.saved_tensors
        wide = share * gradients[0].unsqueeze(1)
        of_up = (-wide * torch.sigmoid(-up)).unsqueeze(-1)
        of_down = (wide * torch.sigmoid(down)).unsqueeze(-1)
        back = (positive * of_up).addcmul_(negative, of_down)
        return back, hidden * of_up, hidden * of_down, None


def softmax_loss(
    hidden: Float[Tensor, "client position dim"],
    rows: Parameter,
    targets: Int[Tensor, "client position"],
    real_rows: Bool[Tensor, "client row"],
    rest: UnreadRows,
    lengths: Int[Tensor, " client"],
) -> Float[Tensor, " client"]:
    """Return mean cross-entropy over the whole catalogue at each client's training positions.

    Args:
        hidden: state of each history position.
        rows: each client's compact item table.
        targets: row in it of the item that each position predicts.
        real_rows: rows of it that are items and no padding.
        rest: all items outside of it.
        lengths: history items of each client; n items have n − 1 positions.
    """
    real = _real(hidden, lengths)
    if isinstance(rows, Tensor):
        scores = torch.bmm(hidden, rows.transpose(1, 2))
    else:
        scores = rows.scores(hidden)
    among = scores.masked_fill(~real_rows.unsqueeze(1), -torch.inf)
    partition = torch.logaddexp(among.logsumexp(-1), rest.logsumexp(hidden))
    loss = partition - scores.gather(2, targets.unsqueeze(2)).squeeze(2)
    return (loss * real).sum(1) / real.sum(1)


def _real(
    hidden: Float[Tensor, "client position dim"], lengths: Int[Tensor, " client"]
) -> Bool[Tensor, "client position"]:
    positions = torch.arange(hidden.shape[1], device=hidden.device)
    return positions < (lengths - 1).unsqueeze(1)


@dataclass(frozen=True)
class ChunkLoss:
    """The objective of one chunk, as the engine calls it.

    Attributes:
        backbone: sequence encoder.
        batch: packed sequences.
        layout: the tokens to encode: all, or the history's inputs alone where no view counts.
        tokens: row index of each of them in its client's compact table.
        targets: row index of the item that each history position predicts.
        real_rows: rows of the compact tables that are items and no padding.
        negatives: row index of the negative at each step and history position; None for a softmax
            over the whole catalogue.
        contrastive_weight: λ.
        temperature: τ.
        counterfactual_weight: factor of the counterfactual in Z.
        train_view_items: whether L_CL moves the embeddings of the views' own items.
    """

    backbone: Backbone
    batch: PackedBatch
    layout: Layout
    tokens: Int[Tensor, "client token"]
    targets: Int[Tensor, "client position"]
    real_rows: Bool[Tensor, "client row"]
    negatives: Int[Tensor, "client step position"] | None
    contrastive_weight: float
    temperature: float
    counterfactual_weight: float
    train_view_items: bool = True

    @property
    def factored(self) -> frozenset[str]:
        """Parameters that the encoder reads by `linear` and `rows_at` alone."""
        return self.backbone.factored()

    @property
    def every_row(self) -> bool:
        """Whether every item row is read."""
        return self.negatives is None

    def to(self, device: str) -> ChunkLoss:
        """Return the same objective with all it reads on ``device``."""
        return replace(
            self,
            batch=self.batch.to(device),
            layout=self.layout.to(device),
            tokens=self.tokens.to(device),
            targets=self.targets.to(device),
            real_rows=self.real_rows.to(device),
            negatives=None if self.negatives is None else self.negatives.to(device),
        )

    def __call__(
        self, step: int, dense: Parameters, rows: Parameter, rest: UnreadRows | None = None
    ) -> Float[Tensor, " client"]:
        """Return each client's loss at ``step``."""
        # Three lookups cost less than cutting one apart, whose gradient would be padded with zeros.
        embedded = rows_at(rows, self.tokens)
        pairs = self._pairs(step, rows)
        if not self.train_view_items:
            in_history = self.batch.in_history[:, : self.tokens.shape[1]].unsqueeze(-1)
            embedded = torch.where(in_history, embedded, embedded.detach())
        hidden = self.backbone.hidden(dense, embedded, self.layout)
        positions = self.targets.shape[1]
        before = hidden if hidden.shape[1] == positions else hidden[:, :positions]
        loss = self._recommendation(before, pairs, rows, rest)
        if hidden.shape[1] == positions:
            return loss
        client = torch.arange(len(hidden), device=hidden.device).unsqueeze(1)
        contrast = contrastive_loss(
            hidden[client, self.batch.ends],
            self.batch.present,
            self.temperature,
            self.counterfactual_weight,
        )
        return loss + self.contrastive_weight * contrast

    def _pairs(self, step: int, rows: Parameter) -> tuple[Tensor, Tensor] | None:
        """Return the rows of targets and negatives, where single negatives are drawn."""
        if self.negatives is None:
            return None
        return rows_at(rows, self.targets), rows_at(rows, self.negatives[:, step])

    def _recommendation(
        self,
        hidden: Float[Tensor, "client position dim"],
        pairs: tuple[Tensor, Tensor] | None,
        rows: Parameter,
        rest: UnreadRows | None,
    ) -> Float[Tensor, " client"]:
        lengths = self.batch.lengths
        if pairs is not None:
            return recommendation_loss(hidden, *pairs, lengths)
        assert rest is not None, "a softmax over the catalogue reads every row"
        return softmax_loss(hidden, rows, self.targets, self.real_rows, rest, lengths)
