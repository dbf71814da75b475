"""Which single defence is best under its strongest attacker?"""

from __future__ import annotations

from reports.evidence import Evidence
from reports.findings.answer import Answer, shown
from reports.findings.answer import share as share_of
from reports.verdicts import ArmVerdict, Finding, judge
from reports.wording import MISSING, count, join_words, label

_HEAD = ("defence", "strongest attacker", "its advantage", "verdict", "strongest attack on privacy",
         "strongest attack on training", "not run against", "HR@20 kept")  # fmt: skip

_SIDES = (("privacy", "what the server can read"), ("robustness", "attacks on the training"))


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
    holding = [v for v in tried if v.verdict == "holds"]
    said = [
        f"{len(holding) or 'None'} of {count(len(tried), 'single defence setting')} holds against "
        "every attack that was run on it."
    ]
    for side, words in _SIDES:
        pairs = [(v, f) for v in tried if (f := v.strongest(side)) is not None]
        base = next((v.strongest(side) for v in ordered if v.arm.undefended), None)
        if pairs and base:
            best, finding = min(pairs, key=lambda p: p[1].worst.advantage.value)
            said.append(
                f"Against {words}, {best.arm.text} leaves its strongest attacker "
                f"({label(finding.attack)}) the least: an advantage of "
                f"{shown(finding.worst.advantage)}, without a defence "
                f"{shown(base.worst.advantage)} ({label(base.attack)})."
            )
    return said
