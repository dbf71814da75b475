"""What the server refuses to aggregate: broken, absurd or repeated updates, counted by reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.core.errors import RunError
from harness.core.messages import PAD, Message, ModelSum, ModelUpdate, Silence

MAX_ABSOLUTE = 1e6
"""Largest weight change accepted; far above any training here, far below float32 overflow."""

MAX_EXAMPLES = 1_000_000
"""Largest number of training positions that a single user can have."""


@dataclass
class GuardRecord:
    """Counts over a training.

    Attributes:
        received: updates that arrived.
        rejected: updates refused, by reason.
        offenders: ``(round, client, reason)`` of the first hundred refusals.
        empty_rounds: rounds in which nothing was left to aggregate.
    """

    received: int = 0
    rejected: Counter[str] = field(default_factory=Counter[str])
    offenders: list[tuple[int, int, str]] = field(default_factory=list[tuple[int, int, str]])
    empty_rounds: int = 0

    def refuse(self, round_index: int, client: int, reason: str) -> None:
        """Count one refused update."""
        self.rejected[reason] += 1
        if len(self.offenders) < 100:
            self.offenders.append((round_index, client, reason))

    def check_share(self, limit: float) -> None:
        """Raise if more than ``limit`` of all updates was refused."""
        refused = sum(self.rejected.values())
        if self.received and refused / self.received > limit:
            reasons = ", ".join(f"{n} {r}" for r, n in sorted(self.rejected.items()))
            raise RunError(
                f"{refused} of {self.received} updates were rejected ({reasons}); "
                f"the scenario allows {limit:.0%} (limits.reject_share)"
            )


def admit(message: Message, round_index: int, record: GuardRecord, seen: set[int]) -> Message:
    """Return the part of ``message`` that the server aggregates; count the rest in ``record``.

    Args:
        message: one chunk of the cohort.
        round_index: for the record.
        record: of the training.
        seen: clients that have sent something in this round; grows.
    """
    if isinstance(message, ModelSum):
        return _admit_sum(message, round_index, record)
    if not isinstance(message, ModelUpdate):
        return message
    record.received += len(message)
    keep = torch.ones(len(message), dtype=torch.bool)
    for reason, bad in _faults(message, seen):
        for client in message.clients[keep & bad].tolist():
            record.refuse(round_index, client, reason)
        keep &= ~bad
    return message if bool(keep.all()) else message.select(keep)


def _admit_sum(message: ModelSum, round_index: int, record: GuardRecord) -> Message:
    """Take a sum or leave it: whose part of it is broken can't be told.

    The engine sends sums only where everybody is honest and each client is there once.
    """
    record.received += len(message)
    # A comparison with NaN is false, so NaN is refused too.
    if largest(message.dense, message.rows) <= MAX_ABSOLUTE * len(message):
        return message
    for client in message.clients.tolist():
        record.refuse(round_index, client, "not finite or too large in sum")
    return Silence()


def largest(dense: dict[str, Tensor], rows: Float[Tensor, "row dim"]) -> float:
    """Return the largest absolute value of a sum of updates; NaN where there is one."""
    # Many small tensors are faster joined than one by one.
    joined = torch.cat([delta.flatten() for delta in dense.values()]) if dense else rows
    ends = [end for tensor in (joined, rows) if tensor.numel() for end in torch.aminmax(tensor)]
    return torch.stack(ends).abs().max().item()


def _faults(message: ModelUpdate, seen: set[int]) -> list[tuple[str, Bool[Tensor, " client"]]]:
    tensors = [*message.dense.values(), message.rows]
    # The maximum carries NaN and infinity on, so one pass finds both faults.
    peaks = torch.stack([t.flatten(1).abs().amax(1) for t in tensors if t[0].numel()]).amax(0)
    repeated = torch.ones(len(message), dtype=torch.bool)
    for row, client in enumerate(message.clients.tolist()):
        repeated[row] = client in seen
        seen.add(client)
    ordered = message.row_ids.sort(1).values
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PAD)
    return [
        ("not finite", ~peaks.isfinite()),
        ("too large", peaks > MAX_ABSOLUTE),
        ("sent twice", repeated),
        ("row repeated", twice.any(1)),
        ("no examples", message.num_examples <= 0),
        ("too many examples", message.num_examples > MAX_EXAMPLES),
    ]
