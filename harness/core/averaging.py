"""Averaging of model updates as they arrive (FedAvg), and joining the messages of a cohort."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.core.errors import RunError
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
        self.clients += len(update)
        for name, delta in update.dense.items():
            # A chunk is summed as the engine sums it, so that both ways give the same bits.
            summed = (delta.sum(0) if isinstance(update, ModelUpdate) else delta).double()
            self.dense[name] = self.dense[name] + summed if name in self.dense else summed
        sent = update.row_ids != PAD
        items = update.row_ids[sent]
        self.table.index_add_(0, items, update.rows[sent].double())
        self.senders += torch.bincount(items, minlength=len(self.senders))
        if isinstance(update, ModelSum) and update.table is not None:
            self.table += update.table.double()
            self.senders += len(update)

    def mean(self, dtype: torch.dtype, *, over_cohort: bool) -> ModelAggregate:
        """Return the unweighted mean: dense over the cohort, rows over senders or the cohort."""
        ids = self.senders.nonzero().flatten()
        divisors = self.clients if over_cohort else self.senders[ids].unsqueeze(1)
        return ModelAggregate(
            dense={name: (total / self.clients).to(dtype) for name, total in self.dense.items()},
            row_ids=ids,
            rows=(self.table[ids] / divisors).to(dtype),
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
