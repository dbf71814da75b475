"""A scenario's plug-ins: each entry checked against its class, with the defaults filled in.

Works on plain data that may be malformed anywhere, so that every problem is found at once; what is
not a mapping here is left to the typed schema to complain about.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from harness.core.params import Component
from harness.core.registry import ATTACKS, DEFENSES, SYSTEMS, Registry, not_imported
from harness.core.system import System
from harness.reading.explain import Finding, admits_list, explain
from harness.reading.problems import Step, suggest
from harness.reading.ranges import StrengthRange, ranges_of, read_ranges, written

Path = tuple[Step, ...]
MAX_SWEEP = 1000
"""Most combinations of one entry's sweeps."""
MAX_ARMS = 10_000
"""Most defence settings of a scenario; each of them is checked."""

SYSTEM_KEYS = ("use", "dataset", "language_cells")
DEFENSE_KEYS = ("use", "under", "systems", "decompose")


class Resolved(NamedTuple):
    """Plain data in the schema's form.

    Attributes:
        data: with parameters gathered under ``params`` and defaults filled in.
        findings: what is wrong with plug-ins, data sets and references.
    """

    data: dict[str, Any]
    findings: list[Finding]


def resolve(raw: dict[str, Any]) -> Resolved:
    """Return a scenario's plain data in the schema's form, and what is wrong with it."""
    data, findings = dict(raw), list[Finding]()
    data["anchors"] = _anchors(raw.get("anchors", True))
    for section, fold in (
        ("systems", _fold_system),
        ("attacks", _fold_plain),
        ("anchors", _fold_plain),
        ("defenses", _fold_defense),
    ):
        if isinstance(data.get(section), dict):
            data[section] = {label: fold(entry) for label, entry in data[section].items()}
    for path, registry, entry, reserved in _entries(data):
        findings += _check_entry(path, registry, entry, reserved)
    findings += _check_ranges(data.get("defenses"))
    findings += _check_arms(data.get("defenses"))
    if isinstance(raw.get("datasets"), dict):
        data["datasets"] = dict(raw["datasets"])
        for label, values in raw["datasets"].items():
            findings += _check_dataset(data["datasets"], label, values)
    return Resolved(data, findings)


def _anchors(given: Any) -> Any:
    if given is True:
        names = [name for name, system in SYSTEMS if system.kind == "anchor"]
        return {name: {"use": name} for name in names}
    if given is False:
        return {}
    if not isinstance(given, dict):
        return given
    entries = {label: {} if entry is None else entry for label, entry in given.items()}
    return {
        label: {"use": label, **entry} if isinstance(entry, dict) else entry
        for label, entry in entries.items()
    }


def _fold(entry: Any, reserved: Iterable[str]) -> Any:
    if not isinstance(entry, dict):
        return entry
    folded: dict[str, Any] = {key: entry[key] for key in reserved if key in entry}
    folded["params"] = {key: value for key, value in entry.items() if key not in folded}
    return folded


def _fold_system(entry: Any) -> Any:
    return _fold(entry, SYSTEM_KEYS)


def _fold_plain(entry: Any) -> Any:
    return _fold(entry, ("use",))


def _fold_defense(entry: Any) -> Any:
    if isinstance(entry, list):
        return {"parts": [_fold_plain(part) for part in entry]}
    if not isinstance(entry, dict):
        return entry
    if isinstance(entry.get("parts"), list):
        return {**entry, "parts": [_fold_plain(part) for part in entry["parts"]]}
    folded = _fold(entry, DEFENSE_KEYS)
    part = {key: folded.pop(key) for key in ("use", "params") if key in folded}
    return {**folded, "parts": [part]}


Entry = tuple[Path, Registry[Any], dict[str, Any], tuple[str, ...]]


def _entries(data: dict[str, Any]) -> list[Entry]:
    """Return every plug-in entry that has the right form: path, registry, entry, reserved keys."""
    found: list[Entry] = []
    for section, registry, reserved in (
        ("systems", SYSTEMS, SYSTEM_KEYS),
        ("anchors", SYSTEMS, ("use",)),
        ("attacks", ATTACKS, ("use",)),
    ):
        for label, entry in _items(data.get(section)):
            found.append(((section, label), registry, entry, reserved))
    for label, entry in _items(data.get("defenses")):
        parts = entry.get("parts")
        for index, part in enumerate(parts if isinstance(parts, list) else ()):
            found.append((("defenses", label, "parts", index), DEFENSES, part, DEFENSE_KEYS))
    return [entry for entry in found if isinstance(entry[2], dict)]


def _items(section: Any) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(section, dict):
        return []
    return [(label, entry) for label, entry in section.items() if isinstance(entry, dict)]


def _check_entry(
    path: Path, registry: Registry[Any], entry: dict[str, Any], reserved: tuple[str, ...]
) -> list[Finding]:
    """Check one entry against its plug-in and fill its defaults in, in place."""
    use = entry.get("use")
    if not isinstance(use, str):
        return []
    if use not in registry:
        known = [name for name, _ in registry]
        message = f"unknown {registry.kind} {use!r}{suggest(use, known)}{not_imported()}"
        return [Finding((*path, "use"), message)]
    plugin = registry.get(use)
    if issubclass(plugin, System) and (plugin.kind == "anchor") != (path[0] == "anchors"):
        wanted = "anchors" if plugin.kind == "anchor" else "systems"
        return [Finding((*path, "use"), f"{use!r} belongs under {wanted}")]
    entry["params"], findings = _check_params(
        plugin, entry["params"], path, reserved, sweeps=registry is DEFENSES
    )
    return findings


def _check_params(
    plugin: type[Component],
    params: dict[str, Any],
    path: Path,
    reserved: tuple[str, ...],
    sweeps: bool,
) -> tuple[dict[str, Any], list[Finding]]:
    ranges, broken, findings = read_ranges(plugin, params, path) if sweeps else ({}, (), [])
    params = {name: value for name, value in params.items() if name not in broken}
    # What a Config allows has no gaps, so that a range is right where both of its ends are.
    params |= {field: [found.start, found.end] for field, found in ranges.items()}
    swept = sorted(swept_fields(plugin, params)) if sweeps else []
    findings += [f for field in swept for f in _check_sweep((*path, field), params[field])]
    if math.prod(len(params[field]) for field in swept) > MAX_SWEEP:
        return params, [Finding(path, f"a sweep has at most {MAX_SWEEP} combinations")]
    resolved: dict[str, Any] = {}
    kept: dict[str, dict[int, Any]] = {field: {} for field in swept}
    for chosen in itertools.product(*(range(len(params[field])) for field in swept)):
        index = dict(zip(swept, chosen, strict=True))
        values = {**params, **{field: params[field][i] for field, i in index.items()}}
        try:
            config = plugin.Config.model_validate_json(json.dumps(values))
        except ValidationError as error:
            # What is wrong with all parameters together may be due to the one that is missing here.
            found = [f for f in explain(error, plugin.Config, (), reserved) if f.path or not broken]
            inside = ((f, _into_sweep(f.path, index, ranges)) for f in found)
            findings += [f._replace(path=(*path, *steps)) for f, steps in inside]
            continue
        resolved = config.model_dump(mode="json")
        for field, i in index.items():
            kept[field][i] = resolved[field]
    lists = {field: [values[i] for i in sorted(values)] for field, values in kept.items()}
    return {**resolved, **lists, **{name: written(ranges[name]) for name in ranges}}, findings


def _into_sweep(path: Path, index: dict[str, int], ranges: dict[str, StrengthRange]) -> Path:
    """Return the path of a swept parameter's value: its place in the list, or an end of a range."""
    if not path or not isinstance(path[0], str) or path[0] not in index:
        return path
    name, place = path[0], index[path[0]]
    if name in ranges:
        return (name, "to" if place else "from")
    return (name, place, *path[1:])


def _check_ranges(defenses: Any) -> list[Finding]:
    """Return the entries in which a range is not the only sweep: its neighbours must be clear."""
    findings: list[Finding] = []
    for label, entry in _items(defenses):
        parts = entry.get("parts")
        swept, ranged = list[str](), list[str]()
        for part in parts if isinstance(parts, list) else ():
            use, params = (
                (part.get("use"), part.get("params")) if isinstance(part, dict) else ("", 0)
            )
            if isinstance(params, dict) and isinstance(use, str) and use in DEFENSES:
                found = ranges_of(DEFENSES.get(use), params)
                ranged += found
                swept += [*found, *sorted(swept_fields(DEFENSES.get(use), params))]
        if ranged and len(swept) > 1:
            message = f"{ranged[0]} is a range, so it must be the only sweep of the entry (swept: "
            message += f"{', '.join(swept)}): write one entry for each combination"
            findings.append(Finding(("defenses", label), message))
    return findings


def _check_arms(defenses: Any) -> list[Finding]:
    """Return the entries whose parts' sweeps multiply to too much, or all entries together."""
    findings: list[Finding] = []
    total = 0
    for label, entry in _items(defenses):
        parts = entry.get("parts")
        sizes = [_settings(part) for part in parts] if isinstance(parts, list) else []
        count = math.prod(sizes)
        total += count
        if count > MAX_SWEEP and len(sizes) > 1:
            message = f"the parts' sweeps have {count:,} combinations; at most {MAX_SWEEP:,}"
            findings.append(Finding(("defenses", label), message))
    if total > MAX_ARMS and not findings:
        message = f"{total:,} settings in all; at most {MAX_ARMS:,}"
        findings.append(Finding(("defenses",), message))
    return findings


def _settings(part: Any) -> int:
    """Return how many settings a part's sweeps and ranges make; 1 where it can't be told."""
    use, params = (part.get("use"), part.get("params")) if isinstance(part, dict) else ("", 0)
    if not isinstance(params, dict) or not isinstance(use, str) or use not in DEFENSES:
        return 1
    plugin = DEFENSES.get(use)
    swept = (len(params[field]) for field in swept_fields(plugin, params))
    return math.prod([*swept, *(found.points for found in ranges_of(plugin, params).values())])


def _check_sweep(path: Path, values: list[Any]) -> list[Finding]:
    if not values:
        return [Finding(path, "a sweep needs at least one value")]
    first = {json.dumps(value): i for i, value in reversed(list(enumerate(values)))}
    return [
        Finding((*path, i), "stands twice in the sweep")
        for i, value in enumerate(values)
        if first[json.dumps(value)] != i
    ]


def swept_fields(plugin: type[Component], params: dict[str, Any]) -> set[str]:
    """Return the parameters given as a list where the plug-in's Config takes one value."""
    fields = plugin.Config.model_fields
    return {
        name
        for name, value in params.items()
        if isinstance(value, list) and name in fields and not admits_list(fields[name].annotation)
    }


def dataset_model() -> type[BaseModel]:
    """Return the configuration class of data sets."""
    return importlib.import_module("harness.data").DatasetConfig


def _check_dataset(datasets: dict[str, Any], label: str, values: Any) -> list[Finding]:
    """Check one data set and fill its defaults in, in place."""
    if not isinstance(values, dict):
        return []
    model = dataset_model()
    try:
        config = model.model_validate_json(json.dumps(values))
    except ValidationError as error:
        return explain(error, model, ("datasets", label))
    datasets[label] = config.model_dump(mode="json")
    return []
