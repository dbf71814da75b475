"""What a scenario runs: its cells, what is not run and why, and warnings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.arms import NO_DEFENSE, Arm, arms_of
from harness.cells import Cell, Noisy, NotRun, make_cell
from harness.core.attack import Attack, PoisoningAttack
from harness.core.defense import Defense
from harness.core.messages import Message, Silence
from harness.core.registry import ATTACKS, DEFENSES, SYSTEMS
from harness.core.system import System
from harness.plugins import PluginSpec
from harness.reading.references import NONE
from harness.scenario import LanguageCells, PluginEntry, Scenario, SystemEntry

__all__ = ["Cell", "NotRun", "Plan", "expand"]


class Plan(NamedTuple):
    """A scenario, expanded.

    Attributes:
        cells: in the order in which they run; all of one seed before the next.
        not_run: combinations that make no sense or were left out.
        warnings: what a reader of the results should know beforehand.
    """

    cells: tuple[Cell, ...]
    not_run: tuple[NotRun, ...]
    warnings: tuple[str, ...]

    @property
    def trainings(self) -> int:
        """Number of distinct trainings."""
        return len({cell.training for cell in self.cells})


@dataclass(frozen=True)
class _Choice:
    """An arm with the restrictions of the entry it comes from."""

    arm: Arm
    under: tuple[str, ...] | None
    systems: tuple[str, ...] | None


@dataclass(frozen=True)
class _Setting:
    """A cell without its seed."""

    system: PluginSpec
    dataset_label: str
    anchor: bool = False
    arm: Arm = NO_DEFENSE
    poisoning: PluginSpec | None = None
    inference: tuple[PluginSpec, ...] = ()
    noisy: float = 0.0
    malicious: float = 0.0
    language: LanguageCells | None = None


def expand(scenario: Scenario, added: Mapping[str, Sequence[float]] | None = None) -> Plan:
    """Expand a scenario into cells.

    Cells without an attack come once for each noisy fraction, with no malicious client; a malicious
    fraction of 0 gives no poisoned cell; anchors come once for each data set,
    noisy fraction and seed: they train on what the systems train on. Pairs that
    do not meet, or that the scenario leaves out, are returned with their reason.

    Args:
        scenario: as loaded.
        added: strengths that refinement put into ranges, by label of the defence.

    Raises:
        ScenarioError: a plug-in is not registered.
    """
    settings, not_run = list(_anchor_settings(scenario)), list[NotRun]()
    for label, entry in scenario.systems.items():
        more, left_out = _system_settings(scenario, label, entry, _choices(scenario, added or {}))
        settings += more
        not_run += left_out
    cells = tuple(_cell(scenario, setting, seed) for seed in scenario.seeds for setting in settings)
    return Plan(cells, tuple(not_run), tuple(_warnings(scenario)))


def _spec(label: str, entry: PluginEntry) -> PluginSpec:
    return PluginSpec(label=label, use=entry.use, params=entry.params)


def _anchor_settings(scenario: Scenario) -> Iterator[_Setting]:
    for dataset in scenario.datasets:
        for label, entry in scenario.anchors.items():
            for noisy in scenario.clients.noisy.fraction:
                yield _Setting(_spec(label, entry), dataset, anchor=True, noisy=noisy)


def _choices(scenario: Scenario, added: Mapping[str, Sequence[float]]) -> list[_Choice]:
    choices = [_Choice(NO_DEFENSE, None, None)]
    for label, entry in scenario.defenses.items():
        parts = [part.model_dump(mode="json") for part in entry.parts]
        arms = arms_of(label, parts, added.get(label, ()))
        choices += [_Choice(arm, entry.under, entry.systems) for arm in arms]
    return choices


def _attacks(scenario: Scenario) -> tuple[list[PluginSpec], list[PluginSpec]]:
    """Return the poisoning attacks and the inference attacks."""
    specs = [_spec(label, entry) for label, entry in scenario.attacks.items()]
    poisoning = [s for s in specs if issubclass(ATTACKS.get(s.use), PoisoningAttack)]
    return poisoning, [s for s in specs if s not in poisoning]


def _system_settings(
    scenario: Scenario, label: str, entry: SystemEntry, choices: Sequence[_Choice]
) -> tuple[list[_Setting], list[NotRun]]:
    system, spec = SYSTEMS.get(entry.use), _spec(label, entry)
    poisoning, inference = _attacks(scenario)
    settings, not_run = list[_Setting](), list[NotRun]()

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
            base = _Setting(spec, entry.dataset, False, choice.arm, attack, reading)
            added = list(_with_clients(scenario, base, entry.language_cells))
            settings += added
            if added and (reason := _language_left_out(scenario, entry.language_cells, arm, name)):
                leave("language stage", "skipped", reason, arm, name)
    return settings, not_run


def _with_clients(
    scenario: Scenario, base: _Setting, language: LanguageCells | None
) -> Iterator[_Setting]:
    """Yield the setting for each noisy and, if it is poisoned, each malicious fraction."""
    malicious = (0.0,) if base.poisoning is None else scenario.clients.malicious.fraction
    for noisy in scenario.clients.noisy.fraction:
        for fraction in malicious:
            if base.poisoning is None or fraction > 0:
                yield _Setting(
                    base.system,
                    base.dataset_label,
                    False,
                    base.arm,
                    base.poisoning,
                    base.inference,
                    noisy,
                    fraction,
                    language,
                )


def _language_trained(language: LanguageCells | None, arm: str, attack: str, seed: int) -> bool:
    if language is None:
        return True
    limits = ((language.seeds, seed), (language.defenses, arm), (language.attacks, attack))
    return all(allowed is None or value in allowed for allowed, value in limits)


def _language_left_out(
    scenario: Scenario, language: LanguageCells | None, arm: str, attack: str
) -> str:
    """Return why some of the seeds go without the language stage; empty if none does."""
    without = [s for s in scenario.seeds if not _language_trained(language, arm, attack, s)]
    if not without:
        return ""
    kept = [seed for seed in scenario.seeds if seed not in without]
    seeds = f"for seeds {', '.join(map(str, kept))} only" if kept else "in other cells only"
    return f"the scenario trains the language stage {seeds}"


def _cell(scenario: Scenario, setting: _Setting, seed: int) -> Cell:
    noisy = scenario.clients.noisy
    dataset = scenario.datasets[setting.dataset_label]
    attack = setting.poisoning.label if setting.poisoning else NONE
    return make_cell(
        system=setting.system,
        anchor=setting.anchor,
        dataset_label=setting.dataset_label,
        dataset=dataset,
        target_domain_only=setting.anchor and bool(dataset.get("domains")),
        defense=setting.arm,
        poisoning=setting.poisoning,
        inference=setting.inference,
        noisy=Noisy(
            fraction=setting.noisy, rate=noisy.rate if setting.noisy else 0.0, kind=noisy.kind
        ),
        malicious=setting.malicious,
        eval_excluded=_excluded(scenario),
        seed=seed,
        language=_language_trained(setting.language, setting.arm.label, attack, seed),
        targets=scenario.targets,
        evaluation=scenario.evaluation,
        record=scenario.record,
        limits=scenario.limits,
        arithmetic=scenario.compute.arithmetic(),
    )


def _excluded(scenario: Scenario) -> tuple[float, float]:
    fractions = (scenario.clients.malicious.fraction, scenario.clients.noisy.fraction)
    malicious, noisy = (max((f for f in fs if f < 1), default=0.0) for fs in fractions)
    return (malicious if _attacks(scenario)[0] else 0.0), noisy


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


def _warnings(scenario: Scenario) -> Iterator[str]:
    poisoning, _ = _attacks(scenario)
    malicious, noisy = scenario.clients.malicious.fraction, scenario.clients.noisy.fraction
    for what, fractions in (("malicious", malicious if poisoning else ()), ("noisy", noisy)):
        if any(fraction >= 1 for fraction in fractions):
            yield f"stress run: 100 % {what} clients; metrics on honest users are not applicable"
    if poisoning and not any(malicious):
        yield "poisoning attacks are listed but no client is malicious: no poisoned cell is run"
    if not poisoning and any(malicious):
        yield "malicious clients are declared but no attack poisons: every client is honest"
    if len(scenario.seeds) == 1:
        yield "one seed: intervals cover users only, and a gate stays inconclusive"
    for label, entry in scenario.systems.items():
        named = entry.language_cells.seeds if entry.language_cells else None
        if named and not set(named) & set(scenario.seeds):
            yield f"language_cells of {label} names no seed of the scenario: never trained"
