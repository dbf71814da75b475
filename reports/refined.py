"""Sweeps refined by bisection in words: what was added and why, and where each transition lies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.bisection import Change
from harness.results import Interval
from reports.evidence import Evidence
from reports.transitions import changes, overall
from reports.wording import clean, join_words, label, number, strength_text


@dataclass(frozen=True)
class RefinedSweep:
    """One defence whose strengths were given as a range.

    Attributes:
        asked: the range.
        added: every further strength and its reason, in order.
        ended: why there are no more.
        found: where what changes; empty where nothing could be measured.
    """

    asked: str
    added: tuple[str, ...]
    ended: str
    found: str


def refined_sweeps(evidence: Evidence, manifest: Mapping[str, Any]) -> list[RefinedSweep]:
    """What a run's manifest says of refined sweeps; what is no such record is left out."""
    recorded = manifest.get("refinement")
    if not isinstance(recorded, Mapping):
        return []
    return [
        _sweep(evidence, str(family), facts)
        for family, facts in recorded.items()
        if isinstance(facts, Mapping) and _numbers(facts.get("points"))
    ]


def transitions(found: Sequence[Change], threshold: float) -> list[Change]:
    """The largest change of every quantity on every system, where it is worth telling."""
    largest: dict[tuple[str, str], Change] = {}
    for change in found:
        key = change.system, change.what
        told = change.shown and change.size > threshold
        if told and (key not in largest or change.size > largest[key].size):
            largest[key] = change
    return list(largest.values())


def in_words(change: Change, gradual: bool = False) -> str:
    """``span check falls from 0.81 to 0.04 between 0.1 and 0.18``."""
    way = "falls" if change.after < change.before else "rises"
    way += " step by step" if gradual else ""
    values = f"from {_share(change.before)} to {_share(change.after)}"
    return f"{change.what} {way} {values} between {number(change.low)} and {number(change.high)}"


def _sweep(evidence: Evidence, family: str, facts: Mapping[str, Any]) -> RefinedSweep:
    points, name = _numbers(facts.get("points")), str(facts.get("parameter", ""))
    steps = [s for s in _list(facts.get("added")) if isinstance(s, Mapping)]
    symbol = strength_text(name, points[0]).split(" =")[0]
    asked = (
        f"{label(family)}: {len(points)} strengths of {symbol} were given, "
        f"{join_words([number(p) for p in points])}"
    )
    asked += "; further ones were put where something changes most:" if steps else "."
    ended = str(facts.get("ended") or "the run was not finished")
    more = "No more were added" if steps else "None was added between them"
    return RefinedSweep(
        asked,
        tuple(clean(_step(step), 500) for step in steps),
        clean(f"{more}: {ended}.", 300),
        _found(evidence, family, _number(facts.get("threshold"))),
    )


def _step(step: Mapping[str, Any]) -> str:
    low, high = _number(step.get("low")), _number(step.get("high"))
    nothing = Interval(math.nan, math.nan, math.nan, 0)
    change = Change(
        low, high, str(step.get("system", "")), str(step.get("what", "")), "",
        _number(step.get("before")), _number(step.get("after")), nothing,
    )  # fmt: skip
    return f"{number(_number(step.get('strength')))}, as {in_words(change)} on {change.system}"


def _found(evidence: Evidence, family: str, threshold: float) -> str:
    """Where every quantity changes most between the strengths as they are now, by system."""
    if math.isnan(threshold):
        return ""
    found = changes(evidence, family)
    sharp = transitions(found, threshold)
    told = {(c.system, c.what) for c in sharp}
    gradual = [
        c
        for c in transitions(overall(evidence, family), threshold)
        if (c.system, c.what) not in told
    ]
    if found and not sharp and not gradual:
        return f"Nothing is shown to change by more than {number(threshold)} over the range."
    by_system: dict[str, list[str]] = {}
    for change in (*sharp, *gradual):
        text = in_words(change, gradual=change not in sharp)
        by_system.setdefault(change.system, []).append(text)
    return " ".join(f"On {system}: {join_words(texts)}." for system, texts in by_system.items())


def _share(value: float) -> str:
    """Two decimals are enough to see a fall; a trace is no zero."""
    return "0" if value == 0 else "less than 0.01" if value < 0.005 else f"{value:.2f}"


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _numbers(value: object) -> list[float]:
    found = [_number(x) for x in _list(value)]
    return [x for x in found if not math.isnan(x)]


def _number(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return math.nan
