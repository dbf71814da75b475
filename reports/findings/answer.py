"""What an answer is made of, and the numbers that stand in its table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.results import Interval
from reports.evidence import Arm, Condition, Estimate, Evidence
from reports.verdicts import baseline_condition, utility_kept
from reports.wording import MISSING, bounds, label, number, percent, percent_bounds, settled


@dataclass(frozen=True)
class Answer:
    """One question, its answer in sentences, and the table that shows it.

    Attributes:
        question: as a reader would ask it.
        sentences: the answer, each sentence made from the numbers.
        head: columns of the table.
        rows: cells of the table.
        notes: what a reader must know to judge the table.
        runs: names of the kept results it comes from.
    """

    question: str
    sentences: tuple[str, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    runs: tuple[str, ...]


def shown(interval: Interval) -> str:
    """``0.21 [0.19, 0.23]``; a dash for what was not measured."""
    if math.isnan(interval.value):
        return MISSING
    tidy = settled(interval)
    return f"{number(tidy.value)} {bounds(tidy)}"


def share(interval: Interval) -> str:
    """``97 % [95 %, 99 %]``; a dash for what was not measured."""
    if math.isnan(interval.value):
        return MISSING
    return f"{percent(interval.value)} {percent_bounds(interval)}".strip()


def kept(evidence: Evidence, arm: Arm, measure: tuple[str, int, str]) -> str:
    """What an arm keeps of the undefended system's utility; the value itself for that system."""
    if arm.undefended:
        condition = baseline_condition(evidence, arm)
        found = evidence.find(arm, condition, measure, "none") if condition else None
        return f"{shown(found.interval)} = 100 %" if found else MISSING
    return share(utility_kept(evidence, arm, measure))


def strongest(
    evidence: Evidence,
    arm: Arm,
    metric: str,
    accept: Callable[[Condition], bool] = lambda condition: True,
) -> Estimate | None:
    """The attack that does best by one metric, whose larger values are the attacker's."""
    found = evidence.select(
        lambda e: (
            e.arm == arm
            and e.metric == metric
            and e.attack != "none"
            and accept(e.condition)
            and not math.isnan(e.interval.value)
        )
    )
    return max(found, key=lambda e: e.interval.value, default=None)


def named(estimate: Estimate | None) -> str:
    """The number and the attacker who reached it."""
    if estimate is None:
        return MISSING
    return f"{shown(estimate.interval)}, {label(estimate.attack)}"


def advantage(estimate: Estimate) -> Interval:
    """Where an estimate stands between guessing (0) and certainty (1)."""
    scale = 1 - estimate.chance
    value, low, high = ((x - estimate.chance) / scale for x in estimate.interval[:3])
    return Interval(value, low, high, estimate.interval.n)


def federated(evidence: Evidence, systems: Sequence[str] = ()) -> list[Arm]:
    """The arms of the systems under test, all of them or the named ones."""
    return [arm for arm in evidence.arms() if not systems or arm.system in systems]
