"""How malicious clients put crafted item rows into a cohort's message, and what the rest sent.

Shared by the attacks that work on :class:`~harness.core.messages.ModelUpdate`; registers nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.core.messages import PAD, ModelUpdate, rows_by_item


class Moments(NamedTuple):
    """Mean and sample standard deviation of some clients' deltas.

    Attributes:
        dense: parameter name to (mean, std), over all of these clients.
        item_ids: items that at least one of them sent.
        mean: mean of each item's row over its senders among them.
        std: sample standard deviation over the same senders, 0 for a single sender.
    """

    dense: dict[str, tuple[Tensor, Tensor]]
    item_ids: Int[Tensor, " item"]
    mean: Float[Tensor, "item dim"]
    std: Float[Tensor, "item dim"]


def moments(update: ModelUpdate) -> Moments:
    """Return coordinate-wise moments over a non-empty update's clients, summed in float64."""
    dense = {name: _mean_and_std(delta, 0) for name, delta in update.dense.items()}
    nothing = update.rows.new_zeros(0, update.rows.shape[-1])
    ids, means, stds = [update.row_ids.new_zeros(0)], [nothing], [nothing]
    for group in rows_by_item(update):
        mean, std = _mean_and_std(group.members, 1)
        ids.append(group.item_ids)
        means.append(mean)
        stds.append(std)
    return Moments(dense, torch.cat(ids), torch.cat(means), torch.cat(stds))


def _mean_and_std(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    wide = values.double()
    mean = wide.mean(dim)
    if values.shape[dim] < 2:
        return mean.to(values.dtype), torch.zeros_like(mean, dtype=values.dtype)
    return mean.to(values.dtype), wide.std(dim, correction=1).to(values.dtype)


def insert_rows(
    message: ModelUpdate,
    malicious: Bool[Tensor, " client"],
    item_ids: Int[Tensor, " item"],
    rows: Float[Tensor, "item dim"],
) -> ModelUpdate:
    """Return ``message`` where every malicious client sends these rows beside its other rows.

    A row the client already sends is replaced; otherwise a free slot is used, and the row axis
    grows where some malicious client has none.
    """
    ids, values = message.row_ids.clone(), message.rows.clone()
    clients = malicious.nonzero().flatten()
    for item, row in zip(item_ids.tolist(), rows.to(values.dtype), strict=True):
        taken, free = ids[clients] == item, ids[clients] == PAD
        if not bool((taken.any(1) | free.any(1)).all()):
            ids, values = _widen(ids, values, 1)
            taken, free = ids[clients] == item, ids[clients] == PAD
        slot = torch.where(taken.any(1), taken.int().argmax(1), free.int().argmax(1))
        ids[clients, slot] = item
        values[clients, slot] = row
    return replace(message, row_ids=ids, rows=values)


def replace_rows(
    message: ModelUpdate,
    malicious: Bool[Tensor, " client"],
    item_ids: Int[Tensor, " item"],
    rows: Float[Tensor, "item dim"],
) -> ModelUpdate:
    """Return ``message`` where every malicious client sends exactly these rows."""
    missing = max(0, len(item_ids) - message.row_ids.shape[1])
    ids, values = _widen(message.row_ids, message.rows, missing)
    ids[malicious], values[malicious] = PAD, 0.0
    clients = malicious.nonzero()
    slots = torch.arange(len(item_ids))
    ids[clients, slots] = item_ids
    values[clients, slots] = rows.to(values.dtype)
    return replace(message, row_ids=ids, rows=values)


def replace_dense(
    message: ModelUpdate, malicious: Bool[Tensor, " client"], dense: dict[str, Tensor]
) -> ModelUpdate:
    """Return ``message`` where every malicious client sends these dense deltas."""
    crafted: dict[str, Tensor] = {}
    for name, delta in message.dense.items():
        crafted[name] = delta.clone()
        crafted[name][malicious] = dense[name].to(delta.dtype)
    return replace(message, dense=crafted)


def _widen(ids: Tensor, values: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """Return fresh copies with ``slots`` more free places on the row axis."""
    wider = F.pad(ids, (0, slots), value=PAD).clone()
    return wider, F.pad(values, (0, 0, 0, slots)).clone()
