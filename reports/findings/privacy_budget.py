"""What ε does differential privacy need before gradient inversion is at chance?"""

from __future__ import annotations

import math

from reports.decomposition import Price, change_words, prices
from reports.evidence import Arm, Evidence
from reports.findings.answer import Answer, kept, shown
from reports.verdicts import HOLDS, ArmVerdict, Finding, judge, utility_measure
from reports.wording import MISSING, join_words, label, number, percent

_HEAD = ("system", "defence", "claimed ε", "strongest inversion", "its advantage", "verdict",
         "utility kept")  # fmt: skip
_PARTS = "of the price in HR@20"
_PARTS_EXPLAINED = (
    "The price is taken apart by two more trainings of each defence: its rule without clip and "
    "noise, and with the clip alone; each step is a paired difference, and they add up. The "
    "budget sets the last, the noise, alone."
)
_NOISE = ("epsilon", "noise_multiplier")
"""What the strength of each kind of noise is called: central, local."""


def privacy_budget(evidence: Evidence) -> Answer:
    """Answer from the sweep over both kinds of noise."""
    verdicts = [v for v in judge(evidence) if v.arm.undefended or v.arm.strength_name in _NOISE]
    claimed = _claims(evidence)
    parts = {price.arm: price for price in prices(evidence)}
    return Answer(
        question="What ε does DP need before gradient inversion is at chance, and what is left?",
        sentences=tuple(
            _sentence(evidence, verdicts, claimed, system, family)
            for system in dict.fromkeys(v.arm.system for v in verdicts)
            for family in dict.fromkeys(v.arm.family for v in verdicts if not v.arm.undefended)
            if any(v.arm.system == system and v.arm.family == family for v in verdicts)
        ),
        head=(*_HEAD, _PARTS) if parts else _HEAD,
        rows=tuple(
            (
                *_row(evidence, verdict, claimed),
                *([_parts(parts.get(verdict.arm))] if parts else []),
            )
            for verdict in verdicts
        ),
        notes=(
            *_popularity(evidence),
            *([_PARTS_EXPLAINED] if parts else []),
            "Central noise (dp_fedavg) is added by the server, which reads the single updates "
            "before: against a curious server it cannot help at any ε, and it is here to show "
            "that. Local noise (local_dp) is added on the device.",
            "ε is the accountant's, for δ as each scenario states, over all rounds.",
        ),
        runs=("dp_inversion",),
    )


def _popularity(evidence: Evidence) -> list[str]:
    """What a recommender reaches that learns nothing of anybody, as a share of each system."""
    measure = ("hr", 20, "full")
    found = {
        e.arm.system: e.interval.value
        for e in evidence.select(lambda e: e.measure == measure and e.condition.clean)
        if e.arm.undefended
    }
    counted = found.pop("popularity", math.nan)
    shares = [
        f"{percent(counted / found[arm.system])} of {label(arm.system)}'s"
        for arm in evidence.arms()
        if arm.undefended and found.get(arm.system)
    ]
    if math.isnan(counted) or not shares:
        return []
    return [
        f"Ranking items by popularity keeps {join_words(shares)} HR@20: what is not above that was "
        "learned from nobody."
    ]


def _claims(evidence: Evidence) -> dict[tuple[str, str], float]:
    return {
        (row.system, row.defense): row.epsilon
        for row in evidence.rows
        if not math.isnan(row.epsilon)
    }


def _parts(price: Price | None) -> str:
    """Rule, clip and noise of one arm's price; a dash where it was not taken apart."""
    return MISSING if price is None else "; ".join(change_words(step) for step in price.steps)


def _inversion(verdict: ArmVerdict) -> Finding | None:
    return verdict.strongest("privacy")


def _row(
    evidence: Evidence, verdict: ArmVerdict, claimed: dict[tuple[str, str], float]
) -> tuple[str, ...]:
    arm, found = verdict.arm, _inversion(verdict)
    measure = utility_measure(evidence, arm)
    return (
        label(arm.system),
        arm.text,
        number(claimed.get((arm.system, arm.defense), math.nan)),
        f"{label(found.attack)}, {found.worst.metric}" if found else MISSING,
        shown(found.worst.advantage) if found else MISSING,
        found.verdict if found else MISSING,
        kept(evidence, arm, measure) if measure else MISSING,
    )


def _sentence(
    evidence: Evidence,
    verdicts: list[ArmVerdict],
    claimed: dict[tuple[str, str], float],
    system: str,
    family: str,
) -> str:
    own = [v for v in verdicts if v.arm.system == system and v.arm.family == family]
    holding = [v for v in own if all(f.verdict == HOLDS for f in _privacy(v)) and _privacy(v)]

    def budget(arm: Arm) -> float:
        return claimed.get((arm.system, arm.defense), math.nan)

    if not holding:
        least = min((budget(v.arm) for v in own), default=math.nan)
        return (
            f"**{label(system)}, {family}**: none of {len(own)} strengths, down to ε = "
            f"{number(least)}, brings every inversion to chance."
        )
    best = max(holding, key=lambda v: budget(v.arm))
    measure = utility_measure(evidence, best.arm)
    left = kept(evidence, best.arm, measure) if measure else MISSING
    return (
        f"**{label(system)}, {family}**: the largest ε that brings every inversion to chance is "
        f"{number(budget(best.arm))} ({best.arm.text}); {left} of the utility is left there."
    )


def _privacy(verdict: ArmVerdict) -> list[Finding]:
    return [f for f in verdict.findings if f.side == "privacy"]
