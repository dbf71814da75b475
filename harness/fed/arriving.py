"""A round's messages on their way from the clients to the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from harness.core.attack import AttackContext, PoisoningAttack
from harness.core.audit import Audit
from harness.core.defense import DataPlan, Federation
from harness.core.errors import RunError
from harness.core.local import Work
from harness.core.messages import Form, Message, ModelUpdate, Silence
from harness.core.observe import RoundRecord, Transcript, View
from harness.core.seeds import Seeds
from harness.fed.auditing import audit_seeds, game_of, play
from harness.fed.checkpoint import Progressing
from harness.fed.guard import admit, within_ratio
from harness.fed.local import BatchedTrainer
from harness.fed.population import Roles
from harness.fed.training import Training

M = TypeVar("M", bound=Message)


class Arriving:
    """One round of a training, from local work to what the guard admits."""

    def __init__(
        self, training: Training, now: Progressing, federation: Federation, facts: Transcript
    ) -> None:
        self._training = training
        self._now = now
        self._federation = federation
        self._facts = facts
        self._bytes, self._senders, self._arrived = 0.0, 0, 0
        self._invited: frozenset[int] = frozenset()

    @property
    def anything(self) -> bool:
        """Whether a client has sent anything so far, admitted or not."""
        return self._arrived > 0

    def bytes_per_client(self) -> float:
        """Return the mean bytes that a client has sent so far."""
        return self._bytes / self._senders if self._senders else 0.0

    def chunks(self, seeds: Seeds) -> Iterator[Message]:
        """Train the cohort; yield what the server admits of each chunk, never an empty one."""
        admitted = self._admitted(seeds)
        ratio = self._training.norm_ratio
        if ratio is None:
            return admitted
        return within_ratio(list(admitted), ratio, self._federation.round_index, self._now.guard)

    def _admitted(self, seeds: Seeds) -> Iterator[Message]:
        messages, guard = self._staged(seeds), self._now.guard
        if self._training.threat.active:
            messages = iter(self._crafted(list(messages), seeds))
        form, seen = self._training.system.form(self._now.state), set[int]()
        for message in messages:
            before, index = guard.received, self._federation.round_index
            admitted = admit(message, index, guard, seen, form, self._invited)
            self._arrived += guard.received - before
            # What does not have the announced form has no size either.
            if not isinstance(admitted, Silence):
                self._senders += guard.received - before
                self._bytes += message.bytes_per_client() * (guard.received - before)
            if len(admitted):
                yield admitted

    def _staged(self, seeds: Seeds) -> Iterator[Message]:
        """Train honestly, and apply the defences' data and client stages."""
        training, index = self._training, self._federation.round_index
        plan = DataPlan()
        for defense in training.defenses:
            plan = defense.on_data(plan)
        cohort = draw_cohort(training, self._federation, seeds)
        if not len(cohort):
            return
        self._invited = frozenset(cohort.tolist())
        summed = not (
            training.threat.active
            or training.norm_ratio is not None
            or training.recorder.wants(index)
            or any(d.reads_updates() for d in training.defenses)
        )
        work = Work(
            cohort,
            index,
            plan,
            BatchedTrainer(training.arithmetic),
            seeds,
            summed,
            memory_bytes=training.memory_bytes,
            progress=training.progress,
        )
        start = 0
        for message in training.system.local(self._now.state, work):
            malicious = _malicious_rows(message, training.threat.roles, start)
            start += len(message)
            yield _client_stages(training, message, malicious, self._federation, seeds)

    def _crafted(self, messages: list[Message], seeds: Seeds) -> list[Message]:
        """Let the adversary replace the malicious rows; the chunks stay as they were."""
        if not messages:
            return messages
        whole = type(messages[0]).join(messages)
        crafted = self._craft(whole)
        _check_form(whole, crafted, self._training.threat.attack)
        crafted, exists = self._audited(crafted, seeds)
        starts = np.cumsum([0, *(len(message) for message in messages)])
        rows = torch.arange(len(crafted))
        parts = [
            crafted.select((rows >= start) & (rows < stop) & exists)
            for start, stop in pairwise(starts.tolist())
        ]
        return [part for part in parts if len(part)]

    def _audited(self, crafted: Message, seeds: Seeds) -> tuple[Message, Tensor]:
        """In an audit, let the coins decide; canaries then pass the client stages as all do."""
        training = self._training
        everybody = torch.ones(len(crafted), dtype=torch.bool)
        if not isinstance(training.threat.attack, Audit):
            return crafted, everybody
        if not isinstance(crafted, ModelUpdate):
            raise RunError(f"{training.threat.attack.name}: a {type(crafted).__name__} can't be")
        malicious = _malicious_rows(crafted, training.threat.roles)
        game = game_of(training.defenses, self._federation)
        played, exists = play(crafted, malicious, training.threat, game)
        return _staged_rows(training, played, malicious, self._federation, seeds), exists

    def _craft(self, message: Message) -> Message:
        training, index = self._training, self._federation.round_index
        attack, roles = training.threat.attack, training.threat.roles
        malicious = _malicious_rows(message, roles)
        if attack is None or not bool(malicious.any()):
            return message
        model = training.system.handle(self._now.state)
        transcript = replace(self._facts, rounds=(RoundRecord(index, message, model, None),))
        own: tuple[tuple[int, ...], ...] = ()
        if training.system.client_unit == "user":
            histories = training.domains[0].histories
            own = tuple(tuple(histories[int(u)].tolist()) for u in np.flatnonzero(roles.malicious))
        context = AttackContext(
            round_index=index,
            num_rounds=self._federation.num_rounds,
            targets=training.threat.targets,
            num_items=self._federation.num_items,
            state=self._now.memory,
        )
        view = View(transcript, attack.threat_model, own)
        audits = isinstance(attack, Audit)
        seeds = audit_seeds(training) if audits else training.seeds.child("craft", index)
        return attack.craft(view, message, malicious, context, seeds)


def _client_stages(
    training: Training,
    message: Message,
    malicious: Bool[Tensor, " row"],
    federation: Federation,
    seeds: Seeds,
) -> Message:
    """Apply the client stages to honest clients; a malicious client skips them."""
    if not training.defenses:
        return message
    if training.threat.attack is None or not bool(malicious.any()):
        return _staged_by_all(training, message, federation, seeds)
    if not message.many_rows:
        return _staged_rows(training, message, ~malicious, federation, seeds)
    # Rows of one client belong together: all are staged, and the malicious ones put back.
    staged = _staged_by_all(training, message, federation, seeds)
    if said := staged.misfit(Form.like(message)):
        raise RunError(f"malicious rows can't skip the client stages: {said}")
    return staged.put(malicious, message)


def _staged_rows(
    training: Training,
    message: M,
    chosen: Bool[Tensor, " row"],
    federation: Federation,
    seeds: Seeds,
) -> M:
    """Apply the client stages to some of the clients, in the order of the message."""
    if not bool(chosen.any()):
        return message
    staged = _staged_by_all(training, message.select(chosen), federation, seeds)
    joined = type(message).join([staged, message.select(~chosen)])
    # Back into the order of the chunk.
    return joined.ordered(torch.cat([chosen.nonzero(), (~chosen).nonzero()]).flatten())


def _staged_by_all(training: Training, message: M, federation: Federation, seeds: Seeds) -> M:
    for place, defense in enumerate(training.defenses):
        message = defense.on_client(message, federation, seeds.child("client stage", place))
    return message


def _check_form(honest: Message, crafted: Message, attack: PoisoningAttack | None) -> None:
    """Raise where an attack gives back something that is no message of the same cohort.

    A malformed update of one client cannot exist here, where clients are an axis of one tensor; a
    malformed cohort is a mistake in the attack's code, and aggregating it would be one too.
    """
    said = crafted.misfit(Form.like(honest))
    if not said and not torch.equal(honest.sent_by, crafted.sent_by):
        said = "its clients are others"
    if said:
        name = "the attack" if attack is None else f"attack {attack.name}"
        raise RunError(f"{name} changed the form of the round's message: {said}")


def draw_cohort(training: Training, federation: Federation, seeds: Seeds) -> Int[Tensor, " client"]:
    """Draw the round's clients: a fixed number, or Poisson where a defence's accounting asks."""
    stream = seeds.numpy("cohort")
    if any(defense.sampling == "poisson" for defense in training.defenses):
        chosen = np.flatnonzero(stream.random(federation.num_clients) < federation.sampling_rate)
    else:
        chosen = stream.choice(federation.num_clients, federation.cohort_size, replace=False)
    return torch.from_numpy(chosen)


def _malicious_rows(message: Message, roles: Roles, start: int = 0) -> Bool[Tensor, " row"]:
    """Which rows of a message the adversary controls: by client, or by uploaded row.

    Args:
        message: a chunk of the cohort, or all of it.
        roles: of the clients, or of all rows where a client sends several.
        start: rows of the cohort before this chunk.
    """
    malicious = torch.from_numpy(roles.malicious)
    if not message.many_rows:
        return malicious[message.sent_by]
    if start + len(message) > len(malicious):
        raise RunError(f"{start + len(message)} rows were sent, {len(malicious)} have a role")
    return malicious[start : start + len(message)]
