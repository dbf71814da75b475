"""Who sees what: the transcript of a training, threat models, and the view each one grants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from harness.core.messages import Aggregate, Message

Adversary = Literal["server", "client", "other domain", "outsider"]
Grant = Literal[
    "messages",  # what each client sent, round by round
    "aggregates",  # what the server sent back
    "global model",  # the weights handed to clients
    "catalogue",  # public titles, text vectors and the encoder's identity
    "defense",  # which defence runs, with its parameters
    "own data",  # the adversary's own clients' histories
]


@dataclass(frozen=True)
class ThreatModel:
    """An adversary in full.

    Attributes:
        adversary: who it is.
        sees: what it observes of this training.
        knows: what it has besides.
        acts: whether it deviates from the protocol.
        words: one or two sentences for the report.
    """

    adversary: Adversary
    sees: frozenset[Grant]
    knows: frozenset[Grant] = frozenset()
    acts: bool = False
    words: str = ""


class NotGranted(PermissionError):
    """An attack asked for something that its threat model does not grant."""


@runtime_checkable
class ModelHandle(Protocol):
    """A global model as its holder can use it: architecture, weights, forward pass."""

    @property
    def item_table(self) -> Float[Tensor, "item dim"]:
        """Item embeddings."""
        ...

    @property
    def position_table(self) -> Float[Tensor, "position dim"]:
        """Position embeddings; row ``t`` belongs to the ``t``-th oldest item of a history."""
        ...

    def encode(self, histories: list[list[int]]) -> Float[Tensor, "user dim"]:
        """Return the last hidden state of each history."""
        ...


@dataclass(frozen=True)
class Catalogue:
    """The public catalogue.

    Attributes:
        titles: title of each item.
        vectors: the public encoder's text vectors, rows of unit length; empty where the system
            shares no text.
        domain: domain (client) of each item.
    """

    titles: tuple[str, ...]
    vectors: Float[Tensor, "item dim"]
    domain: Int[Tensor, " item"]


@dataclass(frozen=True)
class RoundRecord:
    """One recorded round as the server saw it.

    Attributes:
        index: round number, from 0.
        message: what arrived after the client stage of the defences (recorded clients only).
        model: the global model sent out at the start of the round.
        aggregate: what the server made of it.
    """

    index: int
    message: Message
    model: ModelHandle | None
    aggregate: Aggregate | None


@dataclass(frozen=True)
class Transcript:
    """All that crossed the wire and was recorded, and the public knowledge around it.

    Attributes:
        rounds: recorded rounds in order.
        catalogue: public catalogue.
        defense: resolved parameters of the defences in force.
        protocol: local protocol as published to all (steps, optimiser, learning rate, length).
    """

    rounds: tuple[RoundRecord, ...]
    catalogue: Catalogue
    defense: tuple[dict[str, Any], ...] = ()
    protocol: dict[str, Any] = field(default_factory=dict[str, Any])


class View:
    """The part of a transcript that a threat model grants; anything else raises.

    Args:
        transcript: the whole record.
        threat_model: decides what may be read.
        own_histories: histories of the adversary's own clients, granted by ``own data``.
    """

    def __init__(
        self,
        transcript: Transcript,
        threat_model: ThreatModel,
        own_histories: tuple[tuple[int, ...], ...] = (),
    ) -> None:
        self.__transcript = transcript
        self.__own = own_histories
        self.threat_model = threat_model

    def _require(self, grant: Grant) -> None:
        if grant not in self.threat_model.sees | self.threat_model.knows:
            raise NotGranted(f"the {self.threat_model.adversary} is not granted {grant!r}")

    @property
    def protocol(self) -> dict[str, Any]:
        """Public facts of the local protocol."""
        return self.__transcript.protocol

    @property
    def num_items(self) -> int:
        """Size of the public catalogue."""
        return len(self.__transcript.catalogue.titles)

    def messages(self) -> list[tuple[int, Message]]:
        """Return (round, message) of the recorded rounds."""
        self._require("messages")
        return [(record.index, record.message) for record in self.__transcript.rounds]

    def aggregates(self) -> list[tuple[int, Aggregate]]:
        """Return (round, aggregate) of the recorded rounds that had one."""
        self._require("aggregates")
        return [(r.index, r.aggregate) for r in self.__transcript.rounds if r.aggregate is not None]

    def model(self, round_index: int) -> ModelHandle:
        """Return the global model sent out at the start of a recorded round."""
        self._require("global model")
        for record in self.__transcript.rounds:
            if record.index == round_index and record.model is not None:
                return record.model
        raise KeyError(f"round {round_index} is not on record")

    @property
    def catalogue(self) -> Catalogue:
        """The public catalogue."""
        self._require("catalogue")
        return self.__transcript.catalogue

    @property
    def defense(self) -> tuple[dict[str, Any], ...]:
        """Resolved parameters of the defences in force."""
        self._require("defense")
        return self.__transcript.defense

    @property
    def own_histories(self) -> tuple[tuple[int, ...], ...]:
        """Histories of the adversary's own clients."""
        self._require("own data")
        return self.__own
