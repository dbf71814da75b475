"""Pydantic's complaints put in a user's words, with near matches, and placed in the document."""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from harness.reading.compose import Node
from harness.reading.problems import Mark, Problem, Step, show_path, suggest
from harness.reading.scalar import plain_scalar

MUST_BE = "must be "

_WORDS = {
    "a valid integer": "an integer",
    "a valid number": "a number",
    "a finite number": "a finite number",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "a valid array": "a list",
    "a valid list": "a list",
    "a valid tuple": "a list",
    "a valid dictionary": "a mapping",
    "an object": "a mapping",
}


class Finding(NamedTuple):
    """One thing that is wrong, before it is placed.

    Attributes:
        path: where, in the normalised scenario.
        message: what is wrong and what is allowed.
        at_key: whether the key is wrong and not its value.
    """

    path: tuple[Step, ...]
    message: str
    at_key: bool = False


def explain(
    error: ValidationError,
    model: type[BaseModel],
    prefix: Sequence[Step] = (),
    also: Iterable[str] = (),
) -> list[Finding]:
    """Return the findings behind a validation error.

    Args:
        error: what pydantic raised.
        model: the model it raised it for.
        prefix: path of the model in the scenario.
        also: keys allowed at the top of the model besides its fields.
    """
    entries = error.errors()
    # A list whose only elements are wrong is also "too short"; that says nothing new.
    above = {entry["loc"][:-1] for entry in entries}
    told = [e for e in entries if e["type"] != "too_short" or e["loc"] not in above]
    return [_finding(dict(entry), model, tuple(prefix), tuple(also)) for entry in told]


def _finding(
    entry: dict[str, Any], model: type[BaseModel], prefix: tuple[Step, ...], also: tuple[str, ...]
) -> Finding:
    where: tuple[Step, ...] = entry["loc"]
    kind: str = entry["type"]
    if kind == "missing":
        return Finding((*prefix, *where[:-1]), f"required key {where[-1]!r} is missing")
    if kind == "extra_forbidden":
        allowed = _fields(model, where[:-1]) | (set(also) if len(where) == 1 else set())
        message = f"unknown key {where[-1]!r}{suggest(where[-1], allowed)}"
        return Finding((*prefix, *where), message, at_key=True)
    at_key = bool(where) and where[-1] == "[key]"
    path = (*prefix, *(where[:-1] if at_key else where))
    return Finding(path, _phrase(kind, entry), at_key)


def _phrase(kind: str, entry: dict[str, Any]) -> str:
    given = entry.get("input")
    if kind == "value_error":
        return str(entry["ctx"]["error"])
    if kind == "too_short":
        return f"needs at least {entry['ctx']['min_length']}"
    if kind == "string_pattern_mismatch" and entry["loc"][-1] == "[key]":
        return f"the label {given!r} may hold letters, digits, spaces and _ + % ( ) - only"
    message = str(entry["msg"])
    if not message.startswith("Input should be "):
        return message[:1].lower() + message[1:]
    expected = message.removeprefix("Input should be ")
    text = f"{MUST_BE}{_WORDS.get(expected, expected)}, not {_show(given)}"
    if isinstance(given, str):
        choices = str(entry.get("ctx", {}).get("expected", ""))
        if kind == "literal_error":
            near = suggest(given, [c.strip("' ") for c in choices.replace(" or ", ",").split(",")])
            return text + near.partition(" (")[0]
        if kind in ("int_type", "float_type", "bool_type") and _resolves(given):
            return f"{text} (remove the quotes)"
    if kind == "string_type" and isinstance(given, (int, float)):
        return f"{text} (quote it)"
    return text


def _resolves(text: str) -> bool:
    try:
        return not isinstance(plain_scalar(text), str)
    except ValueError:
        return True


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    shown = f"the text {value!r}" if isinstance(value, str) else repr(value)
    return shown if len(shown) <= 60 else shown[:60] + "…"


def _fields(model: Any, path: tuple[Step, ...]) -> set[str]:
    """Return the keys allowed at ``path`` below a model, following mappings, lists and unions."""
    for candidate in _models(model):
        if not path:
            return {f.alias or name for name, f in candidate.model_fields.items()}
        for name, info in candidate.model_fields.items():
            if path[0] in (name, info.alias):
                return _fields(info.annotation, path[1:])
    arguments = get_args(model)
    if get_origin(model) is dict and path:
        return _fields(arguments[1], path[1:])
    if get_origin(model) in (list, tuple) and path:
        return _fields(arguments[0], path[1:])
    if get_origin(model) in (Union, types.UnionType, Annotated):
        return set().union(*(_fields(argument, path) for argument in arguments))
    return set()


def _models(annotation: Any) -> list[type[BaseModel]]:
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return [annotation] if is_model else []


def admits_list(annotation: Any) -> bool:
    """Return whether a field with this annotation takes a list (so that a list is no sweep)."""
    origin = get_origin(annotation)
    if annotation is Any or origin in (list, tuple, set, frozenset):
        return True
    if origin in (Union, types.UnionType):
        return any(admits_list(argument) for argument in get_args(annotation))
    return origin is Annotated and admits_list(get_args(annotation)[0])


def place(findings: Iterable[Finding], root: Node) -> list[Problem]:
    """Return the findings with their positions; what is said twice of one place is said once."""
    by_place: dict[tuple[Mark, str], list[str]] = {}
    for finding in findings:
        mark, written = root.locate(finding.path, finding.at_key)
        messages = by_place.setdefault((mark, show_path(written)), [])
        if finding.message not in messages:
            messages.append(finding.message)
    problems: list[Problem] = []
    for (mark, path), messages in by_place.items():
        alternatives = [m.removeprefix(MUST_BE) for m in messages if m.startswith(MUST_BE)]
        if alternatives:
            problems.append(Problem(mark, path, MUST_BE + " or ".join(alternatives)))
        problems += [Problem(mark, path, m) for m in messages if not m.startswith(MUST_BE)]
    return problems


def unexplained(found: list[Problem], known: Sequence[Problem]) -> list[Problem]:
    """Leave out what only follows from a value that could not be read."""
    places = {problem.mark for problem in known}
    return [problem for problem in found if problem.mark not in places]


def newer(raw: dict[str, Any], schema: int) -> Finding | None:
    """Return the finding that a document is of a later schema than the one this version reads."""
    version = raw.get("schema")
    if isinstance(version, int) and not isinstance(version, bool) and version > schema:
        message = f"made for schema {version}; this version reads schema {schema}: upgrade"
        return Finding(("schema",), message)
    return None
