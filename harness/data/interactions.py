"""The one form in which the harness holds a data set: who met which item, in order of time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

Report = Mapping[str, int | float | str]


@dataclass(frozen=True)
class Interactions:
    """Users, items and, per user, the items met, oldest first.

    Positions in ``users`` and ``items`` are the only ids used past this point; the two lists are
    the mapping back to the file's ids. Every item has at least one event and every user too: items
    and users without one are left out and counted in ``report``. Arrays are read-only.

    Attributes:
        name: for reports.
        users: ids as the file has them, by first appearance.
        items: ids as the file has them, in the order of the item file.
        titles: title of each item in Unicode NFC, ``""`` where there is none.
        sequences: item positions of each user, by time; equal times keep the file's order.
        item_text: title with description, brand or categories, for a sentence encoder.
        item_attributes: genres or categories of each item.
        user_attributes: one row per user, in the order of ``users``.
        timestamps: as in the file, beside ``sequences``.
        ratings: as in the file, beside ``sequences``.
        report: what was read, and how much each rule left out.
    """

    name: str
    users: list[str]
    items: list[str]
    titles: list[str]
    sequences: list[Int[np.ndarray, " event"]]
    item_text: list[str] | None = None
    item_attributes: list[tuple[str, ...]] | None = None
    user_attributes: pd.DataFrame | None = None
    timestamps: list[Shaped[np.ndarray, " event"]] | None = None
    ratings: list[Shaped[np.ndarray, " event"]] | None = None
    report: Report = field(default_factory=dict)

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.users)

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return len(self.items)

    @cached_property
    def num_events(self) -> int:
        """Number of events."""
        return int(sum(len(s) for s in self.sequences))

    @cached_property
    def lengths(self) -> Int[np.ndarray, " user"]:
        """Number of events of each user."""
        return np.array([len(s) for s in self.sequences], dtype=np.int64)

    @cached_property
    def sha256(self) -> str:
        """Hash of the content: everything but ``name`` and ``report``."""
        digest = hashlib.sha256()
        attributes = self.user_attributes
        texts: list[object] = [
            self.users,
            self.items,
            self.titles,
            self.item_text,
            self.item_attributes,
            None if attributes is None else [list(attributes.columns), attributes.values.tolist()],
        ]
        for part in texts:
            encoded = json.dumps(part, ensure_ascii=True).encode()
            digest.update(f"{len(encoded)}:".encode() + encoded)
        digest.update(self.lengths.astype("<i8").tobytes())
        for arrays, kind in (
            (self.sequences, "<i8"),
            (self.timestamps, "<f8"),
            (self.ratings, "<f8"),
        ):
            digest.update(b"absent;" if arrays is None else b"present;")
            if arrays:
                digest.update(np.concatenate(arrays).astype(kind).tobytes())
        return digest.hexdigest()

    def noting(self, **counts: int | float | str) -> Interactions:
        """Return the same data with ``counts`` added to the report."""
        return replace(self, report={**self.report, **counts})

    def user_of_event(self) -> Int[np.ndarray, " event"]:
        """Return the user of each event, in the order of the joined sequences."""
        return np.repeat(np.arange(self.num_users, dtype=np.int64), self.lengths)

    def joined(self) -> Int[np.ndarray, " event"]:
        """Return all sequences end to end."""
        return np.concatenate(self.sequences) if self.sequences else np.zeros(0, dtype=np.int64)

    def keeping(self, events: Bool[np.ndarray, " event"]) -> Interactions:
        """Return the data with the chosen events only.

        Users and items left without an event are left out, the others renumbered in order.

        Args:
            events: over the joined sequences.
        """
        user, item = self.user_of_event()[events], self.joined()[events]
        counts = np.bincount(user, minlength=self.num_users)
        users = np.flatnonzero(counts)
        items = np.flatnonzero(np.bincount(item, minlength=self.num_items))
        position = np.full(self.num_items, -1, dtype=np.int64)
        position[items] = np.arange(len(items))
        lengths = counts[users]
        attributes = self.user_attributes
        return replace(
            self,
            users=pick(self.users, users),
            items=pick(self.items, items),
            titles=pick(self.titles, items),
            item_text=None if self.item_text is None else pick(self.item_text, items),
            item_attributes=(
                None if self.item_attributes is None else pick(self.item_attributes, items)
            ),
            user_attributes=(
                None if attributes is None else attributes.iloc[users].reset_index(drop=True)
            ),
            sequences=cut(position[item], lengths),
            timestamps=self._kept(self.timestamps, events, lengths),
            ratings=self._kept(self.ratings, events, lengths),
        )

    @staticmethod
    def _kept(
        arrays: list[np.ndarray] | None, events: np.ndarray, lengths: np.ndarray
    ) -> list[np.ndarray] | None:
        if arrays is None:
            return None
        return cut(np.concatenate(arrays)[events], lengths) if arrays else []


def cut(values: Shaped[np.ndarray, " event"], lengths: Int[np.ndarray, " user"]) -> list[Any]:
    """Cut joined values into one read-only array per user."""
    values = np.ascontiguousarray(values)
    values.flags.writeable = False
    ends = np.cumsum(lengths)
    return [values[end - n : end] for end, n in zip(ends.tolist(), lengths.tolist(), strict=True)]


def pick(values: Sequence[Any], positions: Int[np.ndarray, " kept"]) -> list[Any]:
    """Return the values at ``positions`` as a list."""
    return [values[i] for i in positions.tolist()]
