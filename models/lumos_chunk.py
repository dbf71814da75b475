"""What a chunk of LUMOS's clients trains on: packed sequences, negatives, and the objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.core.defense import DataPlan
from harness.core.messages import PAD
from harness.core.seeds import Seeds
from models.backbone import SequenceModel
from models.compact import compact
from models.lumos_config import MAX_FUTURE, LumosConfig
from models.lumos_device import WrittenViews, packed_user
from models.lumos_objective import ChunkLoss
from models.negatives import sample_negatives
from models.packing import PackedBatch, collate, collate_histories


class Users(NamedTuple):
    """The clients of a chunk.

    Attributes:
        ids: who they are.
        histories: of all users.
        views: what all devices' LLMs wrote; None where no view is in use.
    """

    ids: list[int]
    histories: Sequence[Int[np.ndarray, " event"]]
    views: WrittenViews | None

    def own_histories(self) -> list[Int[np.ndarray, " event"]]:
        """Return the histories of the chunk."""
        return [self.histories[user] for user in self.ids]


class Negatives:
    """Draws of a round's negatives: they hang on a client's place among the cohort alone.

    Args:
        seeds: of the round.
        clients: size of the cohort.
        config: of the system; a softmax draws nothing.
    """

    def __init__(self, seeds: Seeds, clients: int, config: LumosConfig) -> None:
        shape = (clients, config.local_epochs, config.max_length)
        drawn = config.loss == "binary"
        self._draws = seeds.numpy("negatives").random(shape) if drawn else None

    def of(self, places: list[int]) -> Float[np.ndarray, "client step position"] | None:
        """Return uniform draws for the clients at these places; None where none are needed."""
        return None if self._draws is None else self._draws[places]


def token_counts(
    clients: Sequence[int],
    histories: Sequence[Int[np.ndarray, " event"]],
    views: WrittenViews | None,
    config: LumosConfig,
) -> list[int]:
    """Return at least the number of each client's packed tokens; below 2 it can't train."""
    longest = config.window
    tokens = [min(len(histories[client]), longest) for client in clients]
    if views is None:
        return tokens
    both = views.rephrased, views.counterfactual
    return [
        own + MAX_FUTURE + sum(min(len(view[client]), longest) for view in both) if own > 1 else own
        for client, own in zip(clients, tokens, strict=True)
    ]


def packed(users: Users, config: LumosConfig, plan: DataPlan) -> PackedBatch:
    """Pack histories and views."""
    histories, views = users.own_histories(), users.views
    if views is None:
        return collate_histories(histories, config.window)
    counterfactual = plan.counterfactual_weight > 0
    pairs = zip(users.ids, histories, strict=True)
    return collate([packed_user(u, h, views, config, counterfactual) for u, h in pairs])


def chunk_loss(
    model: SequenceModel,
    users: Users,
    batch: PackedBatch,
    draws: Float[np.ndarray, "client step position"] | None,
    config: LumosConfig,
    plan: DataPlan,
) -> tuple[Int[Tensor, "client row"], ChunkLoss]:
    """Return the item rows that each client reads by index, and the chunk's objective.

    Args:
        model: global weights.
        users: of the chunk.
        batch: their packed sequences.
        draws: of negatives; None for a softmax over the catalogue.
        config: of the system.
        plan: what a defence changed about the data.
    """
    positions = int(batch.lengths.max()) - 1
    contrast = config.contrastive_weight > 0 and bool(batch.present.any())
    # Without a view the last item of a history is a target and never an input.
    layout = batch.layout if contrast else batch.layout.first(positions)
    parts = [layout.ids, batch.layout.ids[:, 1 : positions + 1]]
    if draws is not None:
        kept = draws[:, :, :positions]
        drawn = sample_negatives(kept, users.own_histories(), len(model.table))
        parts.append(_real(torch.from_numpy(drawn), batch).flatten(1))
    row_ids, index = compact(torch.cat(parts, 1))
    tokens, targets, *negatives = index.split([part.shape[1] for part in parts], 1)
    loss = ChunkLoss(
        backbone=model.backbone,
        batch=batch,
        layout=layout,
        tokens=tokens,
        targets=targets,
        real_rows=row_ids != PAD,
        negatives=negatives[0].unflatten(1, (-1, positions)) if negatives else None,
        contrastive_weight=config.contrastive_weight,
        temperature=config.temperature,
        counterfactual_weight=plan.counterfactual_weight,
        train_view_items=config.train_view_items,
    )
    return row_ids, loss


def _real(
    negatives: Int[Tensor, "client step position"], batch: PackedBatch
) -> Int[Tensor, "client step position"]:
    """Put a client's own first item where it has no position, or nothing that it never had."""
    positions = torch.arange(negatives.shape[2])
    real = (positions < (batch.lengths - 1).reshape(-1, 1, 1)) & (negatives >= 0)
    return torch.where(real, negatives, batch.layout.ids[:, :1].unsqueeze(1))
