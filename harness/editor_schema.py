"""The JSON schema of a scenario file, for editors: made from the models that check a scenario.

Draft 7, which YAML language servers know best. It describes the file as it is written: a plug-in's
parameters beside ``use``, a list of values as a sweep, files that extend others and so may leave
anything out. Rules between values are left to ``validate``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from harness.core.defense import Defense
from harness.core.params import Component, Params
from harness.core.registry import ATTACKS, DEFENSES, SYSTEMS
from harness.plugins import load_plugins
from harness.reading.explain import admits_list
from harness.reading.ranges import StrengthRange, takes_number
from harness.reading.resolve import dataset_model
from harness.scenario import DefenseEntry, LanguageCells, Scenario, SystemEntry

Schema = dict[str, Any]
_REF = "#/definitions/"
_MODE: JsonSchemaMode = "validation"
_TEXTS = {"type": "array", "items": {"type": "string"}}


def schema_text() -> str:
    """Return the schema as JSON text."""
    return json.dumps(scenario_schema(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def scenario_schema() -> Schema:
    """Return the schema; loads every plug-in."""
    load_plugins()
    models = _Models()
    form = models.of(Scenario)
    sections = {
        "paths_from": {"type": "string", "description": "where relative paths start"},
        "extends": {"type": "string", "description": "scenario file that this one builds on"},
        "datasets": _labelled(form, "datasets", models.reference(dataset_model())),
        "systems": _labelled(form, "systems", _systems(models)),
        "anchors": _anchors(form, models),
        "attacks": _labelled(form, "attacks", _choice(_attacks(models))),
        "defenses": _labelled(form, "defenses", _defenses(models)),
    }
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "scenario",
        "description": "What is trained, attacked, defended and measured.",
        "type": "object",
        "properties": {**form["properties"], **sections},
        "additionalProperties": False,
        "if": {"required": ["extends"]},
        "else": _complete(form),
    }
    return {**schema, "definitions": _used(schema, models.definitions)}


class _Models:
    """Schemas of the pydantic models of a scenario and of every plug-in.

    Attributes:
        definitions: schema by name, as references name it.
    """

    def __init__(self) -> None:
        plugins = [cls for registry in (SYSTEMS, ATTACKS, DEFENSES) for _, cls in registry]
        models: list[type[BaseModel]] = [Scenario, LanguageCells, StrengthRange, dataset_model()]
        models += [cls.Config for cls in plugins]
        wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [
            (model, _MODE) for model in dict.fromkeys(models)
        ]
        self._references, made = models_json_schema(wanted, ref_template=_REF + "{model}")
        self.definitions: Schema = _plain(made.get("$defs", {}))

    def reference(self, model: type[BaseModel]) -> Schema:
        """Return a reference to a model's schema."""
        return self._references[model, _MODE]

    def of(self, model: type[BaseModel]) -> Schema:
        """Return a model's schema."""
        return self.definitions[self.reference(model)["$ref"].removeprefix(_REF)]

    def plugin(self, plugin: type[Component], keys: Schema, sweeps: bool = False) -> Schema:
        """Return the schema of an entry that uses ``plugin`` and may hold ``keys`` besides."""
        parameters = self.of(plugin.Config).get("properties", {})
        if sweeps:
            parameters = {
                name: self._swept(plugin, name, schema) for name, schema in parameters.items()
            }
        return {
            "description": plugin.summary(),
            "properties": {"use": {"const": plugin.name}, **keys, **parameters},
            "additionalProperties": False,
        }

    def _swept(self, plugin: type[Component], name: str, schema: Schema) -> Schema:
        """Return the schema of a defence's parameter that also takes a list or a range."""
        annotation = plugin.Config.model_fields[name].annotation
        if admits_list(annotation):
            return schema
        ranged = issubclass(plugin, Defense) and plugin.strength and takes_number(annotation)
        return _or_list(schema, [self.reference(StrengthRange)] if ranged else [])


def _labelled(form: Schema, section: str, entry: Schema) -> Schema:
    """Return the schema of a section: entries by label."""
    return {
        "type": "object",
        "propertyNames": form["properties"][section].get("propertyNames", {}),
        "additionalProperties": entry,
    }


def _choice(by_name: Mapping[str, Schema]) -> Schema:
    """Return the schema of an entry whose ``use`` decides what else it may hold."""
    return {
        "type": "object",
        "properties": {"use": {"enum": list(by_name)}},
        "allOf": [
            {"if": {"properties": {"use": {"const": name}}, "required": ["use"]}, "then": schema}
            for name, schema in by_name.items()
        ],
    }


def _systems(models: _Models) -> Schema:
    keys = {
        "dataset": {"type": "string", "description": "label of a data set above"},
        "language_cells": models.reference(LanguageCells),
    }
    assert keys.keys() < SystemEntry.model_fields.keys()
    federated = [(name, cls) for name, cls in SYSTEMS if cls.kind != "anchor"]
    return _choice({name: models.plugin(cls, keys) for name, cls in federated})


def _anchors(form: Schema, models: _Models) -> Schema:
    """Anchors: all, none, or entries whose label names the plug-in where ``use`` does not."""
    known = {name: models.plugin(cls, {}) for name, cls in SYSTEMS if cls.kind == "anchor"}
    named = {
        name: {
            "type": ["object", "null"],
            "if": {"type": "object", "required": ["use"]},
            "then": _choice(known),
            "else": schema,
        }
        for name, schema in known.items()
    }
    entries = {**_labelled(form, "anchors", _choice(known)), "properties": named}
    return {"description": "references; true means all", "anyOf": [{"type": "boolean"}, entries]}


def _attacks(models: _Models) -> dict[str, Schema]:
    return {name: models.plugin(cls, {}) for name, cls in ATTACKS}


def _defenses(models: _Models) -> Schema:
    """Defences: one plug-in, several in a list, or several under ``parts`` with restrictions."""
    limits = {
        "under": {**_TEXTS, "description": "poisoning attacks under which it runs, or none"},
        "systems": {**_TEXTS, "description": "labels of the systems it runs on"},
        "decompose": {
            "type": "boolean",
            "default": True,
            "description": "also run it without its noise and clip, where nobody attacks, to tell "
            "what its price is made of",
        },
    }
    assert {"parts", *limits} == DefenseEntry.model_fields.keys()
    alone = {name: models.plugin(cls, limits, sweeps=True) for name, cls in DEFENSES}
    part = _choice({name: models.plugin(cls, {}, sweeps=True) for name, cls in DEFENSES})
    parts = {"type": "array", "minItems": 1, "items": part}
    several = {"properties": {"parts": parts, **limits}, "additionalProperties": False}
    return {
        "if": {"type": "array"},
        "then": parts,
        "else": {
            "type": "object",
            "if": {"required": ["parts"]},
            "then": several,
            "else": _choice(alone),
        },
    }


def _complete(form: Schema) -> Schema:
    """What must be there in a file that extends no other."""
    # `anchors` has a default in a file, unlike in the resolved model.
    top = [name for name in form["required"] if name != "anchors"]
    use: Schema = {"additionalProperties": {"required": ["use"]}}
    alone = {"if": {"type": "object"}, "then": {"anyOf": [_needs("use"), _needs("parts")]}}
    return {
        "required": top,
        "properties": {
            "systems": {"additionalProperties": {"required": ["use", "dataset"]}},
            "attacks": use,
            "defenses": {"additionalProperties": alone},
        },
    }


def _needs(key: str) -> Schema:
    return {"required": [key]}


def _or_list(schema: Schema, others: list[Schema]) -> Schema:
    """Return a schema that also takes a list of values, or one of ``others``: a sweep."""
    about = {key: schema[key] for key in ("description", "default") if key in schema}
    inner = {key: value for key, value in schema.items() if key not in about}
    return {**about, "anyOf": [inner, {"type": "array", "minItems": 1, "items": inner}, *others]}


def _plain(schema: Any) -> Any:
    """Return a schema in draft 7's words, without generated titles."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: _plain(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
        and not (key == "description" and value == Params.__doc__)
    }
    if "prefixItems" in kept:
        kept["items"] = kept.pop("prefixItems")
    return kept


def _used(schema: Schema, definitions: Schema) -> Schema:
    """Return the definitions that a schema refers to, directly or through others."""
    found: Schema = {}
    open_names = list(_references(schema))
    while open_names:
        name = open_names.pop()
        if name not in found:
            found[name] = definitions[name]
            open_names += _references(definitions[name])
    return dict(sorted(found.items()))


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield reference.removeprefix(_REF)
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)
