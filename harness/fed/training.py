"""What one training is made of, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool

from harness.core.attack import PoisoningAttack
from harness.core.defense import Defense, Federation
from harness.core.device import ON_CPU, Arithmetic
from harness.core.observe import Transcript
from harness.core.seeds import Seeds
from harness.core.system import Domain, Progress, Released, System
from harness.fed.guard import GuardRecord
from harness.fed.population import Roles
from harness.fed.recorder import Recorder


@dataclass(frozen=True)
class Threat:
    """The adversary inside the training.

    Attributes:
        attack: poisoning attack, or None.
        roles: who is malicious (clients, or uploaded rows for a cross-silo system).
        targets: items to promote.
        coins: an audit's secret coins, heads is true, one a client; None for other attacks.
    """

    attack: PoisoningAttack | None
    roles: Roles
    targets: tuple[int, ...]
    coins: Bool[np.ndarray, " client"] | None = None

    @property
    def active(self) -> bool:
        """Whether anybody attacks during the training."""
        return self.attack is not None and bool(self.roles.malicious.any())


@dataclass(frozen=True)
class Training:
    """Everything one training is made of.

    Attributes:
        system: what is trained.
        domains: its data, target first.
        defenses: in the order of their client stages.
        threat: the adversary inside the training.
        recorder: which rounds are written down.
        reject_share: share of refused updates beyond which the run fails.
        refused_rounds: rounds in a row of which nothing is left, at which the run fails.
        norm_ratio: of the cohort's median, beyond which an update is refused; None for no bound.
        seeds: every draw comes from here.
        progress: called with a line of text now and then.
        pause: called after every round; raises `Interrupted` where the training is to stop.
        memory_bytes: what local training may take; None for no bound.
        arithmetic: device and number format of local training.
    """

    system: System
    domains: tuple[Domain, ...]
    defenses: tuple[Defense, ...]
    threat: Threat
    recorder: Recorder
    reject_share: float
    seeds: Seeds
    progress: Progress
    pause: Callable[[], None] = lambda: None
    memory_bytes: float | None = None
    arithmetic: Arithmetic = ON_CPU
    refused_rounds: int = 3
    norm_ratio: float | None = None

    def federation(self) -> Federation:
        """Return the federation's sizes."""
        return self.system.federation(
            [domain.num_users for domain in self.domains],
            [domain.num_items for domain in self.domains],
        )


@dataclass(frozen=True)
class Outcome:
    """What a training leaves behind.

    Attributes:
        released: the recommender.
        state: the system's final state.
        transcript: the recorded rounds.
        guard: rejected updates.
        bytes_up: mean bytes a client sends in a round.
        federation: sizes, for accounting.
        memory: what the adversary inside the training remembers.
    """

    released: Released
    state: Any
    transcript: Transcript
    guard: GuardRecord
    bytes_up: float
    federation: Federation
    memory: dict[str, object] = field(default_factory=dict[str, object])
