"""The minute at the top: which defence stops which attack, and at what price; the worst first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.results import Interval
from reports.evidence import Arm, Condition, Evidence
from reports.figures import system_title
from reports.summary import price_measures
from reports.verdicts import (
    FAILS,
    HOLDS,
    NOISY_CLIENTS,
    ArmVerdict,
    Finding,
    find_undefended,
    utility_kept,
)
from reports.wording import (
    bounds,
    count,
    join_words,
    label,
    metric_help,
    metric_name,
    number,
    percent,
    percent_bounds,
    settled,
)

_SEVERITY = ("bad", "warn", "good", "")
_TOLD = ("hr", "ndcg", "hit1", "hit1_all")


@dataclass(frozen=True)
class Takeaway:
    """One attack in plain words.

    Attributes:
        attack: its name.
        tone: ``bad``, ``warn``, ``good`` or empty, for colour.
        answer: two or three words that say the same as the colour.
        exposure: what it reaches without a defence.
        outcome: which defence stops it, or how near the best one comes.
        price: what that defence leaves of HR, NDCG and Hit@1; empty without one.
    """

    attack: str
    tone: str
    answer: str
    exposure: str
    outcome: str
    price: str


@dataclass(frozen=True)
class SystemTakeaways:
    """One system: a sentence on all defences, then every attack, the worst first."""

    system: str
    overall: str
    attacks: tuple[Takeaway, ...]


def takeaways(evidence: Evidence, verdicts: Sequence[ArmVerdict]) -> list[SystemTakeaways]:
    """What to take away of each system; the system with the worst attack first."""
    systems: dict[str, list[ArmVerdict]] = {}
    for verdict in verdicts:
        systems.setdefault(system_title(verdict.arm), []).append(verdict)
    found: list[tuple[tuple[int, float], SystemTakeaways]] = []
    for system, own in systems.items():
        attacks = dict.fromkeys(f.attack for v in own for f in v.findings)
        lines = sorted((_ranked(evidence, own, a) for a in attacks), key=lambda pair: pair[0])
        if lines:
            told = tuple(line for _, line in lines)
            found.append((lines[0][0], SystemTakeaways(system, _overall(own), told)))
    return [system for _, system in sorted(found, key=lambda pair: pair[0])]


def _ranked(
    evidence: Evidence, verdicts: Sequence[ArmVerdict], attack: str
) -> tuple[tuple[int, float], Takeaway]:
    """A takeaway and its place: unstopped before stopped, then by what it reaches undefended."""
    pairs = [(v, f) for v in verdicts for f in v.findings if f.attack == attack]
    base = next((f for v, f in pairs if v.arm.undefended), None)
    tried = [(v, f) for v, f in pairs if not v.arm.undefended]
    tone, answer = _answer(base, [f for _, f in tried])
    outcome, price = _outcome(evidence, base, tried)
    strongest = base or max((f for _, f in pairs), key=lambda f: f.worst.advantage.value)
    told = Takeaway(label(attack), tone, answer, _exposure(evidence, base), outcome, price)
    return (_SEVERITY.index(tone), -strongest.worst.advantage.value), told


def _answer(base: Finding | None, tried: Sequence[Finding]) -> tuple[str, str]:
    if base is not None and base.verdict == HOLDS:
        return "", "harmless here"
    if any(f.verdict == HOLDS for f in tried):
        return "good", "stopped"
    if not tried:
        return "warn", "no defence tried"
    if all(f.verdict == FAILS for f in tried):
        return "bad", "not stopped"
    return "warn", "not shown to be stopped"


def _exposure(evidence: Evidence, base: Finding | None) -> str:
    """What the attack reaches without a defence, in the words of its metric."""
    if base is None:
        return "It was not run without a defence."
    threat = base.worst
    clients = _clients(threat.condition, base.attack)
    if threat.metric.endswith(" lost"):
        loss = f"{percent(threat.raw.value)} {percent_bounds(threat.raw)}"
        who = "they cost" if base.attack == NOISY_CLIENTS else "it costs"
        return f"Without a defence {who} {loss} of {threat.metric.removesuffix(' lost')}{clients}."
    known = next((e for e in evidence.estimates if e.name == threat.metric), None)
    words = metric_help(known.metric) if known else ""
    if known and known.k:
        words = words.replace("first K", f"first {known.k}")
    meaning = f" ({words})" if words else ""
    return (
        f"Without a defence {threat.metric}{meaning} is {number(threat.raw.value)} "
        f"{bounds(threat.raw)}, by guessing {number(threat.chance)}{clients}."
    )


def _clients(condition: Condition, attack: str) -> str:
    """Who the clients were; the attack in question need not be named again."""
    parts = []
    if condition.malicious:
        own = condition.poisoning in ("none", attack)
        by = "" if own else f" ({label(condition.poisoning)})"
        parts.append(f"{percent(condition.malicious)} malicious{by}")
    if condition.noisy:
        parts.append(f"{percent(condition.noisy)} noisy")
    return f" (clients: {join_words(parts)})" if parts else ""


def _outcome(
    evidence: Evidence, base: Finding | None, tried: Sequence[tuple[ArmVerdict, Finding]]
) -> tuple[str, str]:
    """The sentence on the defences, and the price of the one it names."""
    if base is not None and base.verdict == HOLDS:
        return "It needs no defence here.", ""
    if not tried:
        return "No defence was run against it.", ""
    total = count(len(tried), "setting")
    holding = [(v, f) for v, f in tried if f.verdict == HOLDS]
    if holding:
        verdict, finding = max(holding, key=lambda pair: _at_least(pair[0].kept))
        verb = "stops" if len(holding) == 1 else "stop"
        which = "It is" if len(holding) == 1 else "Cheapest:"
        text = f"{len(holding)} of {total} {verb} it. {which} {verdict.arm.text}, which leaves"
    else:
        verdict, finding = min(tried, key=lambda pair: _at_most(pair[1].worst.advantage))
        failed = sum(f.verdict == FAILS for _, f in tried)
        text = f"{_none_of(tried, failed, total)} Nearest: {verdict.arm.text}, which leaves"
    left = settled(finding.worst.advantage)
    text = f"{text} an advantage of {number(left.value)} {bounds(left)}."
    return text, _price(evidence, verdict.arm)


def _none_of(tried: Sequence[tuple[ArmVerdict, Finding]], failed: int, total: str) -> str:
    if failed == len(tried):
        return f"None of {total} stops it." if failed > 1 else "The only setting run fails."
    reasons = dict.fromkeys(f.note for _, f in tried if f.verdict != FAILS and f.note)
    why = f" ({join_words(list(reasons))})" if reasons else ""
    rest = len(tried) - failed
    return f"Of {total}, {failed or 'none'} fail and {rest} cannot be judged{why}."


def _price(evidence: Evidence, arm: Arm) -> str:
    """``It keeps 99.9 % of HR@20 [..], ...``; says plainly what was not measured."""
    if find_undefended(evidence, arm) is None:
        return "Its price is not known: the system was not run without a defence."
    parts = []
    for measure in price_measures(evidence, [arm]):
        kept = utility_kept(evidence, arm, measure)
        if measure[0] in _TOLD and not math.isnan(kept.value):
            parts.append(f"{percent(kept.value)} of {metric_name(*measure)} {percent_bounds(kept)}")
    return f"It keeps {join_words(parts)}." if parts else "Its price in utility was not measured."


def _overall(verdicts: Sequence[ArmVerdict]) -> str:
    """How many settings hold against every attack that was run on them, and what was not run."""
    tried = [v for v in verdicts if not v.arm.undefended]
    if not tried:
        return "No defence was run on this system."
    total = count(len(tried), "defence setting")
    holding = [v for v in tried if v.verdict == HOLDS]
    if not holding:
        return f"None of {total} holds against every attack that was run on it."
    verb = "holds" if len(holding) == 1 else "hold"
    names = [v.arm.text for v in holding[:3]]
    names += [f"{len(holding) - 3} more"] if len(holding) > 3 else []
    base = next((v for v in verdicts if v.arm.undefended), None)
    exposed = [f.attack for f in base.findings if f.verdict != HOLDS] if base else []
    faced = [{f.attack for f in v.findings} for v in holding]
    spared = [label(a) for a in exposed if not all(a in own for own in faced)]
    gap = f" Not all of them faced {join_words(spared)}." if spared else ""
    every = "every attack that was run on it" if len(holding) == 1 else "every attack run on them"
    return f"{len(holding)} of {total} {verb} against {every}: {join_words(names)}.{gap}"


def _at_least(kept: Interval) -> float:
    """What is surely kept; nothing known is the worst."""
    return -math.inf if math.isnan(kept.low) else kept.low


def _at_most(advantage: Interval) -> float:
    """What the attack surely stays below; nothing known is the worst."""
    return math.inf if math.isnan(advantage.high) else advantage.high
