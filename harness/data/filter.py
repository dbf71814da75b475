"""Which events and users take part; every rule says in the report how much it left out."""

from __future__ import annotations

import numpy as np

from harness.core.errors import DataError
from harness.data.interactions import Interactions


def drop_below_rating(data: Interactions, minimum: float) -> Interactions:
    """Keep events rated ``minimum`` or higher.

    Raises:
        DataError: the data have no ratings, or nothing is left.
    """
    if data.ratings is None:
        raise DataError(f"data set {data.name!r} has no ratings, so min_rating cannot be applied")
    keep = np.concatenate(data.ratings) >= minimum
    return _kept(data, keep, "min_rating", f"a rating of {minimum:g} or more")


def k_core(data: Interactions, item_minimum: int, user_minimum: int) -> Interactions:
    """Keep the largest part in which items and users have at least so many events each.

    Users and items below the bound are removed in turn until none is left below it; the result
    does not depend on the order.

    Raises:
        DataError: nothing is left.
    """
    user, item = data.user_of_event(), data.joined()
    keep = np.ones(len(user), dtype=bool)
    while True:
        by_user = np.bincount(user[keep], minlength=data.num_users)
        by_item = np.bincount(item[keep], minlength=data.num_items)
        left = keep & (by_user[user] >= user_minimum) & (by_item[item] >= item_minimum)
        if left.sum() == keep.sum():
            break
        keep = left
    rule = f"{user_minimum} events per user and {item_minimum} per item"
    return _kept(data, keep, "k_core" if item_minimum > 1 else "min_length", rule)


def keep_last(data: Interactions, count: int) -> Interactions:
    """Keep the most recent ``count`` events of each user (SF-UBM uses 10 [paper])."""
    user = data.user_of_event()
    ends = np.cumsum(data.lengths)
    from_end = ends[user] - np.arange(len(user))
    return _kept(data, from_end <= count, "keep_last", f"{count} latest events per user")


def max_users(data: Interactions, count: int, rng: np.random.Generator) -> Interactions:
    """Keep ``count`` users drawn without replacement; fewer stay as they are."""
    if data.num_users <= count:
        return data.noting(max_users_users_dropped=0)
    chosen = np.zeros(data.num_users, dtype=bool)
    chosen[rng.choice(data.num_users, size=count, replace=False)] = True
    return _kept(data, chosen[data.user_of_event()], "max_users", f"{count} users")


def _kept(data: Interactions, keep: np.ndarray, rule: str, words: str) -> Interactions:
    """Apply a mask of events and note what it cost."""
    if not keep.any():
        raise DataError(f"data set {data.name!r}: no event is left after {rule} ({words})")
    out = data.keeping(keep)
    counts = {
        f"{rule}_events_dropped": data.num_events - out.num_events,
        f"{rule}_users_dropped": data.num_users - out.num_users,
        f"{rule}_items_dropped": data.num_items - out.num_items,
    }
    # A rule may run twice (before and after a split into domains); its counts add up.
    before = {name: data.report.get(name, 0) for name in counts}
    return out.noting(**{n: c + int(before[n]) for n, c in counts.items()})
