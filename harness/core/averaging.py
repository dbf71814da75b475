"""Plain averaging of model updates (FedAvg), and joining the messages of a cohort's chunks."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from harness.core.errors import RunError
from harness.core.messages import PAD, ModelAggregate, ModelUpdate, rows_by_item


def average(update: ModelUpdate, *, over_cohort: bool) -> ModelAggregate:
    """Return the unweighted mean: dense over the cohort, rows over their senders or the cohort."""
    groups = rows_by_item(update)
    divisors = [len(update) if over_cohort else group.members.shape[1] for group in groups]
    empty = update.rows.new_zeros(0, update.rows.shape[-1])
    return ModelAggregate(
        dense={name: delta.mean(0) for name, delta in update.dense.items()},
        row_ids=torch.cat([update.row_ids.new_zeros(0), *(g.item_ids for g in groups)]),
        rows=torch.cat(
            [empty, *(g.members.sum(1) / n for g, n in zip(groups, divisors, strict=True))]
        ),
    )


def join_updates(parts: list[ModelUpdate], clients: list[int]) -> ModelUpdate:
    """Join the chunks' messages into one, in the order of ``clients``."""
    if not parts:
        raise RunError("no client of the cohort has a training pair; check min_length")
    width = max(part.row_ids.shape[1] for part in parts)
    sender = torch.cat([part.clients for part in parts])
    place = {int(c): row for row, c in enumerate(sender)}
    order = torch.tensor([place[c] for c in clients])
    names = parts[0].dense
    return ModelUpdate(
        clients=sender[order],
        dense={n: torch.cat([part.dense[n] for part in parts])[order] for n in names},
        row_ids=torch.cat(
            [F.pad(p.row_ids, (0, width - p.row_ids.shape[1]), value=PAD) for p in parts]
        )[order],
        rows=torch.cat([F.pad(p.rows, (0, 0, 0, width - p.rows.shape[1])) for p in parts])[order],
        num_examples=torch.cat([part.num_examples for part in parts])[order],
    )
