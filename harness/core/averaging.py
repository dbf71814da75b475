"""Averaging of model updates as they arrive (FedAvg), and joining the messages of a cohort."""

# The fused list operations of torch are public in use, not in its type stubs.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import torch
from torch import Tensor

from harness.core.errors import RunError
from harness.core.item_rows import read_items
from harness.core.messages import Message, ModelAggregate, ModelSum, ModelUpdate


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
        chunk = _as_sum(update, len(self.table))
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
        means = torch._foreach_div(list(self.dense.values()), self.clients)
        return ModelAggregate(
            dense={name: mean.to(dtype) for name, mean in zip(self.dense, means, strict=True)},
            row_ids=ids,
            rows=self.table[ids].div_(divisors).to(dtype),
        )


def _as_sum(update: Message, num_items: int) -> ModelSum:
    """Return what the engine would have sent, had nobody to see the single updates."""
    if isinstance(update, ModelSum):
        return update
    assert isinstance(update, ModelUpdate)
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
    chunks = (_as_sum(message, num_items) for message in messages)
    first = next(chunks)
    second = next(chunks, None)
    if second is None:
        return _mean(first, over_cohort=over_cohort)
    total = RunningSum(num_items, first.rows.shape[-1])
    for chunk in chain([first, second], chunks):
        total.add(chunk)
    return total.mean(first.rows.dtype, over_cohort=over_cohort)


def _mean(chunk: ModelSum, *, over_cohort: bool) -> ModelAggregate:
    """Return what `RunningSum` would of this chunk alone, to the last bit.

    A quotient in double precision, rounded, is the one in single precision.
    """
    divisors = len(chunk) if over_cohort else chunk.senders.unsqueeze(1)
    means = torch._foreach_div(list(chunk.dense.values()), len(chunk))
    return ModelAggregate(
        dense=dict(zip(chunk.dense, means, strict=True)),
        row_ids=chunk.item_ids,
        rows=chunk.rows / divisors,
    )


def join_updates(messages: Iterable[Message]) -> ModelUpdate:
    """Join a cohort's chunks into one message, in their order.

    Raises:
        RunError: there is no chunk, or one of another kind.
    """
    parts: list[ModelUpdate] = []
    for message in messages:
        if not isinstance(message, ModelUpdate):
            raise RunError(f"a {type(message).__name__} stands among model updates")
        parts.append(message)
    if not parts:
        raise RunError("no client of the cohort has a training pair; check min_length")
    return ModelUpdate.join(parts)
