"""The part of JSON schema (draft 7) that the scenario's schema uses, checked keyword by keyword."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}
ANNOTATIONS = {"description", "default", "definitions", "$schema", "title"}
KEYWORDS = {
    "type", "enum", "const", "properties", "additionalProperties", "required", "items", "anyOf",
    "allOf", "if", "then", "else", "$ref", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "minItems", "maxItems", "minLength", "maxLength", "pattern",
    "propertyNames",
}  # fmt: skip


def violations(value: Any, schema: Any, root: dict[str, Any], path: str = "") -> list[str]:
    """Return where ``value`` breaks the schema; a keyword that is not known here is an error."""
    if isinstance(schema, bool):
        return [] if schema else [f"{path}: not allowed"]
    unknown = schema.keys() - KEYWORDS - ANNOTATIONS
    assert not unknown, f"keywords that this check does not know: {unknown}"
    return list(_violations(value, schema, root, path))


def _violations(value: Any, s: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    def below(part: Any, schema: Any, step: str) -> list[str]:
        return violations(part, schema, root, f"{path}.{step}")

    def same(schema: Any) -> list[str]:
        return violations(value, schema, root, path)

    if "$ref" in s:
        yield from same(root["definitions"][s["$ref"].removeprefix("#/definitions/")])
    if "type" in s and not _has_type(value, s["type"]):
        yield f"{path}: {value!r} is not {s['type']}"
        return
    if "enum" in s and value not in s["enum"]:
        yield f"{path}: {value!r} is none of {s['enum']}"
    if "const" in s and value != s["const"]:
        yield f"{path}: {value!r} is not {s['const']!r}"
    for schema in s.get("allOf", ()):
        yield from same(schema)
    if "anyOf" in s and all(same(schema) for schema in s["anyOf"]):
        yield f"{path}: {value!r} fits no alternative"
    if "if" in s:
        yield from same(s.get("else" if same(s["if"]) else "then", True))
    if isinstance(value, dict):
        for name in s.get("required", ()):
            if name not in value:
                yield f"{path}: {name} is missing"
        for name, part in value.items():
            yield from below(name, s.get("propertyNames", True), name)
            known = s.get("properties", {})
            rule = known[name] if name in known else s.get("additionalProperties", True)
            yield from below(part, rule, name)
    elif isinstance(value, list):
        items = s.get("items", True)
        for index, part in enumerate(value):
            rule = items[index] if isinstance(items, list) else items
            yield from below(part, rule, str(index))
        if not s.get("minItems", 0) <= len(value) <= s.get("maxItems", len(value)):
            yield f"{path}: {len(value)} entries"
    elif isinstance(value, str):
        if not s.get("minLength", 0) <= len(value) <= s.get("maxLength", len(value)):
            yield f"{path}: {len(value)} characters"
        if "pattern" in s and not re.search(s["pattern"], value):
            yield f"{path}: {value!r} does not match"
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if value < s.get("minimum", value) or value > s.get("maximum", value):
            yield f"{path}: {value} is out of range"
        if "exclusiveMinimum" in s and value <= s["exclusiveMinimum"]:
            yield f"{path}: {value} is too small"
        if "exclusiveMaximum" in s and value >= s["exclusiveMaximum"]:
            yield f"{path}: {value} is too large"


def _has_type(value: Any, names: str | list[str]) -> bool:
    for name in [names] if isinstance(names, str) else names:
        is_number = name in ("integer", "number")
        if isinstance(value, TYPES[name]) and not (is_number and isinstance(value, bool)):
            return True
    return False
