"""The transcript as it is written: which rounds and which clients are kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.core.messages import Aggregate, Message
from harness.core.observe import ModelHandle, RoundRecord

RoundName = int | str


def recorded_rounds(wanted: Sequence[RoundName], num_rounds: int) -> frozenset[int]:
    """Resolve ``first``, ``middle``, ``last`` and integers to round numbers that exist."""
    names = {"first": 0, "middle": num_rounds // 2, "last": num_rounds - 1}
    resolved = [names[w] if isinstance(w, str) else w for w in wanted]
    return frozenset(r for r in resolved if 0 <= r < num_rounds)


class Recorder:
    """What of a training is written down.

    Args:
        rounds: rounds to keep.
        clients: clients to keep per round, the first of the cohort; 0 keeps all.
    """

    def __init__(self, rounds: frozenset[int], clients: int) -> None:
        self._rounds = rounds
        self._clients = clients

    def wants(self, index: int) -> bool:
        """Whether round ``index`` is kept."""
        return index in self._rounds

    def record(
        self, index: int, message: Message, model: ModelHandle | None, aggregate: Aggregate | None
    ) -> RoundRecord:
        """Return the part of a round that is kept."""
        single = message.sums is None and not message.many_rows
        if single and 0 < self._clients < len(message):
            message = message.select(torch.arange(len(message)) < self._clients)
        return RoundRecord(index, message, model, aggregate)
