"""Relative paths in a scenario: they start at the folder of the file that they are written in.

``extends`` follows the same rule. A path given by ``-S`` is typed at a terminal and starts at the
current directory. Paths become absolute when a scenario is read, and what reads files uses them so.

Who a scenario is (its hash, its cells, its trainings) does not depend on where its folder lies:
there a path counts relative to the scenario's folder. So it is kept in a run folder, too, and the
copy says by ``paths_from`` where its paths start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.asset_table import ASSETS
from harness.core.errors import ScenarioError
from harness.reading.compose import Node

PATHS_FROM = "paths_from"
"""Key of a kept scenario: the folder at which its relative paths start, from that of its file."""
OVERRIDE = "-S "
"""How the name of the place begins where an override's value stands."""
_DATA_KEYS = ("path", "reviews", "metadata")
_MODEL_KEYS = ("llm", "encoder")
_MARKED = ("./", "../", "~")


def make_absolute(root: Node, folder: str, base: str) -> dict[str, str]:
    """Make a scenario's relative paths absolute, in place; return how each is written.

    Paths are what data sets give as ``path`` (or as an option of that kind), what systems and
    anchors give as a model, if a file or folder of that name is there and no asset is called so,
    and every parameter of them that begins with ``./``, ``../`` or ``~``.

    Args:
        root: one file, or all layers once each file's own paths are absolute.
        folder: where its relative paths start; those of overrides start at the current directory.
        base: absolute folder of the scenario, for the written form.

    Returns:
        Absolute path to its form that holds wherever ``base`` lies: relative to it, or with ``~``.

    Raises:
        ScenarioError: the folder that a path starts at has a name that is not UTF-8.
    """
    written: dict[str, str] = {}
    for node, always in [*_data_paths(root), *_model_paths(root)]:
        text = node.value
        if not isinstance(text, str) or not text or "\0" in text or os.path.isabs(text):
            continue
        absolute = _absolute(text, "" if node.mark.file.startswith(OVERRIDE) else folder)
        if not always and not text.startswith(_MARKED):
            if text in ASSETS or not _exists(absolute):
                continue
        if any(0xD800 <= ord(character) <= 0xDFFF for character in absolute):
            raise ScenarioError(
                f"{node.mark.file}:{node.mark.line}: {text!r} starts at a folder whose name is not "
                "UTF-8, which results can't hold; rename the folder, or move the scenario"
            )
        node.value = absolute
        written[absolute] = text if text.startswith("~") else _from(base, absolute, always)
    return written


def _from(base: str, absolute: str, plain: bool) -> str:
    """Return a path relative to ``base``; a model's is marked as one, as names are no paths."""
    relative = os.path.relpath(absolute, base)
    return relative if plain or relative.startswith("..") else f"./{relative}"


def as_written(value: Any, written: Mapping[str, str]) -> Any:
    """Return a document in which every absolute path stands as it is written."""
    if isinstance(value, dict):
        return {key: as_written(child, written) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [as_written(child, written) for child in value]
    return written.get(value, value) if isinstance(value, str) else value


def paths_from(base: str, folder: Path) -> str:
    """Return what a scenario kept in ``folder`` says as ``paths_from``.

    A run beside its scenario or below it is moved with it, so the way there is relative; else it
    is absolute.

    Args:
        base: absolute folder of the scenario.
        folder: the run folder.
    """
    run = os.path.abspath(folder)
    study = os.path.dirname(base)
    near = study != os.path.dirname(study) and os.path.commonpath([study, run]) == study
    return os.path.relpath(base, run) if near else base


def _absolute(text: str, folder: str) -> str:
    return os.path.abspath(os.path.join(folder, os.path.expanduser(text)))


def _exists(path: str) -> bool:
    try:
        return os.path.exists(path)
    except (OSError, ValueError):
        return False


def _below(root: Node, *names: str) -> Iterator[Node]:
    for name in names:
        section = root.value.get(name) if isinstance(root.value, dict) else None
        if section is not None:
            yield from section.children()


def _data_paths(node: Node) -> Iterator[tuple[Node, bool]]:
    stack = list(_below(node, "datasets"))
    while stack:
        current = stack.pop()
        if isinstance(current.value, dict):
            yield from ((current.value[k], True) for k in _DATA_KEYS if k in current.value)
        stack.extend(current.children())


def _model_paths(root: Node) -> Iterator[tuple[Node, bool]]:
    for entry in _below(root, "systems", "anchors"):
        for key, child in entry.value.items() if isinstance(entry.value, dict) else ():
            marked = isinstance(child.value, str) and child.value.startswith(_MARKED)
            if key in _MODEL_KEYS or marked:
                yield child, False
