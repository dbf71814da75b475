"""The rounds of a federation.

Order inside a round (it decides results): honest local work → client stages of the defences on
honest rows → the adversary crafts the malicious rows → guard → aggregation (a defence's rule, or
the system's own) → server stages in reverse order → record → apply stages in reverse order → apply.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from harness.core.audit import Audit
from harness.core.defense import Federation
from harness.core.errors import Interrupted, RunError
from harness.core.messages import Aggregate, Message
from harness.core.observe import RoundRecord, Transcript
from harness.core.seeds import Seeds
from harness.fed.arriving import Arriving
from harness.fed.auditing import watch
from harness.fed.checkpoint import Checkpoints, Progressing
from harness.fed.training import Outcome, Training


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
    now = checkpoints.restore(training, start) if checkpoints else Progressing(start)
    facts = Transcript(
        rounds=(),
        catalogue=system.catalogue(start),
        defense=tuple({"use": d.name, **d.config.model_dump()} for d in training.defenses),
        protocol=system.protocol(),
    )
    for index in range(now.next_round, federation.num_rounds):
        _round(training, now, replace(federation, round_index=index), facts, checkpoints)
        now.guard.check(training.reject_share, training.refused_rounds)
        now.next_round = index + 1
        if checkpoints:
            checkpoints.save(system, now)
        if index % 10 == 9 or index + 1 == federation.num_rounds:
            training.progress(f"round {index + 1}/{federation.num_rounds}")
        _pause(training, now, checkpoints)
    if now.guard.empty_rounds == federation.num_rounds > 0:
        raise RunError(
            "no round had an update to aggregate: no client has two events to train on, or all "
            "updates were refused; check min_length and the attack"
        )
    released = system.release(now.state, training.seeds.child("release"))
    transcript = replace(facts, rounds=tuple(now.records))
    bytes_up = float(np.mean(now.sent)) if now.sent else 0.0
    return Outcome(released, now.state, transcript, now.guard, bytes_up, federation, now.memory)


def _pause(training: Training, now: Progressing, checkpoints: Checkpoints | None) -> None:
    try:
        training.pause()
    except Interrupted:
        if checkpoints:
            checkpoints.save(training.system, now, always=True)
        raise


def _round(
    training: Training,
    now: Progressing,
    federation: Federation,
    facts: Transcript,
    checkpoints: Checkpoints | None,
) -> None:
    """One round, in the order that the module docstring states; moves ``now`` on.

    The cohort passes through in chunks, one at a time, unless somebody has to see it whole: an
    adversary inside the training, an auditor, or the recorder.
    """
    system, index, state = training.system, federation.round_index, now.state
    seeds = training.seeds.child("round", index)
    arriving = Arriving(training, now, federation, facts)
    recorded, arrived = training.recorder.wants(index), arriving.chunks(seeds)
    audited = training.threat.active and isinstance(training.threat.attack, Audit)
    kept = list(arrived) if recorded or audited else []
    messages = iter(kept) if recorded or audited else arrived
    first = next(messages, None)
    refused = first is None and arriving.anything
    now.guard.refused_rounds = now.guard.refused_rounds + 1 if refused else 0
    if first is None:
        now.guard.empty_rounds += 1
        first = _nobody(training, state)
    if first is None:
        now.sent.append(0.0)
        return
    aggregate = _aggregated(training, state, chain([first], messages), federation, seeds)
    now.sent.append(arriving.bytes_per_client())
    whole = type(first).join(kept) if kept else first
    if audited:
        seen = RoundRecord(index, whole, system.handle(state), aggregate)
        watch(training, federation, facts, seen, now.memory)
    if recorded and len(whole):
        record = training.recorder.record(index, whole, system.handle(state), aggregate)
        now.records.append(record)
        if checkpoints:
            checkpoints.keep(system, state, record)
    now.state = system.apply(state, _step(training, now, aggregate, federation))


def _nobody(training: Training, state: Any) -> Message | None:
    """Return what a round without clients is aggregated from; None if it changes nothing.

    Where a budget counts on Poisson cohorts, an empty one must be noised like any other: a model
    that stands still says that nobody was drawn.
    """
    if any(defense.sampling == "poisson" for defense in training.defenses):
        return training.system.nobody(state)
    return None


def _aggregated(
    training: Training,
    state: Any,
    messages: Iterable[Message],
    federation: Federation,
    seeds: Seeds,
) -> Aggregate:
    rules = [d for d in training.defenses if d.replaces_aggregation()]
    if rules:
        aggregate = rules[0].aggregate(messages, federation)
    else:
        aggregate = training.system.combine(state, messages, seeds.child("combine"))
    for place, defense in reversed(list(enumerate(training.defenses))):
        aggregate = defense.on_server(aggregate, federation, seeds.child("server stage", place))
    return aggregate


def _step(
    training: Training, now: Progressing, aggregate: Aggregate, federation: Federation
) -> Aggregate:
    """Return what the defences' apply stages make of the aggregate that was seen."""
    for place, defense in reversed(list(enumerate(training.defenses))):
        memory = now.defenses.setdefault(place, {})
        aggregate = defense.on_apply(aggregate, federation, memory)
    return aggregate
