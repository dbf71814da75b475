"""Audits of a claimed privacy budget: canary clients, the game they play, and what is claimed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float, Int
from torch import Tensor

from harness.core.attack import AttackContext, Claims, PoisoningAttack
from harness.core.observe import Grant, ThreatModel, View
from harness.core.seeds import Seeds

Neighbors = Literal["add or remove", "replace"]
Surface = Literal["aggregates", "messages"]


@dataclass(frozen=True)
class Game:
    """The game that a privacy claim says nobody wins by much.

    For every canary a coin is tossed. Heads: the client takes part and sends its canary. Tails:
    under ``add or remove`` it never exists; under ``replace`` it sends the opposite update.

    Attributes:
        neighbors: what neighbouring inputs differ in.
        sees: what the adversary of the claim sees, and nothing else: ``aggregates`` of all rounds,
            without the cohorts, which amplification by sampling takes to be secret; or single
            ``messages``, as they leave the clients.
        sampling_rate: probability that a client is in a round's cohort; public.
        releases: rounds of one client that the claim covers; None for all.
    """

    neighbors: Neighbors = "add or remove"
    sees: Surface = "aggregates"
    sampling_rate: float = 1.0
    releases: int | None = None


@dataclass(frozen=True)
class CanaryScores(Claims):
    """For each canary, how strongly what was seen speaks for heads.

    Attributes:
        clients: client ids of the canaries.
        scores: log-likelihood ratio of heads to tails; 0 says nothing.
        sums: the canary's signal summed over the rounds, in standard deviations of its noise.
    """

    clients: Int[Tensor, " canary"]
    scores: Float[Tensor, " canary"]
    sums: Float[Tensor, " canary"]


class Audit(PoisoningAttack):
    """Puts canaries into a training and guesses the coins from what the claim's adversary sees.

    ``craft`` is called as if every coin showed heads. What tails means is done by the loop, which
    alone knows the coins; the clients then go through the defence's client stage like honest ones.
    The seeds are the same in all calls of a training.
    """

    sees: ClassVar[dict[Surface, str]] = {
        "aggregates": "the aggregates of all rounds, without the cohorts",
        "messages": "every client's messages as they leave it",
    }

    def watching(self, game: Game) -> ThreatModel:
        """Return what the auditor is granted while it watches: the claim's adversary's view."""
        grants: frozenset[Grant] = frozenset({game.sees})
        words = f"An auditor with canary clients sees {self.sees[game.sees]}; the coins are secret."
        return ThreatModel("outsider", grants, acts=True, words=words)

    def watch(
        self,
        view: View,
        canaries: Int[Tensor, " canary"],
        game: Game,
        context: AttackContext,
        seeds: Seeds,
    ) -> None:
        """Look at one round and remember what counts in ``context.state``."""
        raise TypeError(f"{type(self).__name__} does not define watch")

    def claims(
        self, canaries: Int[Tensor, " canary"], game: Game, state: dict[str, object]
    ) -> CanaryScores:
        """Return the scores after the last round; ``state`` is what was remembered."""
        raise TypeError(f"{type(self).__name__} does not define claims")
