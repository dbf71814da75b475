"""A scenario's layers: the files it extends, the file itself, the command line's overrides.

Files are merged deeply: mappings key by key, anything else is replaced. An override replaces what
stands at its path. Relative paths start where :mod:`harness.reading.paths` says.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from harness.core.errors import shown_path
from harness.reading.compose import Node
from harness.reading.paths import OVERRIDE, PATHS_FROM, make_absolute
from harness.reading.problems import InvalidScenario, Mark, Problem, suggest
from harness.reading.source import Document, parse_yaml, read_yaml

MAX_CHAIN = 20


def read_layers(path: Path, overrides: Sequence[str] = ()) -> Document:
    """Read a file, what it extends, and lay the overrides over it.

    Args:
        path: the scenario.
        overrides: ``path.to.key=VALUE``, the value in YAML.

    Raises:
        ScenarioError: a file that can't be read, a cycle of ``extends``, a malformed override.
    """
    document = _read_chain(path, (), None)
    problems = list(document.problems)
    for override in overrides:
        problems += _apply(document.root, override)
    typed = make_absolute(document.root, "", document.folder)
    return Document(document.root, tuple(problems), document.folder, {**document.written, **typed})


def _start(path: Path, root: Node) -> str:
    """Return the absolute folder at which a file's relative paths start."""
    given = root.value.get(PATHS_FROM) if isinstance(root.value, dict) else None
    below = "" if given is None else given.value
    if given is not None and (not isinstance(below, str) or "\0" in below):
        raise InvalidScenario([Problem(given.mark, PATHS_FROM, "must be the path of a folder")])
    return os.path.abspath(path.parent / str(below))


def _read_chain(path: Path, chain: tuple[Path, ...], base: str | None) -> Document:
    document = read_yaml(path)
    root = document.root
    if not isinstance(root.value, dict):
        raise InvalidScenario([Problem(root.mark, "", "a scenario is a mapping of keys to values")])
    start = _start(path, root)
    base = start if base is None else base
    written = make_absolute(root, start, base)
    root.value.pop(PATHS_FROM, None)
    parent = root.value.pop("extends", None)
    if parent is None:
        return Document(root, document.problems, base, written)
    chain = (*chain, path.resolve())
    if not isinstance(parent.value, str):
        raise _wrong(parent, "must be the path of a scenario file")
    target = path.parent / parent.value
    try:
        there, absolute = target.is_file(), target.resolve()
    except (OSError, ValueError) as error:
        # A name with a null character, or longer than any file's.
        reason = getattr(error, "strerror", None) or str(error)
        raise _wrong(parent, f"{shown_path(target)}: {reason}") from error
    if absolute in chain:
        shown = " → ".join(step.name for step in (*chain, absolute))
        raise _wrong(parent, f"cycle: {shown}")
    if len(chain) >= MAX_CHAIN:
        raise _wrong(parent, f"more than {MAX_CHAIN} files extend each other")
    if not there:
        raise _wrong(parent, f"no such file: {shown_path(target)}")
    below = _read_chain(target, chain, base)
    _merge(below.root, root)
    problems = below.problems + document.problems
    return Document(below.root, problems, base, {**below.written, **written})


def _wrong(node: Node, message: str) -> InvalidScenario:
    return InvalidScenario([Problem(node.mark, "extends", message)])


def _merge(base: Node, over: Node) -> None:
    """Lay ``over`` on ``base``, in place; positions are those of the file a value came from."""
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        raise TypeError("only mappings are merged")
    base.mark = over.mark
    for key, child in over.value.items():
        below = base.value.get(key)
        if below is not None and isinstance(below.value, dict) and isinstance(child.value, dict):
            _merge(below, child)
        else:
            base.value[key] = child
        base.keys[key] = over.keys[key]


def _apply(root: Node, override: str) -> list[Problem]:
    """Replace what stands at the override's path, in place; return what prevented it."""
    target, equals, text = override.partition("=")
    mark = Mark(f"{OVERRIDE}{override}")
    steps = [step.strip() for step in target.split(".")]
    if not equals or not all(steps):
        return [Problem(mark, "", "an override is written path.to.key=VALUE")]
    try:
        value, problems, *_ = parse_yaml(text or "null", mark.file)
    except InvalidScenario as error:
        return list(error.problems)
    node = root
    for step in steps[:-1]:
        below = _descend(node, step, mark)
        if below is None:
            return [Problem(mark, target, _nowhere(node, step))]
        node = below
    return [*problems, *_put(node, steps[-1], value, mark, target)]


def _descend(node: Node, step: str, mark: Mark) -> Node | None:
    if isinstance(node.value, list):
        return node.value[int(step)] if _index(node.value, step) else None
    if not isinstance(node.value, dict):
        return None
    if step not in node.value:
        node.value[step], node.keys[step] = Node(mark, {}), mark
    return node.value[step]


def _put(node: Node, step: str, value: Node, mark: Mark, target: str) -> list[Problem]:
    if isinstance(node.value, dict):
        node.value[step], node.keys[step] = value, mark
    elif isinstance(node.value, list) and _index(node.value, step):
        node.value[int(step)] = value
    else:
        return [Problem(mark, target, _nowhere(node, step))]
    return []


def _index(values: list[Node], step: str) -> bool:
    # Python refuses to convert integers of thousands of digits.
    return step.isascii() and step.isdigit() and len(step) < 10 and int(step) < len(values)


def _nowhere(node: Node, step: str) -> str:
    if isinstance(node.value, list):
        return f"no entry {step!r}{suggest(step, map(str, range(len(node.value))))}"
    return f"{step!r} lies below a value that is not a mapping"
