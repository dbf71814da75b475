"""A federation of canaries in the real loop: the system learns nothing, so only noise is in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from attacks.canary import Canary
from harness.core.averaging import average
from harness.core.defense import Defense, PrivacyBudget
from harness.core.local import Work
from harness.core.messages import Aggregate, Message, ModelUpdate
from harness.core.observe import Catalogue
from harness.core.params import Paper
from harness.core.seeds import Seeds
from harness.core.system import Domain, System
from harness.fed.auditing import canary_claims, claimed, toss
from harness.fed.loop import federate
from harness.fed.population import Roles
from harness.fed.recorder import Recorder
from harness.fed.training import Threat, Training
from harness.metrics.one_run import gaussian_estimate, margins, one_run_epsilon

CLIENTS, ITEMS, DIM, WIDTH = 1200, 300, 16, 48
ROUNDS, COHORT = 6, 0.5
DELTA = 1e-4


class Still(System):
    """Clients send little and the model never moves."""

    paper = Paper("ours", "baseline")
    emits = ModelUpdate

    def num_rounds(self) -> int:
        return ROUNDS

    def cohort_size(self, num_clients: int) -> int:
        return round(COHORT * num_clients)

    def catalogue(self, state: Any) -> Catalogue:
        titles = tuple(map(str, range(ITEMS)))
        return Catalogue(titles, torch.zeros(0, 1), torch.zeros(ITEMS, dtype=torch.int64))

    def protocol(self) -> dict[str, Any]:
        return {}

    def handle(self, state: Any) -> Any:
        return None

    def local(self, state: Any, work: Work) -> Iterator[Message]:
        size = len(work.clients)
        yield ModelUpdate(
            work.clients,
            {"weight": torch.full((size, WIDTH, WIDTH), 1e-4)},
            (work.clients % ITEMS).unsqueeze(1),
            torch.full((size, 1, DIM), 1e-3),
            torch.ones(size, dtype=torch.int64),
        )

    def combine(self, state: Any, messages: Iterable[Message], seeds: Seeds) -> Aggregate:
        return average(messages, ITEMS, over_cohort=True)

    def apply(self, state: Any, aggregate: Aggregate) -> Any:
        return state

    def release(self, state: Any, seeds: Seeds) -> Any:
        return None


class Proof(NamedTuple):
    """What an audit says of a claim.

    Attributes:
        bound: lower bound on ε, 95 %.
        estimate: Gaussian estimate.
        budget: what is claimed; None for nothing.
    """

    bound: float
    estimate: float
    budget: PrivacyBudget | None


def audit(defenses: list[Defense], seed: int = 0, share: float = 1.0) -> Proof:
    """Run a training in which a share of the clients are canaries, and audit it."""
    histories = tuple(np.array([0, 1]) for _ in range(CLIENTS))
    titles = tuple(map(str, range(ITEMS)))
    domain = Domain("still", histories, titles, titles, np.full(CLIENTS, -1))
    malicious = np.arange(CLIENTS) < share * CLIENTS
    coins = toss(CLIENTS, Seeds(seed))
    training = Training(
        system=Still(),
        domains=(domain,),
        defenses=tuple(defenses),
        threat=Threat(Canary(), Roles(malicious, np.zeros_like(malicious)), (), coins),
        recorder=Recorder(frozenset(), 0, Seeds(0)),
        reject_share=0.5,
        seeds=Seeds(seed).child("training"),
        progress=lambda text: None,
    )
    outcome = federate(training, None)
    claims = canary_claims(training, outcome)
    heads, sums = coins[claims.clients.numpy()], claims.sums.numpy()
    found = margins(claims.scores.numpy(), heads)
    estimate = gaussian_estimate(sums[heads], sums[~heads], DELTA)
    budget = claimed(training.defenses, outcome.federation)
    return Proof(one_run_epsilon([found], DELTA), estimate, budget)
