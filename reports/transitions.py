"""What changes from one strength of a defence to the next: every attack's advantage, and utility.

Advantages are those of the verdicts (an attack counts by its worst metric, among clients that both
strengths share), limited to 0 to 1 as utility kept is. A difference is paired over seeds and users
where both sides are means over users; else it is put together from both intervals (Zou and Donner,
"Construction of confidence limits about effect measures", 2008), as if they were independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from harness.bisection import Change
from harness.results import Interval
from reports.evidence import Arm, Estimate, Evidence
from reports.figures import system_title
from reports.verdicts import (
    Threat,
    find_undefended,
    reads_attack,
    threats,
    utility_kept,
    utility_measure,
    worst_of,
)
from reports.wording import label, metric_name

UTILITY = "utility kept"


def changes(evidence: Evidence, family: str) -> list[Change]:
    """Every change between neighbouring strengths of a defence, on every system it ran on.

    Args:
        evidence: the results.
        family: label of the defence.
    """
    return [
        change
        for system, arms in _by_strength(evidence, family).items()
        for left, right in pairwise(arms)
        for change in _between(evidence, system, left, right)
    ]


def overall(evidence: Evidence, family: str) -> list[Change]:
    """The same between the smallest and the largest strength."""
    return [
        change
        for system, arms in _by_strength(evidence, family).items()
        if len(arms) > 1
        for change in _between(evidence, system, arms[0], arms[-1])
    ]


def _by_strength(evidence: Evidence, family: str) -> dict[str, list[Arm]]:
    """A defence's arms by system, the smallest strength first."""
    systems: dict[str, list[Arm]] = {}
    for arm in evidence.arms():
        if arm.family == family and arm.strength is not None:
            systems.setdefault(system_title(arm), []).append(arm)
    return {system: sorted(arms, key=_strength) for system, arms in systems.items()}


def _between(evidence: Evidence, system: str, left: Arm, right: Arm) -> Iterator[Change]:
    ends = _strength(left), _strength(right)
    kept = utility_kept(evidence, left), utility_kept(evidence, right)
    gain = _utility_difference(evidence, left, right, *kept)
    measure = utility_measure(evidence, left)
    name = metric_name(*measure) if measure else ""
    before, after = (_limited(k.value) for k in kept)
    yield Change(*ends, system, UTILITY, name, before, after, gain)
    read = threats(evidence, left), threats(evidence, right)
    for attack in dict.fromkeys(t.attack for own in read for t in own):
        sides = [[t for t in own if t.attack == attack] for own in read]
        shared = {t.condition for t in sides[0]} & {t.condition for t in sides[1]}
        if shared:
            weak, strong = (worst_of([t for t in own if t.condition in shared]) for own in sides)
            before, after = (_limited(t.advantage.value) for t in (weak, strong))
            change = _advantage_difference(evidence, left, weak, right, strong)
            yield Change(*ends, system, label(attack), strong.metric, before, after, change)


def _utility_difference(
    evidence: Evidence, left: Arm, right: Arm, before: Interval, after: Interval
) -> Interval:
    """Utility kept at ``right`` less that at ``left``, paired in the cleanest condition."""
    base, measure = find_undefended(evidence, left), utility_measure(evidence, left)
    if base is None or measure is None:
        return separate(before, after)
    for condition in evidence.conditions(left):
        weak, strong, bare = (
            evidence.find(arm, condition, measure, "none") for arm in (left, right, base)
        )
        if weak and strong and bare:
            return _scaled(evidence.difference(strong, weak), bare.interval.value)
    return separate(before, after)


def _advantage_difference(
    evidence: Evidence, left: Arm, before: Threat, right: Arm, after: Threat
) -> Interval:
    """The advantage at ``right`` less that at ``left``."""
    weak, strong = _direct(evidence, left, before), _direct(evidence, right, after)
    if weak and strong and (weak.measure, weak.chance) == (strong.measure, strong.chance):
        return _scaled(evidence.difference(strong, weak), 1 - weak.chance)
    return separate(before.advantage, after.advantage)


def _direct(evidence: Evidence, arm: Arm, threat: Threat) -> Estimate | None:
    """The estimate behind a threat; None where it is damage, which compares two trainings."""
    found = evidence.select(
        lambda e: (
            e.arm == arm
            and (e.attack, e.name, e.condition) == (threat.attack, threat.metric, threat.condition)
            and reads_attack(e)
        )
    )
    return found[0] if found else None


def separate(before: Interval, after: Interval) -> Interval:
    """Difference of two estimates that are not paired, from their intervals."""
    value = after.value - before.value
    down = math.hypot(after.value - after.low, before.high - before.value)
    up = math.hypot(after.high - after.value, before.value - before.low)
    return Interval(value, value - down, value + up, min(before.n, after.n))


def _scaled(difference: Interval, unit: float) -> Interval:
    """A difference in units of something positive; nothing known where that is not."""
    if not unit > 0:
        return Interval(math.nan, math.nan, math.nan, difference.n)
    value, low, high = (x / unit for x in difference[:3])
    return Interval(value, low, high, difference.n)


def _limited(value: float) -> float:
    return value if math.isnan(value) else min(1.0, max(0.0, value))


def _strength(arm: Arm) -> float:
    assert arm.strength is not None
    return arm.strength
