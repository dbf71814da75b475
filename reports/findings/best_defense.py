"""Which single defence is best under its strongest attacker?"""

from __future__ import annotations

from reports.evidence import Evidence
from reports.findings.answer import Answer, shown
from reports.findings.answer import share as share_of
from reports.verdicts import HOLDS, ArmVerdict, Finding, judge
from reports.wording import MISSING, count, join_words, label

_HEAD = ("defence", "strongest attacker", "its advantage", "verdict", "strongest attack on privacy",
         "strongest attack on training", "not run against", "HR@20 kept")  # fmt: skip


def best_defense(evidence: Evidence) -> Answer:
    """Answer by the worst attack on each single defence, never by a mean."""
    verdicts = [v for v in judge(evidence) if v.findings]
    every = list(dict.fromkeys(f.attack for v in verdicts for f in v.findings))
    ordered = sorted(verdicts, key=_reach)
    return Answer(
        question="Which single defence is best under its strongest attacker?",
        sentences=tuple(_sentences(ordered)),
        head=_HEAD,
        rows=tuple(_row(verdict, every) for verdict in ordered),
        notes=(
            "Advantage: 0 is guessing, 1 is certainty, or all utility lost. A defence that was not "
            "run against an attack is not credited with stopping it.",
            "Span check and inverse codebook know the defence that runs; the promotion attack is "
            "not fitted to it.",
        ),
        runs=("defenses",),
    )


def _worst(verdict: ArmVerdict) -> Finding:
    return max(verdict.findings, key=lambda f: f.worst.advantage.value)


def _reach(verdict: ArmVerdict) -> float:
    return _worst(verdict).worst.advantage.value


def _row(verdict: ArmVerdict, every: list[str]) -> tuple[str, ...]:
    worst = _worst(verdict)
    faced = {f.attack for f in verdict.findings}
    return (
        verdict.arm.text,
        f"{label(worst.attack)}, {worst.worst.metric}",
        shown(worst.worst.advantage),
        verdict.verdict,
        _told(verdict.strongest("privacy")),
        _told(verdict.strongest("robustness")),
        join_words([label(a) for a in every if a not in faced]) or MISSING,
        share_of(verdict.kept),
    )


def _told(finding: Finding | None) -> str:
    return f"{label(finding.attack)} {shown(finding.worst.advantage)}" if finding else MISSING


def _sentences(ordered: list[ArmVerdict]) -> list[str]:
    tried = [v for v in ordered if not v.arm.undefended]
    holding = [v for v in tried if v.verdict == HOLDS]
    said = [
        f"{len(holding) or 'None'} of {count(len(tried), 'single defence setting')} holds against "
        "every attack that was run on it."
    ]
    base = next((v for v in ordered if v.arm.undefended), None)
    return said + [_against(finding, tried) for finding in (base.findings if base else ())]


def _against(base: Finding, tried: list[ArmVerdict]) -> str:
    """Which setting weakens one attack the most, if any is shown to."""
    start = base.worst.advantage
    text = f"**{label(base.attack)}** has an advantage of {shown(start)} without a defence"
    pairs = [(v, f) for v in tried for f in v.findings if f.attack == base.attack]
    weaker = [(v, f) for v, f in pairs if f.worst.advantage.high < start.low]
    if not weaker:
        return f"{text}; none of {count(len(pairs), 'setting')} is shown to lower it."
    best, finding = min(weaker, key=lambda pair: pair[1].worst.advantage.value)
    return (
        f"{text}; {best.arm.text} lowers it the most, to {shown(finding.worst.advantage)}, and "
        f"keeps {share_of(best.kept)} of HR@20."
    )
