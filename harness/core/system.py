"""Systems under test: what they are given, what they emit, and what they release."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from harness.core.defense import Federation
from harness.core.device import Device
from harness.core.local import Work
from harness.core.messages import Aggregate, Form, Message
from harness.core.observe import Catalogue, ModelHandle
from harness.core.params import Component
from harness.core.seeds import Seeds

Progress = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Domain:
    """Training data of one domain; validation and test items are not in it.

    Attributes:
        name: for reports.
        histories: item indices of each user, oldest first.
        titles: title of each item.
        item_text: text that a sentence encoder reads, at least the title.
        validation: the item that follows each history, for model selection on the device;
            ``-1`` where there is none.
        categories: genres or categories of each item; empty where the data has none.
    """

    name: str
    histories: Sequence[Int[np.ndarray, " event"]]
    titles: tuple[str, ...]
    item_text: tuple[str, ...]
    validation: Int[np.ndarray, " user"]
    categories: tuple[tuple[str, ...], ...] = ()

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return len(self.titles)

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.histories)


@dataclass(frozen=True)
class Resources:
    """Where a system finds its pinned models and may keep derived files.

    Attributes:
        paths: role (``"llm"``, ``"encoder"``) to local folder or hub name.
        cache: folder for content-addressed files.
        progress: called with a line of text now and then.
        device: where language models run.
    """

    paths: dict[str, str]
    cache: Path
    progress: Progress
    device: Device = "cpu"


class Answers(NamedTuple):
    """What an LLM recommender said when asked to choose among candidates.

    Attributes:
        chosen: index into the candidates, ``-1`` where the text names none or several.
        texts: the raw generations.
    """

    chosen: Int[np.ndarray, " user"]
    texts: list[str]


class Released(Protocol):
    """A trained recommender as it is put to use."""

    def scores(
        self, users: Int[np.ndarray, " user"], histories: Sequence[Int[np.ndarray, " event"]]
    ) -> Float[np.ndarray, "user item"]:
        """Return a score for every item of the catalogue given each user's history."""
        ...


class Referring(Released, Protocol):
    """A released model that is measured beside parts of itself."""

    @property
    def references(self) -> Mapping[str, Released]:
        """Return models to score on the same users and lists, by the prefix of their metrics."""
        ...


class Answering(Protocol):
    """A released model that also answers in words."""

    answer_limit: int
    """Number of users the answers are scored on; 0 leaves the language stage out."""

    def answer(
        self,
        users: Int[np.ndarray, " user"],
        histories: Sequence[Int[np.ndarray, " event"]],
        candidates: Int[np.ndarray, "user candidate"],
    ) -> dict[str, Answers]:
        """Return answers by variant: ``"stage 2"`` and the untrained ``"LLM only"``."""
        ...


@dataclass(frozen=True)
class Part:
    """A share of work that can be split over processes.

    Attributes:
        index: which part, from 0.
        count: how many there are.
    """

    index: int
    count: int


@dataclass(frozen=True)
class Variant:
    """Data and seed of one training.

    Attributes:
        domains: training data.
        seeds: what ``setup`` is given.
    """

    domains: tuple[Domain, ...]
    seeds: Seeds


@dataclass(frozen=True)
class Deviation:
    """Where an implementation differs from its source, or fills a gap in it."""

    what: str
    why: str


class System(Component):
    """A recommender that learns in a federation (or, as an anchor, without one).

    The loop calls ``setup``, then for each round ``local`` → aggregation → ``apply``, then
    ``release``. State is handed from call to call and never kept in the instance.

    Attributes:
        emits: the kind of message its clients send.
        kind: ``"federated"``, or ``"anchor"`` for a reference that involves no attack surface.
        client_unit: ``"user"`` (one user a client) or ``"domain"`` (one domain a client).
        deviations: differences from the paper, shown in the report.
        features: what defences may rely on, such as ``counterfactual view``.
    """

    emits: ClassVar[type[Message]]
    kind: ClassVar[str] = "federated"
    client_unit: ClassVar[str] = "user"
    deviations: ClassVar[tuple[Deviation, ...]] = ()
    features: ClassVar[frozenset[str]] = frozenset()

    def assets(self) -> dict[str, str]:
        """Return role to asset name, path or hub name of the models it needs."""
        return {}

    def reads_text(self) -> bool:
        """Whether it works on the texts of items: so does whatever needs a language model."""
        return bool(self.assets())

    def num_rounds(self) -> int:
        """Return the length of the training."""
        raise TypeError(f"{type(self).__name__} does not define num_rounds")

    def cohort_size(self, num_clients: int) -> int:
        """Return the number of clients per round."""
        return num_clients

    def trained(self, domains: Sequence[T]) -> tuple[T, ...]:
        """Return the domains that take part in the training, target first.

        Where a user is a client, the others' users are in no cohort and their items in no model:
        the target domain alone is trained.
        """
        return tuple(domains) if self.client_unit == "domain" else tuple(domains[:1])

    def federation(self, users: Sequence[int], items: Sequence[int]) -> Federation:
        """Return the federation's sizes: the only place that knows them.

        Args:
            users: number of users of each domain of the data set, target first.
            items: number of items of each.
        """
        by_user = self.client_unit == "user"
        num_clients = users[0] if by_user else len(self.trained(users))
        return Federation(
            num_clients=num_clients,
            cohort_size=self.cohort_size(num_clients),
            num_rounds=self.num_rounds(),
            num_items=sum(self.trained(items)),
        )

    def encode(self, variants: Sequence[Variant], resources: Resources, part: Part) -> None:
        """Embed this part of the item texts that ``prepare`` and ``setup`` read, into the cache.

        Called for every part, by several processes at the same time, and all parts are done before
        ``prepare``; both work without. The vectors must not hang on who does which part.

        Args:
            variants: everything that will be trained of this system.
            resources: paths and cache.
            part: which share of the work.
        """

    def doubts(self) -> list[str]:
        """Return warnings about settings that hold on any data."""
        return []

    def prepares(self) -> bool:
        """Return whether :meth:`prepare` has anything to do under this configuration."""
        return True

    def prepare(self, variants: Sequence[Variant], resources: Resources, part: Part) -> None:
        """Fill the caches that trainings share, as far as ``part`` goes.

        ``setup`` and ``release`` work without. What is written must not hang on who does which
        part when: the parts run in any order and at the same time.

        Args:
            variants: everything that will be trained of this system.
            resources: paths and cache.
            part: which share of the work.
        """

    def setup(self, domains: tuple[Domain, ...], resources: Resources, seeds: Seeds) -> Any:
        """Prepare what does not change during training and return the initial state."""
        raise TypeError(f"{type(self).__name__} does not define setup")

    def local(self, state: Any, work: Work) -> Iterator[Message]:
        """Do the cohort's local work, many clients at once; yield their messages in chunks.

        The chunks are fixed by the configuration and the cohort, never by the machine.
        """
        raise TypeError(f"{type(self).__name__} does not define local")

    def nobody(self, state: Any) -> Message | None:
        """Return the message of no client, where a rule can make something of it."""
        return None

    def form(self, state: Any) -> Form | None:
        """Return the form that a client's message must have in this state, as announced to all.

        None checks what can be told without it: numbers, senders, and the kind's own rules.
        """
        return None

    def combine(self, state: Any, messages: Iterable[Message], seeds: Seeds) -> Aggregate:
        """Aggregate by the system's own rule.

        Args:
            state: current.
            messages: the cohort in chunks, at least one client; trained as they are asked for.
            seeds: streams of this round.
        """
        raise TypeError(f"{type(self).__name__} does not define combine")

    def apply(self, state: Any, aggregate: Aggregate) -> Any:
        """Return the state after the server's aggregate."""
        raise TypeError(f"{type(self).__name__} does not define apply")

    def weights(self, state: Any) -> dict[str, Tensor] | None:
        """Return everything in the state that rounds change, by name, for a checkpoint.

        None, the default, says that a training is not kept by rounds and starts anew.
        """
        return None

    def with_weights(self, state: Any, weights: dict[str, Tensor]) -> Any:
        """Return ``state`` with what :meth:`weights` gave."""
        raise TypeError(f"{type(self).__name__} does not define with_weights")

    def release(self, state: Any, seeds: Seeds) -> Released:
        """Finish training after the last round and return the recommender."""
        raise TypeError(f"{type(self).__name__} does not define release")

    def handle(self, state: Any) -> ModelHandle | None:
        """Return the global model as clients receive it; None if none is sent."""
        return None

    def catalogue(self, state: Any) -> Catalogue:
        """Return the public catalogue around this system."""
        raise TypeError(f"{type(self).__name__} does not define catalogue")

    def protocol(self) -> dict[str, Any]:
        """Return public facts of the local protocol."""
        return {}

    def upload_items(self, state: Any) -> Int[Tensor, " upload"] | None:
        """Return the item behind each uploaded vector, for the scorer; None sends no vectors."""
        return None

    def findings(self, state: Any) -> dict[str, float | None]:
        """Return figures on the preparation by metric name; None where one is undefined."""
        return {}
