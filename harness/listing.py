"""What can be named in a scenario: systems, attacks, defences, data sets and metrics."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from pydantic import BaseModel

from harness.assets import ASSETS
from harness.core.attack import Attack, PoisoningAttack
from harness.core.audit import Audit
from harness.core.defense import Defense
from harness.core.messages import Message
from harness.core.params import Component
from harness.core.registry import ATTACKS, DEFENSES, SYSTEMS, Registry
from harness.core.system import System
from harness.kinds import Kind
from harness.reading.resolve import dataset_model


def entries(kind: Kind) -> list[dict[str, Any]]:
    """Return one entry a name, in JSON's types; the plug-ins must have been loaded."""
    if kind == "datasets":
        return _datasets()
    if kind == "metrics":
        return _metrics()
    registries: dict[str, Registry[Any]] = {
        "systems": SYSTEMS,
        "attacks": ATTACKS,
        "defenses": DEFENSES,
    }
    return [_plugin(name, plugin) for name, plugin in registries[kind]]


def _plugin(name: str, plugin: type[Component]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": name,
        "summary": plugin.summary(),
        "paper": plugin.paper.reference,
        "fidelity": plugin.paper.fidelity,
    }
    if issubclass(plugin, System):
        entry |= {"kind": plugin.kind, "emits": plugin.emits.__name__}
        entry |= {"client": plugin.client_unit, "features": sorted(plugin.features)}
        entry["deviations"] = [{"what": d.what, "why": d.why} for d in plugin.deviations]
    if issubclass(plugin, Attack):
        entry |= {"kind": _attack_kind(plugin), "reads": _names(plugin.reads)}
        entry["threat_model"] = {
            "adversary": plugin.threat_model.adversary,
            "sees": sorted(plugin.threat_model.sees),
            "knows": sorted(plugin.threat_model.knows),
            "acts": plugin.threat_model.acts,
            "words": plugin.threat_model.words,
        }
    if issubclass(plugin, Defense):
        entry |= {"reads": _names(plugin.reads), "strength": plugin.strength}
        entry |= {"aggregates": plugin.replaces_aggregation(), "needs": sorted(plugin.needs)}
    entry["parameters"] = _parameters(plugin.Config.model_json_schema())
    return entry


def _attack_kind(plugin: type[Attack]) -> str:
    if not issubclass(plugin, PoisoningAttack):
        return "inference"
    if issubclass(plugin, Audit):
        return "audit"
    return "targeted poisoning" if plugin.targeted else "untargeted poisoning"


def _names(kinds: tuple[type[Message], ...]) -> list[str]:
    return [kind.__name__ for kind in kinds]


def _parameters(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    required = set(schema.get("required", ()))
    kept = ("type", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    return {
        name: {
            "default": field.get("default"),
            "required": name in required,
            "description": field.get("description", ""),
            **{key: field[key] for key in kept if key in field},
        }
        for name, field in schema.get("properties", {}).items()
    }


def _datasets() -> list[dict[str, Any]]:
    """Return the loaders, with their options, and what every entry of ``datasets:`` may say."""
    loaders = importlib.import_module("harness.data").LOADERS
    found = [
        {
            "name": name,
            "summary": loader.summary(),
            "use": f"use: {name}",
            "by_path": loader.fits is not None,
            "carries": loader.carries,
            "licence": loader.licence,
            "pinned": name in ASSETS,
            "parameters": _described(loader.options),
        }
        for name, loader in loaders
    ]
    return [*found, *_every_dataset()]


def _every_dataset() -> list[dict[str, Any]]:
    domains = importlib.import_module("harness.data").DomainsConfig
    return [
        {
            "name": name,
            "summary": summary,
            "use": "",
            "by_path": False,
            "carries": "",
            "licence": "",
            "pinned": False,
            "parameters": _described(model),
        }
        for name, summary, model in (
            ("every entry of datasets:", "What each of them may say.", dataset_model()),
            ("domains:", "Two domains with disjoint users and items.", domains),
        )
    ]


def _described(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """Return a configuration's parameters; the words on each stand in the class's docstring."""
    words = attributes_of(model.__doc__ or "")
    schema = model.model_json_schema()
    # A model that holds itself stands among the definitions.
    parameters = _parameters(schema.get("$defs", {}).get(model.__name__, schema))
    return {
        name: {**field, "description": field["description"] or words.get(name, "")}
        for name, field in parameters.items()
    }


def attributes_of(docstring: str) -> dict[str, str]:
    """Return the ``Attributes:`` of a docstring by name."""
    _, _, section = inspect.cleandoc(docstring).partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.split("\n"):
        start = re.match(r"    (\w+): (.*)", line)
        if start is not None:
            name = start[1]
            found[name] = start[2]
        elif line.startswith("        ") and name:
            found[name] += f" {line.strip()}"
        elif line.strip():
            break
    return found


def _metrics() -> list[dict[str, Any]]:
    table: dict[str, tuple[str, str]] = importlib.import_module("reports.wording").METRICS
    return [
        {"name": name, "title": title, "summary": meaning}
        for name, (title, meaning) in table.items()
    ]
