"""Chronological leave-one-out: the last event is the test, the one before it the validation.

Users with fewer than three events are excluded and counted. Nobody shares an event between parts;
an item that a user met before may still be the held-out one (a repeat), which is counted, since a
ranking that masks known items can never find it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from harness.core.errors import DataError
from harness.data.interactions import Interactions

MIN_EVENTS = 3


@dataclass(frozen=True)
class Split:
    """The parts, one entry per user who has at least three events.

    Attributes:
        users: position of each in ``Interactions.users``.
        train: everything but the last two events.
        validation: second last item.
        test: last item.
        excluded: users with fewer than three events.
        repeated_tests: users whose test item is also in their earlier events.
    """

    users: Int[np.ndarray, " user"]
    train: list[Int[np.ndarray, " event"]]
    validation: Int[np.ndarray, " user"]
    test: Int[np.ndarray, " user"]
    excluded: int
    repeated_tests: int

    def with_validation(self) -> list[Int[np.ndarray, " event"]]:
        """Return what is known when the test item is asked for: training and validation events."""
        return [
            np.append(history, item)
            for history, item in zip(self.train, self.validation, strict=True)
        ]


def leave_one_out(data: Interactions) -> Split:
    """Split each user's sequence by time."""
    users = np.flatnonzero(data.lengths >= MIN_EVENTS)
    sequences = [data.sequences[user] for user in users.tolist()]
    split = Split(
        users=users,
        train=[sequence[:-2] for sequence in sequences],
        validation=np.array([sequence[-2] for sequence in sequences], dtype=np.int64),
        test=np.array([sequence[-1] for sequence in sequences], dtype=np.int64),
        excluded=data.num_users - len(users),
        repeated_tests=sum(bool((s[:-1] == s[-1]).any()) for s in sequences),
    )
    check_leakage(data, split)
    return split


def check_leakage(data: Interactions, split: Split) -> None:
    """Make sure that each user's parts are consecutive pieces of the history, used once.

    Raises:
        DataError: a part overlaps another, is out of order or belongs to somebody else.
    """
    wrong = [
        data.users[user]
        for user, known, test in zip(
            split.users.tolist(), split.with_validation(), split.test, strict=True
        )
        if not np.array_equal(np.append(known, test), data.sequences[user])
    ]
    if wrong:
        raise DataError(
            f"data set {data.name!r}: training, validation and test events of {len(wrong)} users "
            f"do not add up to their histories (leakage), first user {wrong[0]!r}"
        )


def check_disjoint(first: Interactions, second: Interactions) -> None:
    """Make sure that two domains share neither users nor items.

    Raises:
        DataError: they do.
    """
    pairs: Sequence[tuple[str, set[str]]] = (
        ("users", set(first.users) & set(second.users)),
        ("items", set(first.items) & set(second.items)),
    )
    for what, shared in pairs:
        if shared:
            raise DataError(
                f"domains {first.name!r} and {second.name!r} share {len(shared)} {what}, "
                f"such as {min(shared)!r}"
            )
