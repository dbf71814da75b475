"""What the server refuses to aggregate: broken, absurd or repeated updates, counted by reason.

Every kind of message is checked against the form that was announced with the round (names, shapes,
number formats, ids; `harness.core.wire.Form`). Where a client's part can be told from the others',
it alone is refused. Clients are an axis of one tensor here, so a tensor that is missing or has
another shape is everybody's: then the whole message is refused, and all its clients are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from harness.core.errors import RunError
from harness.core.messages import Message, ModelSum, Silence, largest
from harness.core.wire import Form

MAX_ABSOLUTE = 1e6
"""Largest weight change accepted; far above any training here, far below float32 overflow."""

OFFENDERS = 100
"""Refusals that are kept by name."""

UNKNOWN = -1
"""Client of a message that does not say who sent it."""


@dataclass
class GuardRecord:
    """Counts over a training.

    Attributes:
        received: updates that arrived.
        rejected: updates refused, by reason.
        offenders: ``(round, client, reason)`` of the first hundred refusals.
        empty_rounds: rounds in which nothing was left to aggregate.
        refused_rounds: rounds in a row, up to now, in which all that arrived was refused.
    """

    received: int = 0
    rejected: Counter[str] = field(default_factory=Counter[str])
    offenders: list[tuple[int, int, str]] = field(default_factory=list[tuple[int, int, str]])
    empty_rounds: int = 0
    refused_rounds: int = 0

    def refuse(self, round_index: int, client: int, reason: str) -> None:
        """Count one refused update."""
        self.rejected[reason] += 1
        if len(self.offenders) < OFFENDERS:
            self.offenders.append((round_index, client, reason))

    def words(self) -> str:
        """Return how many were refused for which reason, and the first of them by name."""
        if not self.offenders:
            return ""
        counts = ", ".join(f"{n} {reason}" for reason, n in sorted(self.rejected.items()))
        index, client, reason = self.offenders[0]
        return f"{counts}; first: client {client} in round {index + 1} ({reason})"

    def check(self, share: float, rounds: int) -> None:
        """Raise if too much was refused.

        Args:
            share: of all updates.
            rounds: in a row in which nothing was left of what arrived.
        """
        refused = sum(self.rejected.values())
        if self.received and refused / self.received > share:
            raise RunError(
                f"{refused} of {self.received} updates were rejected ({self.words()}); "
                f"the scenario allows {share:.0%} (limits.reject_share)"
            )
        if self.refused_rounds >= rounds:
            raise RunError(
                f"all updates of {self.refused_rounds} rounds in a row were rejected "
                f"({self.words()}); the scenario allows fewer than {rounds} "
                "(limits.refused_rounds)"
            )


def admit(
    message: Message,
    round_index: int,
    record: GuardRecord,
    seen: set[int],
    form: Form | None = None,
    invited: Set[int] | None = None,
) -> Message:
    """Return the part of ``message`` that the server aggregates; count the rest in ``record``.

    Args:
        message: one chunk of the cohort.
        round_index: for the record.
        record: of the training.
        seen: clients of which something was admitted in this round; grows.
        form: what the round's messages must look like; None checks what can be told without.
        invited: the round's cohort; None takes anybody.
    """
    if said := message.misfit(form):
        return _refuse_all(message, round_index, record, said)
    if isinstance(message, ModelSum):
        return _admit_sum(message, round_index, record, seen, invited)
    clients, places = message.sent_by.tolist(), _contributions(message)
    record.received += len(places)
    keep = torch.ones(len(message), dtype=torch.bool)
    for reason, rows in (*_bad_numbers(message), *message.faults(form)):
        bad = _whole(message, rows)
        for place in places[(keep & bad)[places]].tolist():
            record.refuse(round_index, clients[place], reason)
        keep &= ~bad
    for place in places[keep[places]].tolist():
        client = clients[place]
        if reason := _unwanted(client, seen, invited):
            record.refuse(round_index, client, reason)
            keep[message.sent_by == client if message.many_rows else place] = False
        seen.add(client)
    return message if bool(keep.all()) else message.select(keep)


def _unwanted(client: int, seen: Set[int], invited: Set[int] | None) -> str:
    """Return why this client may send nothing (more) in this round; empty if it may."""
    if invited is not None and client not in invited:
        return "not invited"
    return "sent twice" if client in seen else ""


def _contributions(message: Message) -> Tensor:
    """Return the place of one row of each client's update."""
    if not message.many_rows:
        return torch.arange(len(message))
    firsts: dict[int, int] = {}
    for place, client in enumerate(message.sent_by.tolist()):
        firsts.setdefault(client, place)
    return torch.tensor(list(firsts.values()), dtype=torch.int64)


def _whole(message: Message, bad: Bool[Tensor, " row"]) -> Bool[Tensor, " row"]:
    """Where a client sends several rows, one bad row makes all of its rows bad."""
    if not message.many_rows or not bool(bad.any()):
        return bad
    return torch.isin(message.sent_by, message.sent_by[bad])


def _bad_numbers(message: Message) -> Iterator[tuple[str, Bool[Tensor, " row"]]]:
    peaks = message.peaks()
    yield "not finite", ~peaks.isfinite()
    yield "too large", peaks > MAX_ABSOLUTE


def _admit_sum(
    message: ModelSum,
    round_index: int,
    record: GuardRecord,
    seen: set[int],
    invited: Set[int] | None,
) -> Message:
    """Take a sum or leave it: whose part of it is broken can't be told.

    The engine sends sums only where everybody is honest and each client is there once.
    """
    clients = message.clients.tolist()
    # A comparison with NaN is false, so NaN is refused too.
    if not largest(message.dense, message.rows) <= MAX_ABSOLUTE * len(message):
        return _refuse_all(message, round_index, record, "not finite or too large in sum")
    unwanted = [reason for client in clients if (reason := _unwanted(client, seen, invited))]
    if unwanted or len(set(clients)) < len(clients):
        said = unwanted[0] if unwanted else "sent twice"
        return _refuse_all(message, round_index, record, f"{said}, in sum")
    record.received += len(message)
    seen.update(clients)
    return message


def _refuse_all(message: Message, round_index: int, record: GuardRecord, reason: str) -> Message:
    """Refuse a message as a whole, and count every client that is named as its sender."""
    senders: Any = message.sent_by
    known = isinstance(senders, Tensor) and senders.dtype == torch.int64 and not senders.is_meta
    clients: list[int] = senders.flatten().tolist() if known else [UNKNOWN]
    if message.many_rows:
        clients = list(dict.fromkeys(clients))
    record.received += len(clients)
    for client in clients:
        record.refuse(round_index, client, reason)
    return Silence()


def within_ratio(
    messages: Sequence[Message], ratio: float, round_index: int, record: GuardRecord
) -> Iterator[Message]:
    """Yield the admitted cohort without updates far longer than the median one.

    An update's length is its ℓ2 norm; of a client that sends several rows, their root mean square,
    so that the number of rows is no matter. With fewer than three updates, or where more than half
    are zero, nobody can be told from the others and all pass.

    Args:
        messages: the whole cohort, in chunks; maybe none.
        ratio: of the median length; what is longer is refused.
        round_index: for the record.
        record: of the training.
    """
    if not messages:
        return
    lengths = [_lengths(message) for message in messages]
    each = torch.cat(
        [length[_contributions(m)] for m, length in zip(messages, lengths, strict=True)]
    )
    middle = float(np.median(each.numpy()))
    bound = ratio * middle if len(each) >= 3 and middle > 0 else float("inf")
    for message, length in zip(messages, lengths, strict=True):
        long = length > bound
        for place in _contributions(message).tolist():
            if bool(long[place]):
                client = int(message.sent_by[place])
                record.refuse(round_index, client, "far longer than the cohort's median")
        if not bool(long.all()):
            yield message.select(~long) if bool(long.any()) else message


def _lengths(message: Message) -> Tensor:
    norms = message.norms()
    if not message.many_rows:
        return norms
    _, group, counts = message.sent_by.unique(return_inverse=True, return_counts=True)
    squares = torch.zeros(len(counts), dtype=norms.dtype).index_add_(0, group, norms.square())
    return (squares / counts).sqrt()[group]
