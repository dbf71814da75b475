"""A log as read from a file, before anything is checked, sorted or coded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class RowPolicy:
    """What to do with rows that are wrong or doubled.

    Attributes:
        on_bad: raise, or leave them out and count them.
        duplicates: keep events with the same user, item and time, or keep the first only.
    """

    on_bad: Literal["error", "drop"] = "error"
    duplicates: Literal["keep", "merge"] = "keep"


@dataclass(frozen=True)
class Coded:
    """A text column as positions in a list of its distinct values, by first appearance."""

    codes: Int[np.ndarray, " row"]
    values: list[str]


@dataclass(frozen=True)
class EventTable:
    """The rows of a log as read.

    Attributes:
        source: file name, for messages.
        user: user ids.
        item: item ids.
        line: line of each row in the file, counted from 1.
        timestamp: NaN where unreadable; ``None`` without such a column.
        rating: likewise.
        order: likewise; a position within the user's history.
        malformed: lines that have another number of fields than the header.
        notes: counts for the report.
    """

    source: str
    user: Coded
    item: Coded
    line: Int[np.ndarray, " row"]
    timestamp: Float[np.ndarray, " row"] | None = None
    rating: Float[np.ndarray, " row"] | None = None
    order: Float[np.ndarray, " row"] | None = None
    malformed: tuple[int, ...] = ()
    notes: dict[str, int] | None = None
