"""Rows of a log turned into ``Interactions``: checks, order, duplicates and counts in one place.

Events of a user are sorted by time, then by the ``order`` column, where there are such; what is
equal keeps the file's order. Duplicates (same user, item and time) are kept and counted, or merged
on request. Bad rows: see ``row_checks``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from harness.core.errors import DataError
from harness.data.catalogue import Catalogue
from harness.data.cleaning import clean_id
from harness.data.events import Coded, EventTable, RowPolicy
from harness.data.interactions import Interactions, Report, cut, pick
from harness.data.row_checks import good_rows

EARLIEST, LATEST = 0.0, 4_102_444_800.0
"""Seconds since 1970 that a log may plausibly hold: 1970 to 2100."""
MILLISECONDS_FROM = 1e11


def assemble(
    name: str,
    events: EventTable,
    catalogue: Catalogue | None,
    policy: RowPolicy,
    user_attributes: pd.DataFrame | None = None,
) -> Interactions:
    """Check, sort and code the rows; ``user_attributes`` are indexed by user id.

    Raises:
        DataError: no rows, or bad rows that may not be dropped.
    """
    if not len(events.line) and not events.malformed:
        raise DataError(f"{events.source}: no rows")
    user, merged_users = _cleaned(events.user)
    item, merged_items = _cleaned(events.item)
    good = good_rows(events, user, item, catalogue, policy)
    if not good.any():
        raise DataError(f"{events.source}: no good row is left of {len(good)}")
    rows = _sorted_rows(user.codes, (events.order, events.timestamp), good)
    rows, counts = _merged(events, user.codes, item.codes, rows, policy)
    report: dict[str, int | float | str] = {
        "rows_read": len(good) + len(events.malformed),
        "rows_bad_dropped": len(good) + len(events.malformed) - int(good.sum()),
        **counts,
        "ids_merged_by_normalisation": merged_users + merged_items,
        "order_by": _order_name(events),
        **(events.notes or {}),
        **_suspicious_times(events.timestamp, good),
    }
    present, lengths = _present(user, rows)
    data = Interactions(
        name=name,
        users=pick(user.values, present),
        items=[],
        titles=[],
        sequences=[],
        timestamps=None if events.timestamp is None else cut(events.timestamp[rows], lengths),
        ratings=None if events.rating is None else cut(events.rating[rows], lengths),
        report=report,
    )
    data = _with_items(data, item, rows, lengths, catalogue)
    return _with_attributes(data, user_attributes)


def _order_name(events: EventTable) -> str:
    keys = [name for name in ("timestamp", "order") if getattr(events, name) is not None]
    return ", then ".join([*keys, "file order"])


def _cleaned(column: Coded) -> tuple[Coded, int]:
    """Normalise the distinct values; count those that became equal to another."""
    place: dict[str, int] = {}
    moved = [place.setdefault(clean_id(value), len(place)) for value in column.values]
    if len(place) == len(column.values):
        return Coded(column.codes, list(place)), 0
    codes = np.array(moved, dtype=np.int64)[column.codes]
    return Coded(codes, list(place)), len(column.values) - len(place)


def _sorted_rows(
    user: Int[np.ndarray, " row"],
    keys: tuple[Float[np.ndarray, " row"] | None, ...],
    good: Bool[np.ndarray, " row"],
) -> Int[np.ndarray, " kept"]:
    """Return good rows by user, then the keys (last one first), then file order."""
    rows = np.flatnonzero(good)
    for key in keys:
        if key is not None and (np.diff(key[rows]) < 0).any():
            rows = rows[np.argsort(key[rows], kind="stable")]
    return rows[np.argsort(user[rows], kind="stable")]


def _merged(
    events: EventTable,
    user: Int[np.ndarray, " row"],
    item: Int[np.ndarray, " row"],
    rows: Int[np.ndarray, " kept"],
    policy: RowPolicy,
) -> tuple[Int[np.ndarray, " kept"], dict[str, int | float | str]]:
    """Count what sorting moved and what is doubled; leave doubles out if they are to be merged."""
    moved = int(((np.diff(rows) < 0) & (np.diff(user[rows]) == 0)).sum())
    key = events.timestamp if events.timestamp is not None else events.order
    doubled = _duplicates(user[rows], item[rows], None if key is None else key[rows])
    merge = policy.duplicates == "merge"
    counts: dict[str, int | float | str] = {
        "rows_out_of_order_sorted": moved,
        "duplicate_rows": int(doubled.sum()),
        "duplicate_rows_merged": int(doubled.sum()) if merge else 0,
    }
    return (rows[~doubled] if merge else rows), counts


def _duplicates(
    user: Int[np.ndarray, " row"],
    item: Int[np.ndarray, " row"],
    key: Float[np.ndarray, " row"] | None,
) -> Bool[np.ndarray, " row"]:
    """Mark later rows with the user, item and time of an earlier one.

    Without times, rows count as doubled only where the same item follows itself.
    """
    if key is None:
        doubled = np.zeros(len(user), dtype=bool)
        doubled[1:] = (user[1:] == user[:-1]) & (item[1:] == item[:-1])
        return doubled
    order = np.lexsort((item, key, user))
    same = (np.diff(user[order]) == 0) & (np.diff(item[order]) == 0) & (np.diff(key[order]) == 0)
    doubled = np.zeros(len(user), dtype=bool)
    doubled[order[1:]] = same
    return doubled


def _suspicious_times(
    timestamp: Float[np.ndarray, " row"] | None, good: Bool[np.ndarray, " row"]
) -> dict[str, int | float | str]:
    if timestamp is None:
        return {}
    times = timestamp[good]
    milliseconds = times >= MILLISECONDS_FROM
    seconds = np.where(milliseconds, times / 1000.0, times)
    notes: dict[str, int | float | str] = {}
    if milliseconds.any() and not milliseconds.all():
        notes["warning_times"] = (
            f"{int(milliseconds.sum())} times look like milliseconds and "
            f"{int((~milliseconds).sum())} like seconds; they were sorted as they stand"
        )
    outside = int(((seconds < EARLIEST) | (seconds > LATEST)).sum())
    if outside:
        notes["times_before_1970_or_after_2100"] = outside
    return notes


def _present(
    column: Coded, rows: Int[np.ndarray, " kept"]
) -> tuple[Int[np.ndarray, " value"], Int[np.ndarray, " value"]]:
    """Return the codes that occur in ``rows``, ascending, and how often each does."""
    counts = np.bincount(column.codes[rows], minlength=len(column.values))
    present = np.flatnonzero(counts)
    return present, counts[present]


def _with_items(
    data: Interactions,
    item: Coded,
    rows: Int[np.ndarray, " kept"],
    lengths: Int[np.ndarray, " user"],
    catalogue: Catalogue | None,
) -> Interactions:
    """Number the items and cut their events into sequences.

    Items stand in the order of their file; those it lacks after them, by first appearance.
    """
    seen, _ = _present(item, rows)
    listed = catalogue.ids if catalogue is not None else []
    place = {value: i for i, value in enumerate(listed)}
    rank = np.array([place.get(item.values[i], len(listed) + i) for i in seen.tolist()])
    seen = seen[np.argsort(rank, kind="stable")]
    position = np.full(len(item.values), -1, dtype=np.int64)
    position[seen] = np.arange(len(seen))
    items = pick(item.values, seen)
    spots = [place.get(value, -1) for value in items]
    titles = [catalogue.titles[i] if catalogue and i >= 0 else "" for i in spots]
    kinds = catalogue.attributes if catalogue is not None else None
    return replace(
        data,
        items=items,
        titles=titles,
        sequences=cut(position[item.codes[rows]], lengths),
        item_text=[catalogue.text[i] if i >= 0 else "" for i in spots] if catalogue else None,
        item_attributes=[kinds[i] if i >= 0 else () for i in spots] if kinds else None,
        report={**data.report, **_item_counts(catalogue, spots, titles)},
    )


def _item_counts(catalogue: Catalogue | None, spots: list[int], titles: list[str]) -> Report:
    named = [title for title in titles if title]
    listed = len(catalogue.ids) if catalogue is not None else 0
    return {
        **(catalogue.notes if catalogue is not None else {}),
        "items_listed_without_events": listed - sum(i >= 0 for i in spots),
        "items_without_title": len(titles) - len(named),
        "items_sharing_a_title": int(pd.Series(named, dtype=object).duplicated(keep=False).sum()),
    }


def _with_attributes(data: Interactions, attributes: pd.DataFrame | None) -> Interactions:
    """Add the users' attributes in the order of the users; unlisted users get empty values."""
    if attributes is None:
        return data
    rows = attributes.reindex(data.users, fill_value="").reset_index(drop=True)
    unlisted = sum(user not in attributes.index for user in data.users)
    return replace(data, user_attributes=rows).noting(users_without_attributes=unlisted)
