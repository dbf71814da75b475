"""The combinations a scenario asks for, before client fractions and seeds multiply them.

Counting them costs nothing, so a scenario of a million cells is counted before any cell is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.arms import NO_DEFENSE, Arm, arms_of, companions_of
from harness.cells import NotRun
from harness.core.attack import Attack, PoisoningAttack
from harness.core.defense import Defense
from harness.core.messages import Message, Silence
from harness.core.registry import ATTACKS, DEFENSES, SYSTEMS
from harness.core.system import System
from harness.plugins import PluginSpec, build
from harness.reading.references import NONE
from harness.scenario import LanguageCells, PluginEntry, Scenario, SystemEntry

DOUBTS_SHOWN = 4
"""Warnings on one entry of the defences; a sweep may have thousands."""


@dataclass(frozen=True)
class Combination:
    """A system on a data set under one arm and one attack.

    Attributes:
        system: the system under test, or an anchor.
        dataset_label: label of its data set.
        anchor: whether it is an anchor.
        arm: the defence.
        poisoning: the attack that takes part in the training.
        inference: attacks on the transcript.
        language: where its language stage is trained.
    """

    system: PluginSpec
    dataset_label: str
    anchor: bool = False
    arm: Arm = NO_DEFENSE
    poisoning: PluginSpec | None = None
    inference: tuple[PluginSpec, ...] = ()
    language: LanguageCells | None = None

    def fractions(self, scenario: Scenario) -> Iterator[tuple[float, float]]:
        """Yield the noisy and malicious fractions; nothing is poisoned at a malicious one of 0."""
        malicious = (0.0,) if self.poisoning is None else scenario.clients.malicious.fraction
        for noisy in scenario.clients.noisy.fraction:
            for fraction in malicious:
                if self.poisoning is None or fraction > 0:
                    yield noisy, fraction

    def cells(self, scenario: Scenario) -> int:
        """Return how many cells it makes, over all fractions and seeds."""
        clients = scenario.clients
        poisoned = sum(fraction > 0 for fraction in clients.malicious.fraction)
        malicious = 1 if self.poisoning is None else poisoned
        return len(clients.noisy.fraction) * malicious * len(scenario.seeds)


class Grid(NamedTuple):
    """What a scenario asks for.

    Attributes:
        combinations: in the order in which they run.
        not_run: those that make no sense or were left out.
    """

    combinations: tuple[Combination, ...]
    not_run: tuple[NotRun, ...]

    def count(self, scenario: Scenario) -> int:
        """Return the number of cells."""
        return sum(combination.cells(scenario) for combination in self.combinations)


def grid_of(scenario: Scenario, added: Mapping[str, Sequence[float]] | None = None) -> Grid:
    """Combine a scenario's systems, defences and attacks.

    Args:
        scenario: as loaded.
        added: strengths that refinement put into ranges, by label of the defence.
    """
    combinations, not_run = list(_anchors(scenario)), list[NotRun]()
    choices = _choices(scenario, added or {})
    for label, entry in scenario.systems.items():
        more, left_out = _of_system(scenario, label, entry, choices)
        combinations += more
        not_run += left_out
    return Grid(tuple(combinations), tuple(not_run))


def attacks_of(scenario: Scenario) -> tuple[list[PluginSpec], list[PluginSpec]]:
    """Return the poisoning attacks and the inference attacks."""
    specs = [_spec(label, entry) for label, entry in scenario.attacks.items()]
    poisoning = [s for s in specs if issubclass(ATTACKS.get(s.use), PoisoningAttack)]
    return poisoning, [s for s in specs if s not in poisoning]


def doubts_of(scenario: Scenario) -> Iterator[str]:
    """Yield what systems and defences say of their settings, whatever data they meet."""
    for label, entry in scenario.systems.items():
        yield from (f"{label}: {said}" for said in build(SYSTEMS, _spec(label, entry)).doubts())
    for label, entry in scenario.defenses.items():
        parts = [part.model_dump(mode="json") for part in entry.parts]
        specs = (spec for arm in arms_of(label, parts) for spec in arm.parts)
        found = list(dict.fromkeys(said for s in specs for said in build(DEFENSES, s).doubts()))
        yield from (f"{label}: {said}" for said in found[:DOUBTS_SHOWN])
        if len(found) > DOUBTS_SHOWN:
            yield f"{label}: {len(found) - DOUBTS_SHOWN} more such warnings on its other settings"


def language_trained(language: LanguageCells | None, arm: str, attack: str, seed: int) -> bool:
    """Return whether a cell trains its system's language stage."""
    if language is None:
        return True
    limits = ((language.seeds, seed), (language.defenses, arm), (language.attacks, attack))
    return all(allowed is None or value in allowed for allowed, value in limits)


@dataclass(frozen=True)
class _Choice:
    """An arm with the restrictions of the entry it comes from."""

    arm: Arm
    under: tuple[str, ...] | None = None
    systems: tuple[str, ...] | None = None
    companion: bool = False


def _spec(label: str, entry: PluginEntry) -> PluginSpec:
    return PluginSpec(label=label, use=entry.use, params=entry.params)


def _anchors(scenario: Scenario) -> Iterator[Combination]:
    for dataset in scenario.datasets:
        for label, entry in scenario.anchors.items():
            yield Combination(_spec(label, entry), dataset, anchor=True)


def _choices(scenario: Scenario, added: Mapping[str, Sequence[float]]) -> list[_Choice]:
    choices = [_Choice(NO_DEFENSE)]
    for label, entry in scenario.defenses.items():
        parts = [part.model_dump(mode="json") for part in entry.parts]
        arms = arms_of(label, parts, added.get(label, ()))
        choices += [_Choice(arm, entry.under, entry.systems) for arm in arms]
        if entry.decompose and (entry.under is None or NONE in entry.under):
            arms = companions_of(label, parts, added.get(label, ()))
            choices += [_Choice(arm, systems=entry.systems, companion=True) for arm in arms]
    return choices


def _of_system(
    scenario: Scenario, label: str, entry: SystemEntry, choices: Sequence[_Choice]
) -> tuple[list[Combination], list[NotRun]]:
    system, spec = SYSTEMS.get(entry.use), _spec(label, entry)
    poisoning, inference = attacks_of(scenario)
    combinations, not_run = list[Combination](), list[NotRun]()

    def leave(part: str, status: str, reason: str, arm: str = "", attack: str = "") -> None:
        fields = {"system": label, "dataset_label": entry.dataset, "defense": arm}
        fields |= {"attack": attack, "part": part, "status": status, "reason": reason}
        not_run.append(NotRun.model_validate(fields))

    for attack in (*poisoning, *inference):
        if reason := _attack_misses(attack, system, label):
            leave("attack", "not applicable", reason, attack=attack.label)
    meet = [a for a in poisoning if not _attack_misses(a, system, label)]
    reading = tuple(a for a in inference if not _attack_misses(a, system, label))
    for choice in choices:
        arm = choice.arm.label
        if choice.companion:
            combinations += _companion(spec, entry, choice)
            continue
        if reason := _defense_misses(choice.arm, system, label):
            leave("defense", "not applicable", reason, arm)
            continue
        if choice.systems is not None and label not in choice.systems:
            leave("defense", "skipped", f"the scenario runs {arm} on other systems only", arm)
            continue
        for attack in (None, *meet):
            name = attack.label if attack else NONE
            if choice.under is not None and name not in choice.under:
                words = f"the attack {name}" if attack else "no attack"
                leave("cell", "skipped", f"the scenario leaves out {arm} under {words}", arm, name)
                continue
            language = entry.language_cells
            one = Combination(spec, entry.dataset, False, choice.arm, attack, reading, language)
            if not one.cells(scenario):
                continue
            combinations.append(one)
            if reason := _language_left_out(scenario, language, arm, name):
                leave("language stage", "skipped", reason, arm, name)
    return combinations, not_run


def _companion(spec: PluginSpec, entry: SystemEntry, choice: _Choice) -> list[Combination]:
    """Return what a companion is run on: nobody attacks, and nothing is read from it."""
    elsewhere = choice.systems is not None and spec.label not in choice.systems
    if elsewhere or _defense_misses(choice.arm, SYSTEMS.get(entry.use), spec.label):
        return []
    never = LanguageCells(seeds=())
    return [Combination(spec, entry.dataset, arm=choice.arm, language=never)]


def _language_left_out(
    scenario: Scenario, language: LanguageCells | None, arm: str, attack: str
) -> str:
    """Return why some of the seeds go without the language stage; empty if none does."""
    without = [s for s in scenario.seeds if not language_trained(language, arm, attack, s)]
    if not without:
        return ""
    # A set: scenarios with thousands of seeds are counted too.
    left_out = set(without)
    kept = [seed for seed in scenario.seeds if seed not in left_out]
    seeds = f"for seeds {', '.join(map(str, kept))} only" if kept else "in other cells only"
    return f"the scenario trains the language stage {seeds}"


def _attack_misses(spec: PluginSpec, system: type[System], label: str) -> str:
    attack: type[Attack] = ATTACKS.get(spec.use)
    if issubclass(system.emits, attack.reads):
        return ""
    return f"{spec.label} reads {_kinds(attack.reads)}; {_sends(system, label)}"


def _defense_misses(arm: Arm, system: type[System], label: str) -> str:
    for part in arm.parts:
        defense: type[Defense] = DEFENSES.get(part.use)
        if not issubclass(system.emits, defense.reads):
            return f"{part.use} acts on {_kinds(defense.reads)}; {_sends(system, label)}"
        missing = sorted(defense.needs - system.features)
        if missing:
            return f"{part.use} needs what {label} does not have: {', '.join(missing)}"
    return ""


def _sends(system: type[System], label: str) -> str:
    return f"the clients of {label} send {_only(system.emits)}"


def _only(kind: type[Message]) -> str:
    return "nothing" if kind is Silence else f"only {_kinds((kind,))}"


def _kinds(kinds: tuple[type[Message], ...]) -> str:
    """Return message kinds in words: ``ModelUpdate`` is "model updates"."""
    words = (re.sub(r"(?<!^)(?=[A-Z])", " ", kind.__name__).lower() + "s" for kind in kinds)
    return " or ".join(words)
