"""Names that one part of a scenario uses for another, and parts that do not go together."""

from __future__ import annotations

from typing import Any

from harness.core.attack import PoisoningAttack
from harness.core.defense import Defense
from harness.core.registry import ATTACKS, DEFENSES, SYSTEMS
from harness.reading.explain import Finding
from harness.reading.problems import Step, suggest

NONE = "none"
"""Label of the arm without defence, and of the training without poisoning."""


def check_references(data: dict[str, Any]) -> list[Finding]:
    """Return dangling names and impossible combinations in a scenario's normalised plain data.

    Names of defence arms are left to :func:`harness.arms.check_arm_names`: the arms of a sweep are
    known only once the defences are valid.
    """
    return [
        *_check_datasets(data),
        *_check_none(data),
        *_check_defenses(data),
        *_check_language_cells(data),
    ]


def poisoning_labels(data: dict[str, Any]) -> set[str]:
    """Return the labels of the attacks that take part in the training."""
    labels: set[str] = set()
    for label, entry in _mapping(data.get("attacks")).items():
        use = _mapping(entry).get("use")
        if (
            isinstance(use, str)
            and use in ATTACKS
            and issubclass(ATTACKS.get(use), PoisoningAttack)
        ):
            labels.add(label)
    return labels


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _unknown(path: tuple[Step, ...], names: Any, known: set[str], what: str) -> list[Finding]:
    if not isinstance(names, list):
        return []
    return [
        Finding((*path, i), f"unknown {what} {name!r}{suggest(name, known)}")
        for i, name in enumerate(names)
        if isinstance(name, str) and name not in known
    ]


def _check_datasets(data: dict[str, Any]) -> list[Finding]:
    known = set(_mapping(data.get("datasets")))
    findings: list[Finding] = []
    for label, entry in _mapping(data.get("systems")).items():
        name = _mapping(entry).get("dataset")
        if isinstance(name, str) and name not in known:
            path = ("systems", label, "dataset")
            findings.append(Finding(path, f"unknown data set {name!r}{suggest(name, known)}"))
    return findings


def _check_none(data: dict[str, Any]) -> list[Finding]:
    return [
        Finding((section, NONE), f"{NONE!r} is always there; leave it out", at_key=True)
        for section in ("attacks", "defenses")
        if NONE in _mapping(data.get(section))
    ]


def _check_defenses(data: dict[str, Any]) -> list[Finding]:
    findings: list[Finding] = []
    attacks = poisoning_labels(data) | {NONE}
    inference = set(_mapping(data.get("attacks"))) - attacks
    systems = set(_mapping(data.get("systems")))
    for label, entry in _mapping(data.get("defenses")).items():
        entry, path = _mapping(entry), ("defenses", label)
        under = entry.get("under")
        for i, name in enumerate(under if isinstance(under, list) else ()):
            if name in inference:
                message = f"{name!r} is not part of the training; it runs on every arm"
                findings.append(Finding((*path, "under", i), message))
        known = attacks | inference
        findings += _unknown((*path, "under"), under, known, "poisoning attack")
        findings += _unknown((*path, "systems"), entry.get("systems"), systems, "system")
        parts = entry.get("parts")
        findings += _check_parts(path, parts if isinstance(parts, list) else [])
    return findings


def _check_parts(path: tuple[Step, ...], parts: list[Any]) -> list[Finding]:
    uses = [_mapping(part).get("use") for part in parts]
    classes: list[type[Defense]] = [
        DEFENSES.get(use) for use in uses if isinstance(use, str) and use in DEFENSES
    ]
    findings: list[Finding] = []
    rules = [plugin.name for plugin in classes if plugin.replaces_aggregation()]
    if len(rules) > 1:
        message = f"{' and '.join(rules)} each bring an aggregation rule; at most one part may"
        findings.append(Finding(path, message))
    sampling = {plugin.sampling for plugin in classes if plugin.sampling is not None}
    if len(sampling) > 1:
        message = f"the parts need different sampling: {' and '.join(sorted(sampling))}"
        findings.append(Finding(path, message))
    return findings


def _check_language_cells(data: dict[str, Any]) -> list[Finding]:
    known = poisoning_labels(data) | {NONE}
    findings: list[Finding] = []
    for label, entry in _mapping(data.get("systems")).items():
        path, use = ("systems", label, "language_cells"), _mapping(entry).get("use")
        cells = _mapping(_mapping(entry).get("language_cells"))
        findings += _unknown((*path, "attacks"), cells.get("attacks"), known, "poisoning attack")
        plugin = SYSTEMS.get(use) if isinstance(use, str) and use in SYSTEMS else None
        if cells and plugin is not None and "language_stage" not in plugin.Config.model_fields:
            findings.append(Finding(path, f"{use!r} has no language stage", at_key=True))
    return findings
