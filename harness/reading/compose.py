"""Nodes composed from a YAML parser's events, with depth, size, cycles, keys and tags checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.reading.problems import InvalidScenario, Mark, Problem, Step, show_path
from harness.reading.scalar import Scalar, plain_scalar

MAX_DEPTH = 40
MAX_NODES = 20_000


@dataclass
class Node:
    """A value of the document.

    Attributes:
        mark: where it starts.
        value: a scalar, a list of nodes, or a dictionary of nodes by key.
        keys: for a mapping, where each key stands.
        size: number of nodes below and including this one, aliases expanded.
        depth: levels below and including this one, aliases expanded.
    """

    mark: Mark
    value: Scalar | list[Node] | dict[str, Node]
    keys: dict[str, Mark] = field(default_factory=dict[str, Mark])
    size: int = 1
    depth: int = 1

    def plain(self) -> Any:
        """Return the value as dictionaries, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def copied(self) -> Node:
        """Return a tree in which no node is shared (aliases are expanded)."""
        value = self.value
        if isinstance(value, dict):
            value = {key: child.copied() for key, child in value.items()}
        elif isinstance(value, list):
            value = [child.copied() for child in value]
        return Node(self.mark, value, dict(self.keys), self.size, self.depth)

    def children(self) -> Iterable[Node]:
        """Return the nodes directly below."""
        if isinstance(self.value, dict):
            return self.value.values()
        return self.value if isinstance(self.value, list) else ()

    def locate(self, path: Sequence[Step], at_key: bool = False) -> tuple[Mark, tuple[Step, ...]]:
        """Return where ``path`` stands, and the part of it that is written in the document.

        Steps that the document does not have are skipped, so that a path into a normalised form
        (``params`` gathered, one part made a list) still finds its place.

        Args:
            path: keys and indices from here.
            at_key: point at the last key instead of at its value.
        """
        node, mark, written = self, self.mark, list[Step]()
        for step in path:
            if isinstance(node.value, dict) and isinstance(step, str) and step in node.value:
                mark = node.keys[step]
                node = node.value[step]
            elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                mark = node.mark
            else:
                continue
            written.append(step)
        return (mark if at_key else node.mark), tuple(written)


@dataclass
class _Open:
    node: Node
    anchor: str | None
    key: str | None = None
    key_mark: Mark | None = None


class Composer:
    """Builds nodes from parser events with a stack of its own, for no input may exhaust Python's.

    Attributes:
        root: the finished document, None if there is none.
        problems: what can be skipped over, so that the rest of the file is still checked.
    """

    def __init__(self, name: str, what: str = "scenario") -> None:
        self.name = name
        self.what = what
        self.problems: list[Problem] = []
        self.root: Node | None = None
        self.stack: list[_Open] = []
        self.anchors: dict[str, Node] = {}
        self.documents = 0

    def mark(self, at: Any) -> Mark:
        """Return our form of one of the parser's marks."""
        if at is None:
            return Mark(self.name)
        return Mark(self.name, at.line + 1, at.column + 1)

    def _path(self) -> str:
        return show_path(list(self._steps()))

    def _fatal(self, mark: Mark, message: str) -> InvalidScenario:
        return InvalidScenario([*self.problems, Problem(mark, self._path(), message)])

    def _note(self, mark: Mark, message: str) -> None:
        self.problems.append(Problem(mark, self._path(), message))

    def _steps(self) -> Iterator[Step]:
        for level in self.stack:
            if isinstance(level.node.value, list):
                yield len(level.node.value)
            elif level.key is not None:
                yield level.key

    def take(self, event: Any) -> None:
        """Add the next event."""
        kind = type(event).__name__
        if kind == "DocumentStartEvent":
            self._start_document(event)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            self._open(event, {} if kind == "MappingStartEvent" else [])
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            self._close()
        elif kind == "ScalarEvent":
            mark = self.mark(event.start_mark)
            self._refuse_tag(event, mark)
            if self._expects_key():
                self._set_key(event.value, mark)
                return
            node = Node(mark, self._scalar(event, mark))
            if event.anchor:
                self.anchors[event.anchor] = node
            self._place(node)
        elif kind == "AliasEvent":
            self._alias(event)

    def _start_document(self, event: Any) -> None:
        self.documents += 1
        mark = self.mark(event.start_mark)
        if self.documents > 1:
            raise self._fatal(mark, f"a second document; a {self.what} is one")
        if event.version is not None and tuple(event.version) != (1, 2):
            raise self._fatal(mark, f"a {self.what} is YAML 1.2")

    def _expects_key(self) -> bool:
        if not self.stack:
            return False
        top = self.stack[-1]
        return isinstance(top.node.value, dict) and top.key is None

    def _set_key(self, key: str, mark: Mark) -> None:
        top = self.stack[-1]
        first = top.node.keys.get(key)
        if first is not None:
            at = f"{first.line}:{first.column}"
            self._note(mark, f"duplicate key {key!r}; it stands already at {at}")
        if not key or not _encodable(key):
            self._note(mark, "an empty or unreadable key")
        top.key, top.key_mark = key, mark

    def _open(self, event: Any, empty: list[Node] | dict[str, Node]) -> None:
        mark = self.mark(event.start_mark)
        self._refuse_tag(event, mark)
        if self._expects_key():
            raise self._fatal(mark, "a key must be text")
        if len(self.stack) >= MAX_DEPTH:
            raise self._fatal(mark, f"nested deeper than {MAX_DEPTH} levels")
        node = Node(mark, empty)
        if event.anchor:
            self.anchors[event.anchor] = node
        self.stack.append(_Open(node, event.anchor))

    def _close(self) -> None:
        node = self.stack.pop().node
        node.size = 1 + sum(child.size for child in node.children())
        node.depth = 1 + max((child.depth for child in node.children()), default=0)
        self._place(node)

    def _alias(self, event: Any) -> None:
        mark = self.mark(event.start_mark)
        if any(level.anchor == event.anchor for level in self.stack):
            raise self._fatal(mark, f"cycle: *{event.anchor} contains itself")
        node = self.anchors.get(event.anchor)
        if node is None:
            raise self._fatal(mark, f"*{event.anchor} refers to no anchor")
        if self._expects_key():
            raise self._fatal(mark, "a key must be text")
        self._place(node)

    def _place(self, node: Node) -> None:
        if node.size > MAX_NODES or len(self.stack) + node.depth > MAX_DEPTH + 1:
            raise self._fatal(
                node.mark,
                f"more than {MAX_NODES} values or {MAX_DEPTH} levels once aliases are expanded",
            )
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        if isinstance(top.node.value, list):
            top.node.value.append(node)
        elif isinstance(top.node.value, dict) and top.key is not None and top.key_mark is not None:
            top.node.value[top.key] = node
            top.node.keys[top.key] = top.key_mark
            top.key = None

    def _refuse_tag(self, event: Any, mark: Mark) -> None:
        if event.tag is not None and event.tag != "!":
            self._note(mark, f"tags are not allowed ({event.tag})")

    def _scalar(self, event: Any, mark: Mark) -> Scalar:
        text: str = event.value
        if not _encodable(text):
            self._note(mark, "text with half a surrogate pair")
            return None
        if event.style is not None or event.tag == "!":
            return text
        try:
            return plain_scalar(text)
        except ValueError as error:
            self._note(mark, str(error))
            return None


def _encodable(text: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)
