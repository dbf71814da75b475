"""LUMOS's local objective, for all clients of a chunk at once.

L(u) = L_rec(u) + λ·L_CL(u), arXiv:2602.09306v1, section 3 [digest-A].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.core.client_weight import Parameter, Parameters
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
    weight = logits.new_tensor([1.0, 1.0, counterfactual_weight]).log()
    in_sum = logits.masked_fill(~present, -torch.inf) + weight
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
    real = torch.arange(hidden.shape[1]) < (lengths - 1).unsqueeze(1)
    loss = F.softplus(-(hidden * positive).sum(-1)) + F.softplus((hidden * negative).sum(-1))
    return (loss * real).sum(1) / real.sum(1)


@dataclass(frozen=True)
class ChunkLoss:
    """The objective of one chunk, as the engine calls it.

    Attributes:
        backbone: sequence encoder.
        batch: packed sequences.
        layout: the tokens to encode: all, or the history's inputs alone where no view counts.
        tokens: row index of each of them in its client's compact table.
        targets: row index of the item that each history position predicts.
        negatives: row index of the negative at each step and history position.
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
    negatives: Int[Tensor, "client step position"]
    contrastive_weight: float
    temperature: float
    counterfactual_weight: float
    train_view_items: bool = True

    @property
    def factored(self) -> frozenset[str]:
        """Parameters that the encoder reads by `linear` and `rows_at` alone."""
        return self.backbone.factored()

    def __call__(self, step: int, dense: Parameters, rows: Parameter) -> Float[Tensor, " client"]:
        """Return each client's loss at ``step``."""
        # Three lookups cost less than cutting one apart, whose gradient would be padded with zeros.
        embedded = rows_at(rows, self.tokens)
        positive, negative = rows_at(rows, self.targets), rows_at(rows, self.negatives[:, step])
        if not self.train_view_items:
            in_history = self.batch.in_history[:, : self.tokens.shape[1]].unsqueeze(-1)
            embedded = torch.where(in_history, embedded, embedded.detach())
        hidden = self.backbone.hidden(dense, embedded, self.layout)
        positions = self.targets.shape[1]
        before = hidden if hidden.shape[1] == positions else hidden[:, :positions]
        loss = recommendation_loss(before, positive, negative, self.batch.lengths)
        if hidden.shape[1] == positions:
            return loss
        client = torch.arange(len(hidden)).unsqueeze(1)
        contrast = contrastive_loss(
            hidden[client, self.batch.ends],
            self.batch.present,
            self.temperature,
            self.counterfactual_weight,
        )
        return loss + self.contrastive_weight * contrast
