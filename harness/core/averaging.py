"""Averaging of model updates as they arrive (FedAvg), and joining the messages of a cohort."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.core.errors import RunError
from harness.core.item_rows import read_items
from harness.core.messages import PAD, Message, ModelAggregate, ModelSum, ModelUpdate


class RunningSum:
    """Sums over a cohort: chunks add up in float64; memory does not grow with the cohort.

    Args:
        num_items: size of the catalogue.
        dim: width of an item row.
    """

    def __init__(self, num_items: int, dim: int) -> None:
        self.clients = 0
        self.dense: dict[str, Tensor] = {}
        self.table = torch.zeros(num_items, dim, dtype=torch.float64)
        self.senders = torch.zeros(num_items, dtype=torch.int64)

    def add(self, update: ModelUpdate | ModelSum) -> None:
        """Add one chunk of the cohort."""
        chunk = _summed(update, len(self.table)) if isinstance(update, ModelUpdate) else update
        self.clients += len(chunk)
        for name, delta in chunk.dense.items():
            if name in self.dense:
                self.dense[name] += delta
            else:
                self.dense[name] = delta.double()
        self.table.index_add_(0, chunk.item_ids, chunk.rows.double())
        self.senders.index_add_(0, chunk.item_ids, chunk.senders)

    def mean(self, dtype: torch.dtype, *, over_cohort: bool) -> ModelAggregate:
        """Return the unweighted mean: dense over the cohort, rows over senders or the cohort."""
        ids = self.senders.nonzero().flatten()
        divisors = self.clients if over_cohort else self.senders[ids].unsqueeze(1)
        return ModelAggregate(
            dense={name: (total / self.clients).to(dtype) for name, total in self.dense.items()},
            row_ids=ids,
            rows=(self.table[ids] / divisors).to(dtype),
        )


def _summed(update: ModelUpdate, num_items: int) -> ModelSum:
    """Return what the engine would have sent, had nobody to see the single updates."""
    items = read_items(update.row_ids, num_items)
    return ModelSum(
        clients=update.clients,
        dense={name: delta.sum(0) for name, delta in update.dense.items()},
        item_ids=items.ids,
        rows=items.sum(update.rows),
        senders=items.senders,
        num_examples=update.num_examples,
    )


def average(messages: Iterable[Message], num_items: int, *, over_cohort: bool) -> ModelAggregate:
    """Return the unweighted mean of a cohort: see `RunningSum.mean`.

    Args:
        messages: the cohort in chunks, at least one client.
        num_items: size of the catalogue.
        over_cohort: divide an item row by the cohort's size, not by the number of its senders.
    """
    total: RunningSum | None = None
    dtype = torch.float32
    for message in messages:
        assert isinstance(message, ModelUpdate | ModelSum)
        if total is None:
            total, dtype = RunningSum(num_items, message.rows.shape[-1]), message.rows.dtype
        total.add(message)
    assert total is not None
    return total.mean(dtype, over_cohort=over_cohort)


def join_updates(messages: Iterable[Message]) -> ModelUpdate:
    """Join a cohort's chunks into one message, in their order."""
    parts = [message for message in messages if isinstance(message, ModelUpdate)]
    if not parts:
        raise RunError("no client of the cohort has a training pair; check min_length")
    if len(parts) == 1:
        return parts[0]
    width = max(part.row_ids.shape[1] for part in parts)
    return ModelUpdate(
        clients=torch.cat([part.clients for part in parts]),
        dense={n: torch.cat([part.dense[n] for part in parts]) for n in parts[0].dense},
        row_ids=torch.cat(
            [F.pad(p.row_ids, (0, width - p.row_ids.shape[1]), value=PAD) for p in parts]
        ),
        rows=torch.cat([F.pad(p.rows, (0, 0, 0, width - p.rows.shape[1])) for p in parts]),
        num_examples=torch.cat([part.num_examples for part in parts]),
    )
