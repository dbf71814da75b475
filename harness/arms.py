"""Defence arms: what a scenario's defences expand to, one arm for each combination of a sweep."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from harness.core.params import Params
from harness.core.registry import DEFENSES
from harness.naming import AND, WITHOUT
from harness.plugins import PluginSpec, build
from harness.reading.explain import Finding
from harness.reading.problems import suggest
from harness.reading.ranges import ranges_of
from harness.reading.references import NONE
from harness.reading.resolve import swept_fields


class Arm(Params):
    """One defence setting, alone or composed.

    Attributes:
        label: unique in the scenario, such as ``dp epsilon=8``.
        parts: its defences in order; none for the arm without defence.
        family: label of the entry it comes from; the arms of a sweep share it.
        strength_name: parameter that tells the arms of a family apart, or the defence's own.
        strength: its value, None where it is no number.
    """

    label: str
    parts: tuple[PluginSpec, ...]
    family: str
    strength_name: str = ""
    strength: float | None = None


NO_DEFENSE = Arm(label=NONE, parts=(), family=NONE)


def arms_of(
    label: str, parts: Sequence[dict[str, Any]], added: Sequence[float] = ()
) -> tuple[Arm, ...]:
    """Return the arms of one entry.

    Args:
        label: the entry's.
        parts: ``use`` and resolved ``params`` of each part; a swept parameter holds a list or a
            range.
        added: strengths that refinement put between those of the entry's range.
    """
    found = _settings(label, parts, added)
    return tuple(_arm(label, "", setting.specs, setting.swept, setting.values) for setting in found)


def companions_of(
    label: str, parts: Sequence[dict[str, Any]], added: Sequence[float] = ()
) -> tuple[Arm, ...]:
    """Return the arms that tell what the price of an entry's arms is made of.

    A defence names its effects (`Defense.effects`); one arm goes without all of them, the next
    without all but the first, and so on. What a sweep varies in an effect that is switched off
    makes no arm of its own.

    Args:
        label: the entry's.
        parts: as for `arms_of`.
        added: as for `arms_of`.
    """
    arms: dict[str, Arm] = {}
    for setting in _settings(label, parts, added):
        effects = [build(DEFENSES, spec).effects() for spec in setting.specs]
        names = list(dict.fromkeys(name for each in effects for name in each))
        for index in range(len(names)):
            gone = names[index:]
            specs = tuple(
                _without(spec, own, gone) for spec, own in zip(setting.specs, effects, strict=True)
            )
            kept = [
                (place, field, value)
                for (place, field), value in zip(setting.swept, setting.values, strict=True)
                if not any(field in effects[place].get(name, {}) for name in gone)
            ]
            words = WITHOUT + AND.join(gone)
            swept = [(place, field) for place, field, _ in kept]
            arm = _arm(label, words, specs, swept, [value for _, _, value in kept])
            arms.setdefault(arm.label, arm)
    return tuple(arms.values())


def _without(spec: PluginSpec, effects: dict[str, dict[str, Any]], gone: list[str]) -> PluginSpec:
    """Return a part with some of its effects switched off."""
    off = {field: value for name in gone for field, value in effects.get(name, {}).items()}
    return spec.model_copy(update={"params": {**spec.params, **off}})


class _Setting(NamedTuple):
    """One combination of an entry's sweeps: its parts, and the swept fields with their values."""

    specs: tuple[PluginSpec, ...]
    swept: list[tuple[int, str]]
    values: tuple[Any, ...]


def _settings(
    label: str, parts: Sequence[dict[str, Any]], added: Sequence[float]
) -> Iterator[_Setting]:
    parts = [_listed(part, added) for part in parts]
    sweeps = [
        (index, field, part["params"][field])
        for index, part in enumerate(parts)
        for field in sorted(swept_fields(DEFENSES.get(part["use"]), part["params"]))
    ]
    swept = [(index, field) for index, field, _ in sweeps]
    for values in itertools.product(*(options for _, _, options in sweeps)):
        chosen = [dict(part["params"]) for part in parts]
        for (index, field), value in zip(swept, values, strict=True):
            chosen[index][field] = value
        specs = tuple(
            PluginSpec(label=label, use=part["use"], params=params)
            for part, params in zip(parts, chosen, strict=True)
        )
        yield _Setting(specs, swept, values)


def _arm(
    label: str,
    words: str,
    specs: tuple[PluginSpec, ...],
    swept: list[tuple[int, str]],
    values: Sequence[Any],
) -> Arm:
    named = [f"{field}={_short(value)}" for (_, field), value in zip(swept, values, strict=True)]
    name, strength = _strength(specs, swept)
    return Arm(
        label=" ".join([label + words, *named]),
        parts=specs,
        family=label + words,
        strength_name=name,
        strength=strength,
    )


def _listed(part: dict[str, Any], added: Sequence[float]) -> dict[str, Any]:
    """Return a part with the strengths of its range, if it has one, as a list."""
    ranges = ranges_of(DEFENSES.get(part["use"]), part["params"])
    lists = {field: sorted({*found.strengths, *added}) for field, found in ranges.items()}
    return {**part, "params": {**part["params"], **lists}}


def _strength(
    specs: tuple[PluginSpec, ...], swept: list[tuple[int, str]]
) -> tuple[str, float | None]:
    """Return the swept parameter if there is one, else the first part's declared strength."""
    own = [(i, DEFENSES.get(s.use).strength) for i, s in enumerate(specs)]
    declared = [pair for pair in own if pair[1]]
    candidates = [pair for pair in swept if pair in declared] + swept + declared
    if not candidates:
        return "", None
    index, field = candidates[0]
    value: Any = specs[index].params.get(field)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return field, float(value) if is_number else None


def _short(value: Any) -> str:
    """Write 8.0 as 8; every other value in full, so that two arms never share a label."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return str(int(value)) if whole else str(value)


def check_arm_names(data: dict[str, Any]) -> list[Finding]:
    """Return the arms that ``language_cells`` names and that do not exist.

    Args:
        data: the scenario's normalised plain data, its defences known to be valid.
    """
    arms = {NONE} | {
        arm.label
        for label, entry in data.get("defenses", {}).items()
        for arm in arms_of(label, entry["parts"])
    }
    findings: list[Finding] = []
    for label, entry in data.get("systems", {}).items():
        named = (entry.get("language_cells") or {}).get("defenses") or []
        path = ("systems", label, "language_cells", "defenses")
        for i, name in enumerate(named):
            if name not in arms:
                message = f"unknown defence arm {name!r}{suggest(name, arms)}"
                findings.append(Finding((*path, i), message))
    return findings
