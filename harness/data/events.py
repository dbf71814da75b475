"""Rows of a log turned into ``Interactions``: bad rows, order, duplicates and counts in one place.

Rules. A row is bad if an id is missing or is a number other than a natural one, if its time, order
or rating is not finite, or if a complete item file lacks its item. Bad rows are an error that names
the first lines, or are dropped and counted with ``on_bad: drop``. Events of a user are sorted by
time, then by the ``order`` column, where there are such; what is equal keeps the file's order.
Duplicates (same user, item and time) are kept and counted, or merged on request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from harness.core.errors import DataError
from harness.data.catalogue import Catalogue
from harness.data.cleaning import bad_id, clean_id
from harness.data.interactions import Interactions, cut, pick

EARLIEST, LATEST = 0.0, 4_102_444_800.0
"""Seconds since 1970 that a log may plausibly hold: 1970 to 2100."""
MILLISECONDS_FROM = 1e11
_LINES_SHOWN = 5


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


def assemble(
    name: str,
    events: EventTable,
    catalogue: Catalogue | None,
    policy: RowPolicy,
    user_attributes: pd.DataFrame | None = None,
) -> Interactions:
    """Check, sort and code the rows.

    Args:
        name: of the data set.
        events: the log.
        catalogue: the items, or ``None`` where only ids are known.
        policy: what to do with bad and doubled rows.
        user_attributes: indexed by user id; users who are not listed get empty values.

    Raises:
        DataError: no rows, or bad rows that may not be dropped.
    """
    if not len(events.line) and not events.malformed:
        raise DataError(f"{events.source}: no rows")
    user, merged_users = _cleaned(events.user)
    item, merged_items = _cleaned(events.item)
    good = _good_rows(events, user, item, catalogue, policy)
    if not good.any():
        raise DataError(f"{events.source}: no good row is left of {len(good)}")
    key = events.timestamp if events.timestamp is not None else events.order
    rows = _sorted_rows(user.codes, (events.order, events.timestamp), good)
    disorder = int(((np.diff(rows) < 0) & (np.diff(user.codes[rows]) == 0)).sum())
    doubled = _duplicates(user.codes[rows], item.codes[rows], key[rows] if key is not None else None)
    if policy.duplicates == "merge":
        rows = rows[~doubled]
    report: dict[str, int | float | str] = {
        "rows_read": len(good) + len(events.malformed),
        "rows_bad_dropped": len(good) + len(events.malformed) - int(good.sum()),
        "rows_out_of_order_sorted": disorder,
        "duplicate_rows": int(doubled.sum()),
        "duplicate_rows_merged": int(doubled.sum()) if policy.duplicates == "merge" else 0,
        "ids_merged_by_normalisation": merged_users + merged_items,
        "order_by": _order_name(events),
        **(events.notes or {}),
        **(catalogue.notes if catalogue is not None else {}),
        **_suspicious_times(events.timestamp, good),
    }
    return _coded(name, events, rows, user, item, catalogue, user_attributes, report)


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


def _good_rows(
    events: EventTable, user: Coded, item: Coded, catalogue: Catalogue | None, policy: RowPolicy
) -> Bool[np.ndarray, " row"]:
    """Find the rows that can be used; raise if some cannot and may not be dropped."""
    good = np.ones(len(events.line), dtype=bool)
    complaints: list[str] = []
    if catalogue is not None and catalogue.bad_ids and policy.on_bad == "error":
        row, value = catalogue.bad_ids[0]
        count = len(catalogue.bad_ids)
        complaints.append(f"{count} items of {catalogue.source} without an id (row {row}: {value!r})")
    if events.malformed:
        complaints.append(_complaint("with another number of fields", np.array(events.malformed)))
    for what, wrong in _checks(events, user, item, catalogue):
        fresh = wrong & good
        if fresh.any():
            complaints.append(_complaint(what, events.line[fresh]))
            good &= ~wrong
    if complaints and policy.on_bad == "error":
        raise DataError(
            f"{events.source}: {'; '.join(complaints)}. Mend the file or set on_bad: drop"
        )
    return good


def _complaint(what: str, lines: Int[np.ndarray, " bad"]) -> str:
    shown = ", ".join(str(line) for line in lines[:_LINES_SHOWN].tolist())
    more = ", …" if len(lines) > _LINES_SHOWN else ""
    rows = "row" if len(lines) == 1 else "rows"
    return f"{len(lines)} {rows} {what} (line {shown}{more})"


def _checks(
    events: EventTable, user: Coded, item: Coded, catalogue: Catalogue | None
) -> list[tuple[str, Bool[np.ndarray, " row"]]]:
    checks: list[tuple[str, np.ndarray]] = []
    for what, column in (("user", user), ("item", item)):
        wrong = np.array([bad_id(value) for value in column.values], dtype=bool)
        examples = [repr(v) for v, w in zip(column.values, wrong.tolist(), strict=True) if w][:2]
        text = f"whose {what} id is missing, negative or decimal, such as {' and '.join(examples)}"
        checks.append((text, _of_rows(wrong, column)))
    for what in ("timestamp", "order", "rating"):
        values: np.ndarray | None = getattr(events, what)
        if values is not None:
            checks.append((f"whose {what} is not a finite number", ~np.isfinite(values)))
    if catalogue is not None and catalogue.complete:
        known = set(catalogue.ids)
        unknown = np.array([value not in known for value in item.values], dtype=bool)
        checks.append((f"whose item is not in {catalogue.source}", _of_rows(unknown, item)))
    return checks


def _of_rows(wrong: Bool[np.ndarray, " value"], column: Coded) -> Bool[np.ndarray, " row"]:
    if not wrong.any():
        return np.zeros(len(column.codes), dtype=bool)
    return wrong[column.codes]


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


def _coded(
    name: str,
    events: EventTable,
    rows: Int[np.ndarray, " kept"],
    user: Coded,
    item: Coded,
    catalogue: Catalogue | None,
    user_attributes: pd.DataFrame | None,
    report: dict[str, int | float | str],
) -> Interactions:
    """Give users and items their final positions and cut the rows into sequences."""
    counts = np.bincount(user.codes[rows], minlength=len(user.values))
    users = np.flatnonzero(counts)
    seen = np.flatnonzero(np.bincount(item.codes[rows], minlength=len(item.values)))
    listed = catalogue.ids if catalogue is not None else []
    place = {value: i for i, value in enumerate(listed)}
    # Items in the order of their file; unlisted ones after them, by first appearance.
    rank = np.array([place.get(item.values[i], len(listed) + i) for i in seen.tolist()])
    seen = seen[np.argsort(rank, kind="stable")]
    position = np.full(len(item.values), -1, dtype=np.int64)
    position[seen] = np.arange(len(seen))
    items = pick(item.values, seen)
    spots = [place.get(value, -1) for value in items]
    titles = [catalogue.titles[i] if catalogue and i >= 0 else "" for i in spots]
    named = [title for title in titles if title]
    report["items_listed_without_events"] = len(listed) - sum(i >= 0 for i in spots)
    report["items_without_title"] = len(titles) - len(named)
    report["items_sharing_a_title"] = int(pd.Series(named).duplicated(keep=False).sum())
    kinds = catalogue.attributes if catalogue is not None else None
    lengths = counts[users]
    ids = pick(user.values, users)
    if user_attributes is not None:
        user_attributes = user_attributes.reindex(ids, fill_value="").reset_index(drop=True)
    times, ratings = events.timestamp, events.rating
    return Interactions(
        name=name,
        users=ids,
        items=items,
        titles=titles,
        sequences=cut(position[item.codes[rows]], lengths),
        item_text=[catalogue.text[i] if i >= 0 else "" for i in spots] if catalogue else None,
        item_attributes=[kinds[i] if i >= 0 else () for i in spots] if kinds else None,
        user_attributes=user_attributes,
        timestamps=None if times is None else cut(times[rows], lengths),
        ratings=None if ratings is None else cut(ratings[rows], lengths),
        report=report,
    )
