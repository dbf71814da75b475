"""Sweeps: what each strength of a defence keeps of utility, and what it leaves to one attack.

A trade-off belongs to one system and one attack. All its points are read with the same clients: a
condition (a share of malicious or noisy clients) that only some of the defences were trained under
would compare them under different circumstances, and counts only where they share none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.results import Interval
from reports.evidence import Arm, Evidence
from reports.figures import system_title
from reports.verdicts import ArmVerdict, Threat, threats, worst_of
from reports.wording import join_words, label, number, strength_text

ALL_PRIVACY = "worst of all privacy attacks"


@dataclass(frozen=True)
class Point:
    """One arm of a trade-off.

    Attributes:
        arm: the defence at one strength.
        threat: the worst reading of the attack.
        kept: utility as a share of the undefended system's.
        pareto: no other point keeps at least as much utility at no more advantage.
    """

    arm: Arm
    threat: Threat
    kept: Interval
    pareto: bool = False

    @property
    def advantage(self) -> Interval:
        """The attack's advantage: 0 is guessing, 1 is certainty or all utility lost."""
        return self.threat.advantage


@dataclass(frozen=True)
class Sweep:
    """The strengths of one defence family, ascending."""

    family: str
    strength_name: str
    points: tuple[Point, ...]

    @property
    def connected(self) -> bool:
        """Neighbouring points differ by their strength, so a line between them means something."""
        strengths = [p.arm.strength for p in self.points]
        return (
            len(strengths) > 1 and None not in strengths and len(set(strengths)) == len(strengths)
        )

    @property
    def name(self) -> str:
        """The family, and its strengths from first to last."""
        first, last = self.points[0].arm, self.points[-1].arm
        if not self.connected:
            return first.text if len(self.points) == 1 else label(self.family)
        symbol = strength_text(first.strength_name, first.strength).split(" =")[0]
        ends = f"{number(first.strength)} to {number(last.strength)}"
        return f"{label(self.family).replace('_', ' ')}, {symbol} {ends}"


@dataclass(frozen=True)
class TradeOff:
    """One attack on one system: the undefended point and the sweep of every defence family.

    Attributes:
        system: the system and its data, in words.
        attack: the attack, or :data:`ALL_PRIVACY`.
        side: ``privacy`` or ``robustness``.
        base: the undefended system; None where it was not measured.
        sweeps: one per defence family.
        left_out: defences without a point, as not every attack in question was run on them.
        clients: who the clients were at every point, in words.
    """

    system: str
    attack: str
    side: str
    base: Point | None
    sweeps: tuple[Sweep, ...]
    left_out: tuple[Arm, ...]
    clients: str

    @property
    def points(self) -> list[Point]:
        """Every point, the undefended one first."""
        return ([self.base] if self.base else []) + [p for s in self.sweeps for p in s.points]


def trade_offs(evidence: Evidence, verdicts: Sequence[ArmVerdict]) -> list[TradeOff]:
    """Every system's trade-offs: first against the worst of its privacy attacks, then each attack.

    An arm without a measured utility has no place in them; a system without a defence has none.
    """
    systems: dict[str, dict[Arm, Interval]] = {}
    for verdict in verdicts:
        if not math.isnan(verdict.kept.value):
            systems.setdefault(system_title(verdict.arm), {})[verdict.arm] = verdict.kept
    return [t for system, kept in systems.items() for t in _of_system(evidence, system, kept)]


def _of_system(evidence: Evidence, system: str, kept: Mapping[Arm, Interval]) -> list[TradeOff]:
    read = {arm: threats(evidence, arm) for arm in kept}
    every = [t for own in read.values() for t in own]
    attacks = dict.fromkeys(t.attack for side in ("privacy", "robustness") for t in every
                            if t.side == side)  # fmt: skip
    # In the order of the rows: the first of two equally strong attacks stands in the figure.
    private = list(dict.fromkeys(t.attack for t in every if t.side == "privacy"))
    shared = {a: _same_clients({arm: [t for t in own if t.attack == a]
                                for arm, own in read.items()}) for a in attacks}  # fmt: skip
    found = []
    if len(private) > 1:
        complete = {
            arm: [t for a in private for t in shared[a][arm]]
            for arm in kept
            if all(arm in shared[a] for a in private)
        }
        found.append(_trade_off(system, ALL_PRIVACY, "privacy", complete, kept))
    for attack in attacks:
        side = "privacy" if attack in private else "robustness"
        found.append(_trade_off(system, attack, side, shared[attack], kept))
    return [t for t in found if t.sweeps]


def _same_clients(read: Mapping[Arm, list[Threat]]) -> dict[Arm, list[Threat]]:
    """Readings under the conditions that all arms share; all readings where they share none."""
    measured = {arm: own for arm, own in read.items() if own}
    conditions = [{t.condition for t in own} for own in measured.values()]
    common = set.intersection(*conditions) if conditions else set()
    if not common:
        return measured
    return {arm: [t for t in own if t.condition in common] for arm, own in measured.items()}


def _trade_off(
    system: str,
    attack: str,
    side: str,
    read: Mapping[Arm, Sequence[Threat]],
    kept: Mapping[Arm, Interval],
) -> TradeOff:
    points = _with_front(Point(a, worst_of(read[a]), kept[a]) for a in kept if a in read)
    base = next((p for p in points if p.arm.undefended), None)
    families: dict[tuple[str, str], list[Point]] = {}
    for p in points:
        if not p.arm.undefended:
            families.setdefault((p.arm.family, p.arm.strength_name), []).append(p)
    sweeps = tuple(
        Sweep(family, name, tuple(sorted(own, key=lambda p: p.arm.strength or 0.0)))
        for (family, name), own in families.items()
    )
    left_out = tuple(arm for arm in kept if arm not in read and not arm.undefended)
    clients = dict.fromkeys(t.condition.text for own in read.values() for t in own)
    return TradeOff(system, attack, side, base, sweeps, left_out, join_words(list(clients)))


def _with_front(points: Iterable[Point]) -> list[Point]:
    """The points with those of the Pareto front marked, by their estimates."""
    found = list(points)
    places = [(p.advantage.value, -p.kept.value) for p in found]
    return [
        replace(p, pareto=not any(_dominates(q, own) for q in places))
        for p, own in zip(found, places, strict=True)
    ]


def _dominates(q: tuple[float, float], p: tuple[float, float]) -> bool:
    return q[0] <= p[0] and q[1] <= p[1] and q != p
