"""Which rows of a log can be used. A bad row is an error that names its line, or is left out.

A row is bad if an id is missing or is a number other than a natural one, if its time, order or
rating is not finite, or if a complete item file lacks its item.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

from harness.core.errors import DataError
from harness.data.catalogue import Catalogue
from harness.data.cleaning import bad_id
from harness.data.events import Coded, EventTable, RowPolicy

_LINES_SHOWN = 5


def good_rows(
    events: EventTable, user: Coded, item: Coded, catalogue: Catalogue | None, policy: RowPolicy
) -> Bool[np.ndarray, " row"]:
    """Find the rows that can be used; raise if some cannot and may not be dropped."""
    good = np.ones(len(events.line), dtype=bool)
    complaints: list[str] = []
    if catalogue is not None and catalogue.bad_ids and policy.on_bad == "error":
        row, value = catalogue.bad_ids[0]
        count = len(catalogue.bad_ids)
        complaints.append(
            f"{count} items of {catalogue.source} without an id (row {row}: {value!r})"
        )
    if events.malformed:
        complaints.append(_complaint(events, events.malformed_words, np.array(events.malformed)))
    for what, wrong in _checks(events, user, item, catalogue):
        fresh = wrong & good
        if fresh.any():
            complaints.append(_complaint(events, what, events.line[fresh]))
            good &= ~wrong
    if complaints and policy.on_bad == "error":
        raise DataError(
            f"{events.source}: {'; '.join(complaints)}. Mend the file or set on_bad: drop"
        )
    return good


def _complaint(events: EventTable, what: str, lines: Int[np.ndarray, " bad"]) -> str:
    shown = ", ".join(events.place(line) for line in lines[:_LINES_SHOWN].tolist())
    more = ", …" if len(lines) > _LINES_SHOWN else ""
    rows = "row" if len(lines) == 1 else "rows"
    return f"{len(lines)} {rows} {what} (line {shown}{more})"


def _checks(
    events: EventTable, user: Coded, item: Coded, catalogue: Catalogue | None
) -> list[tuple[str, Bool[np.ndarray, " row"]]]:
    checks: list[tuple[str, np.ndarray]] = []
    for what, column in (("user", user), ("item", item)):
        wrong = np.array([bad_id(value) for value in column.values], dtype=bool)
        pairs = zip(column.values, wrong.tolist(), strict=True)
        examples = [repr(value[:80]) for value, bad in pairs if bad][:2]
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
