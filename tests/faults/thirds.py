"""A kind of message and a system that no room of the harness has heard of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.core.attack import PoisoningAttack
from harness.core.defense import Defense
from harness.core.local import Work
from harness.core.messages import Aggregate, Form, Message
from harness.core.observe import Catalogue, ThreatModel
from harness.core.params import Paper, Params
from harness.core.seeds import Seeds
from harness.core.system import Domain, System
from harness.fed.population import Roles
from harness.fed.recorder import Recorder
from harness.fed.training import Threat, Training

CLIENTS, CODES = 8, 6


@dataclass(frozen=True)
class CodebookUpdate(Message):
    """Which code each client uses, and by how much it wants the codes moved."""

    clients: Tensor
    codes: Tensor
    moves: dict[str, Tensor]


@dataclass(frozen=True)
class Codebook(Aggregate):
    """The new codebook."""

    centres: Tensor


class Codes(System):
    """Eight clients in chunks of three; the state is one vector."""

    paper = Paper("ours", "baseline")
    emits = CodebookUpdate

    class Config(Params):
        """Its length, and what one client sends."""

        rounds: int = 3

    def num_rounds(self) -> int:
        return self.config.rounds

    def setup(self, domains: Any, resources: Any, seeds: Any) -> Tensor:
        return torch.zeros(4)

    def message(self, clients: list[int]) -> CodebookUpdate:
        senders = torch.tensor(clients, dtype=torch.int64)
        moves = torch.arange(4.0).repeat(len(clients), 1) + senders[:, None]
        return CodebookUpdate(senders, senders[:, None] % CODES, {"centre": moves})

    def local(self, state: Tensor, work: Work) -> Iterator[CodebookUpdate]:
        cohort = sorted(work.clients.tolist())
        for start in range(0, len(cohort), 3):
            yield self.message(cohort[start : start + 3])

    def form(self, state: Tensor) -> Form:
        return Form.like(self.message([]), below={"codes": CODES})

    def combine(self, state: Tensor, messages: Iterable[Message], seeds: Any) -> Codebook:
        whole = CodebookUpdate.join([m for m in messages if isinstance(m, CodebookUpdate)])
        return Codebook(whole.moves["centre"].mean(0))

    def apply(self, state: Tensor, aggregate: Aggregate) -> Tensor:
        assert isinstance(aggregate, Codebook)
        return state + aggregate.centres

    def weights(self, state: Tensor) -> dict[str, Tensor]:
        return {"vector": state}

    def with_weights(self, state: Tensor, weights: dict[str, Tensor]) -> Tensor:
        return weights["vector"]

    def release(self, state: Tensor, seeds: Any) -> Any:
        return state

    def catalogue(self, state: Tensor) -> Catalogue:
        return Catalogue(("a", "b"), torch.zeros(2, 0), torch.zeros(2, dtype=torch.int64))


class Sets(PoisoningAttack):
    """Writes a number into the malicious rows, and remembers what it was shown."""

    paper = Paper("ours", "baseline")
    reads = (CodebookUpdate,)
    threat_model = ThreatModel("client", frozenset(), acts=True)

    def __init__(self, value: float = 0.0) -> None:
        super().__init__(Params())
        self.value = value
        self.shown: list[tuple[int, int]] = []

    def craft(self, view: Any, message: Any, malicious: Any, context: Any, seeds: Any) -> Any:
        self.shown.append((len(message), len(malicious)))
        moves = message.moves["centre"].clone()
        moves[malicious] = self.value
        return replace(message, moves={"centre": moves})


class Halves(Defense):
    """A client stage for any kind of message with moves."""

    paper = Paper("ours", "baseline")
    reads = (CodebookUpdate,)

    def __init__(self) -> None:
        super().__init__(Params())

    def on_client(self, message: Any, federation: Any, seeds: Any) -> Any:
        return replace(message, moves={n: m / 2 for n, m in message.moves.items()})


def training(
    *, attack: Any = None, malicious: Any = (), system: Any = None, **more: Any
) -> Training:
    """Return a training of `Codes` with eight clients, all in every round."""
    histories = tuple(np.arange(3) for _ in range(CLIENTS))
    domain = Domain("codes", histories, ("a", "b"), ("a", "b"), np.full(CLIENTS, -1))
    bad = np.isin(np.arange(CLIENTS), malicious)
    return Training(
        system=system or Codes(),
        domains=(domain,),
        defenses=tuple(more.pop("defenses", ())),
        threat=Threat(attack, Roles(bad, np.zeros_like(bad)), targets=()),
        recorder=Recorder(frozenset(more.pop("record", (0, 1, 2))), 0, Seeds(0)),
        reject_share=more.pop("reject_share", 0.5),
        seeds=Seeds(0),
        progress=lambda text: None,
        **more,
    )
