"""The transcript as it is written: which rounds and which clients are kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from harness.core.messages import Aggregate, Message
from harness.core.observe import ModelHandle, RoundRecord
from harness.core.seeds import Seeds

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
        clients: clients to keep per round, drawn evenly from the cohort; 0 keeps all.
        seeds: each client's lot comes from here: it hangs on neither the order in which a cohort
            trains (shortest histories first) nor the round, so that who is kept once is kept again
            where attacks average over a client's rounds.
    """

    def __init__(self, rounds: frozenset[int], clients: int, seeds: Seeds) -> None:
        self._rounds = rounds
        self._clients = clients
        self._seeds = seeds

    def wants(self, index: int) -> bool:
        """Whether round ``index`` is kept."""
        return index in self._rounds

    def record(
        self, index: int, message: Message, model: ModelHandle | None, aggregate: Aggregate | None
    ) -> RoundRecord:
        """Return the part of a round that is kept."""
        single = message.sums is None and not message.many_rows
        if single and 0 < self._clients < len(message):
            message = message.select(self._drawn(message.sent_by))
        return RoundRecord(index, message, model, aggregate)

    def _drawn(self, clients: Int[Tensor, " client"]) -> Bool[Tensor, " client"]:
        lots = [(self._seeds.integer(client), client) for client in clients.tolist()]
        chosen = {client for _, client in sorted(lots)[: self._clients]}
        return torch.tensor([client in chosen for client in clients.tolist()])
