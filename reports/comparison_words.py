"""The words that every format of a comparison shares: counts, cautions, sections, cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reports.comparison import (
    BETTER,
    NOT_COMPARABLE,
    ONE_TRAINING,
    SAME,
    VERDICTS,
    WORSE,
    Comparison,
    Difference,
)
from reports.comparison_run import Place, RunRow
from reports.wording import bounds, number

RULE = (
    "A difference is B − A with its 95 % interval, paired over the seeds and users that both runs "
    "have. Better and worse are meant for the user and the defender: more utility, less success "
    "of an attack, less cost. No difference is shown where the interval holds 0. With one seed in "
    "common the interval covers users but not what another training would give: a difference "
    "beyond it holds for these trainings and is called neither worse nor better."
)
_CHANCE = 0.05
_EMPTY = "–"


class Line(NamedTuple):
    """One row of a comparison as it is printed."""

    measure: str
    difference: str
    interval: str
    a: str
    b: str
    basis: str
    where: str


class Section(NamedTuple):
    """Rows of one verdict; ``tone`` colours them, ``folded`` ones start closed on a page."""

    title: str
    tone: str
    folded: bool
    lines: list[Line]


def summary(comparison: Comparison) -> str:
    """How many rows have which verdict."""
    found = {verdict: len(comparison.of(verdict)) for verdict in VERDICTS}
    if not found[ONE_TRAINING]:
        del found[ONE_TRAINING]
    counts = [f"{count:,} {verdict}" for verdict, count in found.items()]
    a, b = (len({row.place for row in rows}) for rows in (comparison.only_a, comparison.only_b))
    return f"{', '.join(counts)}; {a:,} only in A, {b:,} only in B"


def caution(comparison: Comparison) -> str:
    """How many of the differences chance alone may have made; empty where none was tested."""
    tested = [d for d in comparison.differences if d.interval.low != d.interval.high and d.a != d.b]
    tested = [d for d in tested if d.verdict != NOT_COMPARABLE]
    if not tested:
        return ""
    expected = max(1, round(_CHANCE * len(tested)))
    return (
        f"{len(tested):,} rows were tested one by one: even if nothing had changed, about "
        f"{expected:,} of them (5 %) would show a difference by chance"
    )


def sections(comparison: Comparison, *, only_changed: bool) -> list[Section]:
    """The rows to print, the worst first; empty sections are left out."""
    shown = [d for d in comparison.differences if d.changed or not only_changed]
    found = [
        Section(title, tone, folded, [_line(d) for d in shown if d.verdict == verdict])
        for verdict, title, tone, folded in (
            (WORSE, "Worse in B", "bad", False),
            (ONE_TRAINING, "Different on these trainings (one seed)", "warn", False),
            (SAME, "No difference shown", "", True),
            (BETTER, "Better in B", "good", False),
            (NOT_COMPARABLE, "Not comparable", "warn", True),
        )
    ]
    found += [
        Section("Only in A", "warn", True, _alone(comparison.only_a, in_a=True)),
        Section("Only in B", "warn", True, _alone(comparison.only_b, in_a=False)),
    ]
    return [section for section in found if section.lines]


def _line(difference: Difference) -> Line:
    value, interval = number(difference.interval.value), bounds(difference.interval)
    rests_on = difference.reason or "; ".join(
        filter(None, (difference.basis, difference.lost.words))
    )
    return Line(
        _flat(difference.place.measure), value, "" if interval == _EMPTY else interval,
        number(difference.a), number(difference.b),
        _flat(rests_on), _flat(difference.where),
    )  # fmt: skip


def _alone(rows: Sequence[RunRow], *, in_a: bool) -> list[Line]:
    """Measures of one run only, each with its mean over the seeds."""
    by_place: dict[Place, list[RunRow]] = {}
    for row in rows:
        by_place.setdefault(row.place, []).append(row)
    lines = []
    for place, group in by_place.items():
        values = [row.value for row in group if row.measured]
        mean = number(sum(values) / len(values)) if values else _EMPTY
        seeds = f"{len(values)} seed{'' if len(values) == 1 else 's'}"
        basis = seeds if values else f"no number ({group[0].why_missing})"
        sides = (mean, _EMPTY) if in_a else (_EMPTY, mean)
        where = _flat(place.where(group[0].strength_name))
        lines.append(Line(_flat(place.measure), _EMPTY, "", *sides, _flat(basis), where))
    return lines


def _flat(text: str) -> str:
    """A label on one line, whatever a run put into it."""
    return " ".join(text.split())
