"""YAML 1.2 files read into nodes that know file, line and column, and that can't hurt the reader.

No Python object is ever constructed from a tag: the parser's events are composed by us.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError

from harness.core.errors import ScenarioError
from harness.reading.compose import Composer, Node
from harness.reading.problems import InvalidScenario, Mark, Problem

MAX_BYTES = 1_000_000


class Document(NamedTuple):
    """One document.

    Attributes:
        root: its value.
        problems: what was skipped over in it, such as duplicate keys.
        folder: absolute folder at which a scenario's relative paths start.
        written: absolute path to its written form, of the paths that were relative.
    """

    root: Node
    problems: tuple[Problem, ...]
    folder: str = ""
    written: Mapping[str, str] = MappingProxyType({})


def read_yaml(path: Path, what: str = "scenario") -> Document:
    """Read a file.

    Args:
        path: the file.
        what: what the file is, for messages.

    Raises:
        ScenarioError: missing, not UTF-8, too large, empty, or not parseable.
    """
    name = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ScenarioError(f"{name}: {error.strerror or error}") from error
    except ValueError as error:
        raise ScenarioError(f"{name!r}: {error}") from error
    if len(data) > MAX_BYTES:
        raise ScenarioError(f"{name}: {len(data)} bytes; a {what} has at most {MAX_BYTES}")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ScenarioError(f"{name}: the file is UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        mark = Mark(name, data.count(b"\n", 0, error.start) + 1)
        raise _unreadable(mark, f"byte {error.start} is not UTF-8") from error
    return parse_yaml(text, name, what)


def parse_yaml(text: str, name: str, what: str = "scenario") -> Document:
    """Compose one document.

    Args:
        text: YAML 1.2.
        name: shown in messages.
        what: what the document is, for messages.

    Raises:
        ScenarioError: empty, several documents, or not parseable.
    """
    composer = Composer(name, what)
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            composer.take(event)
    except MarkedYAMLError as error:
        mark = composer.mark(error.problem_mark or error.context_mark)
        raise _unreadable(mark, _explain(error, text, mark)) from error
    except ReaderError as error:
        before = text[: error.position]
        mark = Mark(name, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        raise _unreadable(mark, "a control character is not allowed") from error
    if composer.root is None:
        raise ScenarioError(f"{name}: the {what} is empty")
    return Document(composer.root.copied(), tuple(composer.problems))


def _unreadable(mark: Mark, message: str) -> InvalidScenario:
    return InvalidScenario([Problem(mark, "", message)])


def _explain(error: MarkedYAMLError, text: str, mark: Mark) -> str:
    lines = text.splitlines()
    line = lines[mark.line - 1] if mark.line <= len(lines) else ""
    if "\t" in line[: mark.column]:
        return "a tab is not allowed for indentation; use spaces"
    return " ".join(part for part in (error.context, error.problem) if part)
