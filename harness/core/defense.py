"""Defences: up to five stages around a round, identity by default, and the privacy they claim."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from torch import Tensor

from harness.core.audit import Neighbors, Surface
from harness.core.messages import Aggregate, Message
from harness.core.params import Component
from harness.core.seeds import Seeds

M = TypeVar("M", bound=Message)
Sampling = Literal["fixed", "poisson"]
Memory = dict[str, Tensor]
"""What a defence at the server remembers from round to round; kept in checkpoints."""


@dataclass(frozen=True)
class Federation:
    """Public facts of the federation that a defence may use.

    Attributes:
        num_clients: population size.
        cohort_size: clients per round, ``qN`` when sampling is Poisson.
        num_rounds: rounds of the training.
        num_items: catalogue size.
        round_index: current round; ``-1`` outside the rounds.
    """

    num_clients: int
    cohort_size: int
    num_rounds: int
    num_items: int
    round_index: int = -1

    @property
    def sampling_rate(self) -> float:
        """Probability that a client takes part in a round."""
        return self.cohort_size / self.num_clients


@dataclass(frozen=True)
class PrivacyBudget:
    """A differential privacy guarantee as claimed.

    Attributes:
        epsilon: total over the training; accountants may say less than 0 where δ alone suffices,
            which claims no less than 0: it is 0 then.
        delta: total over the training.
        unit: what neighbouring data sets differ in, e.g. ``"one client, added or removed"``.
        sampling: how cohorts are drawn.
        accountant: which accountant computed it.
        adversary: against whom it holds, e.g. ``"whoever sees the released model"``.
        neighbors: the same as ``unit`` for an audit: ``"add or remove"`` or ``"replace"``.
        sees: what that adversary sees: ``"aggregates"`` of all rounds, or single ``"messages"``.
        noise_multiplier: noise standard deviation over the clip norm; NaN if there is none.
        rounds: rounds of the training that the budget covers.
        releases: rounds of one client that it covers; None for all.
        note: what else holds, such as for clients that it does not cover.
    """

    epsilon: float
    delta: float
    unit: str
    sampling: str
    accountant: str
    adversary: str
    neighbors: Neighbors
    sees: Surface
    noise_multiplier: float
    rounds: int
    releases: int | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.epsilon < 0:
            object.__setattr__(self, "epsilon", 0.0)


@dataclass(frozen=True)
class DataPlan:
    """What a client trains on, as far as a defence may change it.

    Attributes:
        counterfactual_weight: weight of LUMOS's counterfactual negative in the contrastive loss;
            1 is the published system, 0 leaves the view out.
    """

    counterfactual_weight: float = 1.0


class Defense(Component):
    """Base of all defences.

    Attributes:
        reads: message kinds it acts on; elsewhere the pair is ``not applicable``.
        strength: name of the parameter that a sweep varies, empty if there is none.
        sampling: how cohorts must be drawn for the guarantee to hold; None leaves it to the system.
    """

    reads: ClassVar[tuple[type[Message], ...]]
    strength: ClassVar[str] = ""
    sampling: ClassVar[Sampling | None] = None
    needs: ClassVar[frozenset[str]] = frozenset()
    """Features a system must have (its ``features``), such as ``counterfactual view``."""

    @classmethod
    def replaces_aggregation(cls) -> bool:
        """Whether this defence brings its own aggregation rule (at most one may)."""
        return cls.aggregate is not Defense.aggregate

    @classmethod
    def reads_updates(cls) -> bool:
        """Whether it has to see single clients' updates."""
        return cls.on_client is not Defense.on_client or cls.replaces_aggregation()

    def setup(self, federation: Federation) -> None:
        """Calibrate to the federation, before the first round."""

    def doubts(self) -> list[str]:
        """Return warnings about settings that hold for every federation."""
        return []

    def check(self, federation: Federation, malicious_fraction: float) -> list[str]:
        """Return warnings about settings outside the rule's theory in this federation."""
        return []

    def on_data(self, plan: DataPlan) -> DataPlan:
        """Change what clients train on."""
        return plan

    def on_client(self, message: M, federation: Federation, seeds: Seeds) -> M:
        """Change what honest clients send.

        A cohort arrives in chunks, so a random stage derives its stream from each client's id.
        """
        return message

    def aggregate(self, messages: Iterable[Message], federation: Federation) -> Aggregate:
        """Combine the cohort's messages in place of the system's own rule.

        Args:
            messages: the cohort in chunks, at least one client; trained as they are asked for.
            federation: public facts.
        """
        raise TypeError(f"{type(self).__name__} does not define aggregate")

    def on_server(self, aggregate: Aggregate, federation: Federation, seeds: Seeds) -> Aggregate:
        """Change the aggregate before anybody sees it and before it is applied."""
        return aggregate

    def on_apply(self, aggregate: Aggregate, federation: Federation, memory: Memory) -> Aggregate:
        """Return the change of the global model that the server makes of the aggregate.

        The recorder, attacks and auditors have seen the aggregate by then: what happens here is
        post-processing, and costs no privacy as long as it reads nothing else.

        Args:
            aggregate: after every server stage.
            federation: public facts.
            memory: this defence's own, empty before the first round. What is put into it is there
                in the next round, also after an interruption; a training must keep nothing else.
        """
        return aggregate

    def spent(self, federation: Federation) -> PrivacyBudget | None:
        """Return the budget spent by the whole training; None claims nothing."""
        return None

    def effects(self) -> dict[str, dict[str, Any]]:
        """Return what its price is made of, besides its rule, in the order in which it acts.

        Each effect comes with the parameters that switch it off. A scenario runs the defence
        without all of them, then adds one after the other, so that a report can tell the price of
        the rule from that of each effect. Empty where there is nothing to take apart.
        """
        return {}

    def strength_value(self) -> float:
        """Return the value of the swept parameter, NaN if there is none."""
        value: Any = getattr(self.config, self.strength, None) if self.strength else None
        return float(value) if isinstance(value, (int, float)) else float("nan")
