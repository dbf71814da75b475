"""A log as read from a file, before anything is checked, sorted or coded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from harness.core.errors import DataError


@dataclass(frozen=True)
class RowPolicy:
    """What to do with rows that are wrong or doubled.

    Attributes:
        on_bad: raise, or leave them out and count them.
        duplicates: keep events with the same user, item and time, or keep the first only.
        encoding: of the text files; None reads UTF-8, or what the format's older files are in.
    """

    on_bad: Literal["error", "drop"] = "error"
    duplicates: Literal["keep", "merge"] = "keep"
    encoding: str | None = None


@dataclass(frozen=True)
class Coded:
    """A text column as positions in a list of its distinct values, by first appearance."""

    codes: Int[np.ndarray, " row"]
    values: list[str]


@dataclass(frozen=True)
class EventTable:
    """The rows of a log as read.

    Attributes:
        source: path, for messages.
        user: user ids.
        item: item ids.
        line: line of each row in the file, counted from 1.
        timestamp: NaN where unreadable; ``None`` without such a column.
        rating: likewise.
        order: likewise; a position within the user's history.
        malformed: lines that are no row.
        malformed_words: what is wrong with those.
        notes: counts for the report, and remarks under names that begin with ``remark_``.
        parts: where the rows of several files were put together, each file's path and the number
            of lines before it; lines then count on from file to file.
    """

    source: str
    user: Coded
    item: Coded
    line: Int[np.ndarray, " row"]
    timestamp: Float[np.ndarray, " row"] | None = None
    rating: Float[np.ndarray, " row"] | None = None
    order: Float[np.ndarray, " row"] | None = None
    malformed: tuple[int, ...] = ()
    malformed_words: str = "with another number of fields"
    notes: dict[str, int | str] | None = None
    parts: tuple[tuple[str, int], ...] = ()

    def place(self, line: int) -> str:
        """Return a line's number, with its file where there are several."""
        for path, before in reversed(self.parts):
            if line > before:
                return f"{line - before} of {path}"
        return str(line)


def joined_events(tables: Sequence[EventTable]) -> EventTable:
    """Return the rows of several files of one log, one after the other.

    Lines are counted through all files, as if they had been joined; ``place`` tells them apart.

    Raises:
        DataError: one file has times, ratings or an order and another has not.
    """
    if len(tables) == 1:
        return tables[0]
    starts = np.cumsum([0, *(int(max([*t.line[-1:], *t.malformed[-1:]])) for t in tables)])[:-1]
    lines = [table.line + start for table, start in zip(tables, starts, strict=True)]
    malformed = [m + int(s) for t, s in zip(tables, starts, strict=True) for m in t.malformed]

    def column(name: str) -> np.ndarray | None:
        parts: list[np.ndarray | None] = [getattr(table, name) for table in tables]
        there = [part for part in parts if part is not None]
        if there and len(there) < len(parts):
            lacking = tables[[part is None for part in parts].index(True)].source
            raise DataError(f"{lacking}: no column for {name}, which other parts of the log have")
        return np.concatenate(there) if there else None

    return EventTable(
        source=tables[0].source,
        user=joined_codes([table.user for table in tables]),
        item=joined_codes([table.item for table in tables]),
        line=np.concatenate(lines),
        timestamp=column("timestamp"),
        rating=column("rating"),
        order=column("order"),
        malformed=tuple(malformed),
        notes={"log_files_joined": len(tables), **(tables[0].notes or {})},
        parts=tuple((t.source, int(start)) for t, start in zip(tables, starts, strict=True)),
    )


def joined_codes(columns: Sequence[Coded]) -> Coded:
    """Return text columns one after the other under one list of values, by first appearance."""
    place: dict[str, int] = {}
    codes: list[np.ndarray] = []
    for column in columns:
        moved = [place.setdefault(value, len(place)) for value in column.values]
        codes.append(np.array(moved, dtype=np.int64)[column.codes])
    return Coded(np.concatenate(codes), list(place))
