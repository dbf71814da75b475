"""Does a defence hold? The rule, applied to the worst attack and never to a mean over attacks.

An attack's *advantage* is where it stands between guessing (0) and certainty (1):
``(value - chance) / (1 - chance)`` for what an adversary infers or pushes, and the share of utility
lost for an attack on utility. The rule is stated in :data:`RULE` and printed in the report.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.results import Interval
from reports.evidence import Arm, Condition, Estimate, Evidence

MARGIN = 0.05
NOISY_CLIENTS = "noisy clients"
# Recall alone is won by claiming everything; cosine says nothing about who can be identified; a
# canary is the worst case that a privacy budget allows to show, within the budget.
NOT_A_SUCCESS = frozenset({"recall", "cosine", "canary_margin"})
RULE = (
    f"A defence holds against an attack if the 95 % interval of the attack's advantage ends at or "
    f"below {MARGIN:g}, at least two seeds were run, and the same attack succeeds without the "
    f"defence. It does not hold if the interval lies wholly above {MARGIN:g}. Otherwise the run is "
    f"inconclusive. An attack with several metrics counts by the worst of them, and a defence by "
    f"the worst of its attacks."
)

HOLDS, FAILS, INCONCLUSIVE, UNTESTED = "holds", "does not hold", "inconclusive", "untested"


@dataclass(frozen=True)
class Threat:
    """One metric's reading of one attack on one arm, as an advantage over chance."""

    attack: str
    side: str
    metric: str
    condition: Condition
    raw: Interval
    chance: float
    advantage: Interval
    seeds: int


@dataclass(frozen=True)
class Finding:
    """The verdict on one arm under one attack, by its worst metric and condition."""

    arm: Arm
    attack: str
    side: str
    worst: Threat
    verdict: str
    note: str


@dataclass(frozen=True)
class ArmVerdict:
    """The verdict on one arm: its worst finding; None where no attack was measured."""

    arm: Arm
    verdict: str
    worst: Finding | None
    findings: tuple[Finding, ...]
    kept: Interval

    def strongest(self, side: str) -> Finding | None:
        """The finding of one side with the largest advantage."""
        found = [f for f in self.findings if f.side == side]
        return max(found, key=lambda f: f.worst.advantage.value, default=None)


def normalised(raw: Interval, chance: float) -> Interval:
    """Map chance to 0 and certainty to 1."""
    scale = 1 - chance
    return Interval(
        (raw.value - chance) / scale, (raw.low - chance) / scale, (raw.high - chance) / scale, raw.n
    )


def utility_measure(evidence: Evidence, arm: Arm) -> tuple[str, int, str] | None:
    """The measure that stands for a system's utility: full HR at the largest K, else Hit@1."""
    own = evidence.select(
        lambda e: e.arm.system == arm.system and e.arm.dataset == arm.dataset and _is_utility(e)
    )
    for metric, protocol in (
        ("hr", "full"),
        ("hr", "sampled"),
        ("ndcg", "full"),
        ("hit1_all", "sampled"),
        ("hit1_all", "popularity"),
        ("hit1_all", ""),
    ):
        found = {e.measure for e in own if e.metric == metric and e.protocol == protocol}
        if found:
            return max(found, key=lambda m: m[1])
    return None


def baseline_condition(evidence: Evidence, arm: Arm) -> Condition | None:
    """The cleanest condition in which an arm was trained."""
    return next(iter(evidence.conditions(arm)), None)


def undefended(arm: Arm) -> Arm:
    """The same system on the same data without a defence."""
    return replace(arm, defense="none", family="none", strength=None, strength_name="")


def find_undefended(evidence: Evidence, arm: Arm) -> Arm | None:
    """The run's own undefended arm of the same system, if it has one."""
    for other in evidence.arms():
        if other.undefended and (other.system, other.dataset) == (arm.system, arm.dataset):
            return other
    return None


def utility_kept(
    evidence: Evidence, arm: Arm, measure: tuple[str, int, str] | None = None
) -> Interval:
    """Utility as a share of the undefended system's, in the cleanest condition both have."""
    base = find_undefended(evidence, arm)
    measure = measure or utility_measure(evidence, arm)
    nothing = Interval(math.nan, math.nan, math.nan, 0)
    if base is None or measure is None:
        return nothing
    for condition in evidence.conditions(arm):
        treated = evidence.find(arm, condition, measure, "none")
        baseline = evidence.find(base, condition, measure, "none")
        if treated and baseline:
            return evidence.ratio(treated, baseline)
    return nothing


def threats(evidence: Evidence, arm: Arm) -> list[Threat]:
    """Every reading of every attack on an arm."""
    return _direct_threats(evidence, arm) + _damage_threats(evidence, arm)


def judge(evidence: Evidence) -> list[ArmVerdict]:
    """Verdicts on all federated arms."""
    arms = evidence.arms()
    readings = {arm: threats(evidence, arm) for arm in arms}
    verdicts = []
    for arm in arms:
        base = find_undefended(evidence, arm)
        findings = []
        for attack in dict.fromkeys(t.attack for t in readings[arm]):
            own = [t for t in readings[arm] if t.attack == attack]
            unprotected = [t for t in readings[base] if t.attack == attack] if base else []
            findings.append(_finding(arm, own, unprotected))
        verdicts.append(_arm_verdict(evidence, arm, findings))
    return verdicts


def reads_attack(estimate: Estimate) -> bool:
    """Whether an estimate says how well an attack does, on a scale from chance to certainty."""
    inert = estimate.side == "robustness" and not estimate.condition.poisoned
    return (
        estimate.side in ("privacy", "robustness")
        and not inert
        and estimate.attack != "none"
        and estimate.better == "lower"
        and estimate.metric not in NOT_A_SUCCESS
        and not math.isnan(estimate.interval.value)
        and 0 <= estimate.chance < 1
    )


def _is_utility(estimate: Estimate) -> bool:
    return estimate.side == "utility" and not math.isnan(estimate.interval.value)


def _direct_threats(evidence: Evidence, arm: Arm) -> list[Threat]:
    """What an adversary infers or pushes, judged against guessing."""
    found = []
    for e in evidence.select(lambda e: e.arm == arm and reads_attack(e)):
        scale = normalised(e.interval, e.chance)
        threat = Threat(
            e.attack, e.side, e.name, e.condition, e.interval, e.chance, scale, len(e.cells)
        )
        found.append(threat)
    return found


def _damage_threats(evidence: Evidence, arm: Arm) -> list[Threat]:
    """Utility lost to bad clients, against the same arm without them."""
    measure = utility_measure(evidence, arm)
    conditions = evidence.conditions(arm)
    found = []
    for condition in conditions:
        reference = _reference(conditions, condition)
        if measure is None or reference is None:
            continue
        hurt = evidence.find(arm, condition, measure, "none")
        fine = evidence.find(arm, reference, measure, "none")
        if hurt is None or fine is None:
            continue
        kept = evidence.ratio(hurt, fine)
        if math.isnan(kept.value):
            continue
        loss = Interval(1 - kept.value, 1 - kept.high, 1 - kept.low, kept.n)
        attack = condition.poisoning if condition.poisoned else NOISY_CLIENTS
        seeds = len(hurt.cells.keys() & fine.cells.keys())
        name = f"{hurt.name} lost"
        found.append(Threat(attack, "robustness", name, condition, loss, 0.0, loss, seeds))
    return found


def _reference(conditions: list[Condition], condition: Condition) -> Condition | None:
    """The condition that differs from this one by its bad clients only."""
    honest = [c for c in conditions if not c.malicious and c.poisoning == "none"]
    if condition.poisoned:
        same = [c for c in honest if c.noisy == condition.noisy]
        return (same or honest or [None])[0]
    if condition.noisy and not condition.malicious:
        return next((c for c in honest if not c.noisy), None)
    return None


def _finding(arm: Arm, own: list[Threat], unprotected: list[Threat]) -> Finding:
    worst = worst_of(own)
    verdict, note = _raw_verdict(worst), ""
    if not arm.undefended and verdict == HOLDS:
        power = _raw_verdict(worst_of(unprotected)) if unprotected else None
        if power == HOLDS:
            verdict, note = UNTESTED, "the attack is at chance even without a defence"
        elif power != FAILS:
            verdict, note = INCONCLUSIVE, "not shown that the attack succeeds without the defence"
        elif worst.seeds < 2:
            verdict, note = INCONCLUSIVE, "one seed"
    return Finding(arm, worst.attack, worst.side, worst, verdict, note)


def _raw_verdict(threat: Threat) -> str:
    low, high = threat.advantage.low, threat.advantage.high
    if low > MARGIN:
        return FAILS
    return HOLDS if high <= MARGIN else INCONCLUSIVE


def worst_of(found: Sequence[Threat]) -> Threat:
    """A proven success with the largest advantage, else the reading that can least be ruled out."""
    proven = [t for t in found if t.advantage.low > MARGIN]
    if proven:
        return max(proven, key=lambda t: t.advantage.value)
    return max(found, key=lambda t: math.inf if math.isnan(t.advantage.high) else t.advantage.high)


def _arm_verdict(evidence: Evidence, arm: Arm, findings: list[Finding]) -> ArmVerdict:
    order = (FAILS, INCONCLUSIVE, HOLDS, UNTESTED)
    worst = min(
        findings,
        key=lambda f: (order.index(f.verdict), -f.worst.advantage.value),
        default=None,
    )
    kept = utility_kept(evidence, arm)
    return ArmVerdict(arm, worst.verdict if worst else UNTESTED, worst, tuple(findings), kept)
