"""Attacks: what they may read, what they do during a training, and what they claim after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.core.messages import Message
from harness.core.observe import ThreatModel, View
from harness.core.params import Component
from harness.core.scores import RowScores
from harness.core.seeds import Seeds

M = TypeVar("M", bound=Message)


class Claims:
    """What an inference attack asserts; scored elsewhere, by the only reader of the truth."""


@dataclass(frozen=True)
class ItemMembership(Claims):
    """For each client and item: how strongly the attack believes the item is in the history.

    Attributes:
        clients: client ids.
        scores: larger means more likely a member; in blocks where the table would be large.
        round_index: round the claim was made on.
        sent: 1 for the items whose rows the client sent, else 0; None where no row can be missing.
            Among them alone the scores are judged a second time: a row that was never sent tells
            at no cost that its item is not in the history.
    """

    clients: Int[Tensor, " client"]
    scores: Float[Tensor, "client item"] | RowScores
    round_index: int
    sent: RowScores | None = None


@dataclass(frozen=True)
class ItemAtPosition(Claims):
    """For each client and position (0 is the oldest item the model saw): the item claimed.

    Attributes:
        clients: client ids.
        items: claimed item, ``-1`` where the attack abstains.
        observed_rank: numerical rank of the span the attack worked with.
        round_index: round the claim was made on.
    """

    clients: Int[Tensor, " client"]
    items: Int[Tensor, "client position"]
    observed_rank: Int[Tensor, " client"]
    round_index: int


@dataclass(frozen=True)
class ItemIdentity(Claims):
    """For each uploaded vector: a score for every catalogue item of being its source.

    Attributes:
        domain: client that sent the upload.
        scores: larger means more likely the source; in blocks where the table would be large.
    """

    domain: Int[Tensor, " upload"]
    scores: Float[Tensor, "upload item"] | RowScores


class Attack(Component):
    """Common to all attacks.

    Attributes:
        reads: message kinds it can work on; a system that emits none of them makes the pair
            ``not applicable``.
        threat_model: what the adversary is granted.
    """

    reads: ClassVar[tuple[type[Message], ...]]
    threat_model: ClassVar[ThreatModel]


class InferenceAttack(Attack):
    """Works on the transcript after the training; several can share one training."""

    def infer(self, view: View, seeds: Seeds) -> Claims:
        """Return the attack's claims. Sees nothing beyond ``view``."""
        raise TypeError(f"{type(self).__name__} does not define infer")

    def declines(self, view: View) -> str | None:
        """Return why this attack cannot work on what it sees, or None if it can."""
        return None


@dataclass(frozen=True)
class AttackContext:
    """What a poisoning attack is told besides its view.

    Attributes:
        round_index: current round.
        num_rounds: length of the training.
        targets: items to promote (empty for untargeted attacks).
        num_items: catalogue size.
        state: a place for the attack to remember things between rounds.
    """

    round_index: int
    num_rounds: int
    targets: tuple[int, ...]
    num_items: int
    state: dict[str, object]


class PoisoningAttack(Attack):
    """Takes part in the training through the malicious clients.

    Attributes:
        targeted: whether it promotes target items (then ER@K is reported).
    """

    targeted: ClassVar[bool] = False

    def check(self, cohort_size: int, malicious_fraction: float) -> list[str]:
        """Return warnings about settings that leave the attack without force."""
        return []

    def craft(
        self,
        view: View,
        message: M,
        malicious: Bool[Tensor, " row"],
        context: AttackContext,
        seeds: Seeds,
    ) -> M:
        """Return ``message`` with the malicious rows replaced; other rows must be unchanged.

        Args:
            view: what the adversary is granted, up to this round.
            message: the cohort's honest messages (after the honest clients' defences). An attack
                that is not omniscient must only read the malicious rows.
            malicious: rows (clients, or uploaded vectors) that the adversary controls.
            context: round, targets.
            seeds: the attack's random streams.
        """
        raise TypeError(f"{type(self).__name__} does not define craft")
