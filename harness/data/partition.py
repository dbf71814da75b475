"""Who is a client: one user each, or one domain each; and how one data set becomes two domains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Int

from harness.core.errors import DataError
from harness.data.interactions import Interactions
from harness.data.split import check_disjoint

GENRE_GROUPS: tuple[tuple[str, ...], tuple[str, ...]] = (
    (
        *("Action", "Adventure", "Crime", "Film-Noir", "Horror", "Mystery", "Sci-Fi"),
        *("Thriller", "War", "Western"),
    ),
    (
        *("Animation", "Children's", "Comedy", "Documentary", "Drama", "Fantasy"),
        *("Musical", "Romance"),
    ),
)
"""Tension against feeling: two groups of MovieLens genres with about equal numbers of ratings."""


@dataclass(frozen=True)
class Client:
    """One participant.

    Attributes:
        name: the user's id or the domain's name.
        domain: position of its domain.
        users: positions of its users in that domain.
    """

    name: str
    domain: int
    users: Int[np.ndarray, " user"]


def one_user_per_client(data: Interactions) -> list[Client]:
    """Return a client for each user (cross-device: LUMOS)."""
    positions = np.arange(data.num_users)
    return [Client(user, 0, positions[i : i + 1]) for i, user in enumerate(data.users)]


def one_domain_per_client(domains: Sequence[Interactions]) -> list[Client]:
    """Return a client for each domain with all its users (cross-silo: SF-UBM)."""
    return [Client(d.name, i, np.arange(d.num_users)) for i, d in enumerate(domains)]


def disjoint_domains(
    target: Interactions,
    source: Interactions,
    *,
    drop_from: Literal["source", "target"] = "source",
    separate_ids: bool = False,
) -> tuple[Interactions, Interactions]:
    """Make two data sets share neither users nor items.

    Args:
        target: the domain that is evaluated.
        source: the domain that helps.
        drop_from: side that loses the shared users and items.
        separate_ids: the two sets number their users and items independently, so equal ids mean
            nothing; ids get the data set's name in front and nothing is dropped.

    Returns:
        Target and source.

    Raises:
        DataError: one side would be empty.
    """
    if separate_ids:
        labels = ("target", "source") if target.name == source.name else (target.name, source.name)
        target, source = _prefixed(target, labels[0]), _prefixed(source, labels[1])
    elif drop_from == "source":
        source = _without(source, target)
    else:
        target = _without(target, source)
    check_disjoint(target, source)
    return target, source


def _prefixed(data: Interactions, label: str) -> Interactions:
    return replace(
        data,
        users=[f"{label}:{user}" for user in data.users],
        items=[f"{label}:{item}" for item in data.items],
    )


def _without(data: Interactions, other: Interactions) -> Interactions:
    users, items = set(other.users), set(other.items)
    user_stays = np.array([user not in users for user in data.users], dtype=bool)
    item_stays = np.array([item not in items for item in data.items], dtype=bool)
    keep = user_stays[data.user_of_event()] & item_stays[data.joined()]
    if not keep.any():
        raise DataError(
            f"domain {data.name!r} shares all its users or items with {other.name!r}; if equal ids "
            "mean different things there, set separate_ids: true"
        )
    return data.keeping(keep).noting(
        shared_users_dropped=int((~user_stays).sum()),
        shared_items_dropped=int((~item_stays).sum()),
        shared_events_dropped=int((~keep).sum()),
    )


def genre_domains(
    data: Interactions,
    rng: np.random.Generator,
    groups: tuple[Sequence[str], Sequence[str]] = GENRE_GROUPS,
) -> tuple[Interactions, Interactions]:
    """Split one data set into two domains with different genres and users [ours].

    An item goes to the group that has more of its genres; in a tie to the group of the genre
    listed first. Items without a genre of either group are left out. Users are dealt into two
    halves by ``rng``, and each keeps only the events of the domain of that half.

    Returns:
        Domain of the first group (the target) and of the second.

    Raises:
        DataError: the items have no genres, or a domain would be empty.
    """
    if data.item_attributes is None:
        raise DataError(f"data set {data.name!r} has no genres or categories to split by")
    if both := set(groups[0]) & set(groups[1]):
        raise DataError(f"genre {min(both)!r} stands in both groups")
    side = np.array([_side(kinds, groups) for kinds in data.item_attributes], dtype=np.int64)
    half = np.zeros(data.num_users, dtype=np.int64)
    half[rng.permutation(data.num_users)[data.num_users // 2 :]] = 1
    item_side, user_side = side[data.joined()], half[data.user_of_event()]
    parts: list[Interactions] = []
    for index, group in enumerate(groups):
        keep = (item_side == index) & (user_side == index)
        if not keep.any():
            raise DataError(f"data set {data.name!r}: no events of {', '.join(group)}")
        part = replace(data.keeping(keep), name=f"{data.name} {group[0]}")
        dropped = (user_side == index) & (item_side != index)
        parts.append(
            part.noting(
                domain_genres=", ".join(group),
                domain_users_dealt=int((half == index).sum()),
                domain_events_of_other_genres_dropped=int(dropped.sum()),
                items_without_a_genre_of_either_group=int((side < 0).sum()),
            )
        )
    check_disjoint(*parts)
    return parts[0], parts[1]


def _side(kinds: Sequence[str], groups: tuple[Sequence[str], Sequence[str]]) -> int:
    """Return the group of an item, ``-1`` for neither."""
    votes = [int(kind in groups[1]) for kind in kinds if kind in {*groups[0], *groups[1]}]
    if not votes:
        return -1
    second = sum(votes)
    if 2 * second == len(votes):
        return votes[0]
    return int(2 * second > len(votes))
