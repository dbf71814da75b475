"""The rounds of a federation.

Order inside a round (it decides results): honest local work → client stages of the defences on
honest rows → the adversary crafts the malicious rows → guard → aggregation (a defence's rule, or
the system's own) → server stages in reverse order → record → apply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.core.attack import AttackContext, PoisoningAttack
from harness.core.averaging import join_updates
from harness.core.defense import DataPlan, Defense, Federation
from harness.core.messages import Aggregate, Message, ModelUpdate
from harness.core.observe import RoundRecord, Transcript, View
from harness.core.seeds import Seeds
from harness.core.system import Domain, Progress, Released, System, Work
from harness.fed.checkpoint import Checkpoints, Progressing
from harness.fed.guard import GuardRecord, admit
from harness.fed.local import BatchedTrainer
from harness.fed.population import Roles
from harness.fed.recorder import Recorder


@dataclass(frozen=True)
class Threat:
    """The adversary inside the training.

    Attributes:
        attack: poisoning attack, or None.
        roles: who is malicious (clients, or uploaded rows for a cross-silo system).
        targets: items to promote.
    """

    attack: PoisoningAttack | None
    roles: Roles
    targets: tuple[int, ...]


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
    """

    released: Released
    state: Any
    transcript: Transcript
    guard: GuardRecord
    bytes_up: float
    federation: Federation


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
        seeds: every draw comes from here.
        progress: called with a line of text now and then.
        pause: called after every round; raises `Interrupted` where the training is to stop.
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

    def federation(self) -> Federation:
        """Return the federation's sizes."""
        by_user = self.system.client_unit == "user"
        num_clients = self.domains[0].num_users if by_user else len(self.domains)
        return Federation(
            num_clients=num_clients,
            cohort_size=self.system.cohort_size(num_clients),
            num_rounds=self.system.num_rounds(),
            num_items=sum(domain.num_items for domain in self.domains),
        )


def federate(training: Training, start: Any, checkpoints: Checkpoints | None = None) -> Outcome:
    """Run all rounds and release.

    Args:
        training: what to train.
        start: state as returned by the system's ``setup``.
        checkpoints: where rounds are kept, and where a training that was interrupted goes on.

    Raises:
        Interrupted: ``training.pause`` asked for it; the last round is kept.
    """
    system, federation = training.system, training.federation()
    for defense in training.defenses:
        defense.setup(federation)
    now = checkpoints.restore(system, start) if checkpoints else Progressing(start)
    facts = Transcript(
        rounds=(),
        catalogue=system.catalogue(start),
        defense=tuple({"use": d.name, **d.config.model_dump()} for d in training.defenses),
        protocol=system.protocol(),
    )
    for index in range(now.next_round, federation.num_rounds):
        message = _round(training, now, replace(federation, round_index=index), facts, checkpoints)
        now.sent.append(message.bytes_per_client())  # pyright: ignore[reportAttributeAccessIssue]
        now.guard.check_share(training.reject_share)
        now.next_round = index + 1
        if checkpoints:
            checkpoints.save(system, now)
        if index % 10 == 9 or index + 1 == federation.num_rounds:
            training.progress(f"round {index + 1}/{federation.num_rounds}")
        training.pause()
    released = system.release(now.state, training.seeds.child("release"))
    transcript = replace(facts, rounds=tuple(now.records))
    bytes_up = float(np.mean(now.sent)) if now.sent else 0.0
    return Outcome(released, now.state, transcript, now.guard, bytes_up, federation)


def _round(
    training: Training,
    now: Progressing,
    federation: Federation,
    facts: Transcript,
    checkpoints: Checkpoints | None,
) -> Message:
    """One round, in the order that the module docstring states; moves ``now`` on."""
    system, index, state = training.system, federation.round_index, now.state
    seeds = training.seeds.child("round", index)
    plan = DataPlan()
    for defense in training.defenses:
        plan = defense.on_data(plan)
    cohort = draw_cohort(training, federation, seeds)
    if not len(cohort):
        now.guard.empty_rounds += 1
        return ModelUpdate(cohort, {}, cohort.reshape(-1, 1), torch.zeros(0, 1, 1), cohort)
    message = system.local(state, Work(cohort, index, plan, BatchedTrainer(), seeds))
    malicious = _malicious_rows(message, training.threat.roles)
    message = _client_stages(training, message, malicious, federation, seeds)
    message = _crafted(training, message, federation, state, facts, now.memory)
    message = admit(message, index, now.guard)
    if isinstance(message, ModelUpdate) and not len(message):
        now.guard.empty_rounds += 1
        return message
    aggregate = _aggregated(training, state, message, federation, seeds)
    if training.recorder.wants(index):
        record = training.recorder.record(index, message, system.handle(state), aggregate)
        now.records.append(record)
        if checkpoints:
            checkpoints.keep(system, state, record)
    now.state = system.apply(state, aggregate)
    return message


def draw_cohort(training: Training, federation: Federation, seeds: Seeds) -> Int[Tensor, " client"]:
    """Draw the round's clients: a fixed number, or Poisson where a defence's accounting asks."""
    stream = seeds.numpy("cohort")
    if any(defense.sampling == "poisson" for defense in training.defenses):
        chosen = np.flatnonzero(stream.random(federation.num_clients) < federation.sampling_rate)
    else:
        chosen = stream.choice(federation.num_clients, federation.cohort_size, replace=False)
    return torch.from_numpy(chosen)


def _malicious_rows(message: Message, roles: Roles) -> Bool[Tensor, " row"]:
    """Which rows of a message the adversary controls: by client, or by uploaded vector."""
    malicious = torch.from_numpy(roles.malicious)
    return malicious[message.clients] if isinstance(message, ModelUpdate) else malicious


def _client_stages(
    training: Training,
    message: Message,
    malicious: Bool[Tensor, " row"],
    federation: Federation,
    seeds: Seeds,
) -> Message:
    """Apply the client stages to honest clients; a malicious client skips them."""
    attacked = training.threat.attack is not None and bool(malicious.any())
    if not training.defenses:
        return message
    skipped: ModelUpdate | None = None
    clients: list[int] = []
    if attacked and isinstance(message, ModelUpdate):
        clients = message.clients.tolist()
        skipped, message = message.select(malicious), message.select(~malicious)
        if not len(message):
            return skipped
    for place, defense in enumerate(training.defenses):
        message = defense.on_client(message, federation, seeds.child("client stage", place))
    if skipped is None or not isinstance(message, ModelUpdate):
        return message
    return join_updates([message, skipped], clients)


def _crafted(
    training: Training,
    message: Message,
    federation: Federation,
    state: Any,
    facts: Transcript,
    memory: dict[str, object],
) -> Message:
    attack, roles = training.threat.attack, training.threat.roles
    malicious = _malicious_rows(message, roles)
    if attack is None or not bool(malicious.any()):
        return message
    index = federation.round_index
    model = training.system.handle(state)
    transcript = replace(facts, rounds=(RoundRecord(index, message, model, None),))
    own: tuple[tuple[int, ...], ...] = ()
    if training.system.client_unit == "user":
        histories = training.domains[0].histories
        own = tuple(tuple(histories[u].tolist()) for u in np.flatnonzero(roles.malicious))
    view = View(transcript, attack.threat_model, own)
    context = AttackContext(
        round_index=index,
        num_rounds=federation.num_rounds,
        targets=training.threat.targets,
        num_items=federation.num_items,
        state=memory,
    )
    return attack.craft(view, message, malicious, context, training.seeds.child("craft", index))


def _aggregated(
    training: Training, state: Any, message: Message, federation: Federation, seeds: Seeds
) -> Aggregate:
    rules = [d for d in training.defenses if d.replaces_aggregation()]
    if rules:
        aggregate = rules[0].aggregate(message, federation)
    else:
        aggregate = training.system.combine(state, message, seeds.child("combine"))
    for place, defense in reversed(list(enumerate(training.defenses))):
        aggregate = defense.on_server(aggregate, federation, seeds.child("server stage", place))
    return aggregate


def popularity(domain: Domain) -> Float[np.ndarray, " item"]:
    """Return how often each item occurs in the training histories."""
    events = np.concatenate(domain.histories) if domain.histories else np.zeros(0, dtype=np.int64)
    return np.bincount(events, minlength=domain.num_items).astype(np.float64)
