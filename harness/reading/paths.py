"""Relative paths in a scenario: they start at the folder of the file that they are written in.

``extends`` follows the same rule. A path given by ``-S`` is typed at a terminal and starts at the
current directory. Paths become absolute when a scenario is read, so that the scenario kept in a run
folder means the same from everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from harness.asset_table import ASSETS
from harness.core.errors import ScenarioError
from harness.reading.compose import Node

OVERRIDE = "-S "
"""How the name of the place begins where an override's value stands."""
_DATA_KEYS = ("path", "reviews", "metadata")
_MODEL_KEYS = ("llm", "encoder")
_MARKED = ("./", "../", "~")


def make_absolute(root: Node) -> None:
    """Make a scenario's relative paths absolute, in place.

    Paths are what data sets give as ``path`` (or as an option of that kind), what systems and
    anchors give as a model, if a file or folder of that name is there and no asset is called so,
    and every parameter of them that begins with ``./``, ``../`` or ``~``.

    Raises:
        ScenarioError: the folder that a path starts at has a name that is not UTF-8.
    """
    for node, always in [*_data_paths(root), *_model_paths(root)]:
        text = node.value
        if not isinstance(text, str) or not text or "\0" in text or os.path.isabs(text):
            continue
        absolute = _absolute(text, node.mark.file)
        if not always and not text.startswith(_MARKED):
            if text in ASSETS or not _exists(absolute):
                continue
        if any(0xD800 <= ord(character) <= 0xDFFF for character in absolute):
            raise ScenarioError(
                f"{node.mark.file}:{node.mark.line}: {text!r} starts at a folder whose name is not "
                "UTF-8, which results can't hold; rename the folder, or move the scenario"
            )
        node.value = absolute


def _absolute(text: str, file: str) -> str:
    folder = "" if file.startswith(OVERRIDE) else os.path.dirname(file)
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
