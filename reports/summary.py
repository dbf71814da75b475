"""What a reader takes away in a minute: the verdicts, their price, and what was run, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.results import Interval
from reports.evidence import Arm, Evidence, arm_of
from reports.figures import system_title, trade_points
from reports.tables import Cell, Head, Table, interval_cell, verdict_cell
from reports.verdicts import (
    FAILS,
    HOLDS,
    MARGIN,
    ArmVerdict,
    Finding,
    utility_kept,
    utility_measure,
)
from reports.wording import (
    MISSING,
    bounds,
    join_words,
    label,
    metric_name,
    number,
    percent,
    seeds_text,
)

MAX_LOSS = 0.05


def what_was_run(evidence: Evidence) -> str:
    """One sentence: systems, data, attacks, defences, seeds, anchors."""
    rows = evidence.rows
    if not rows:
        return "This run holds no results."
    # A row without a number (a pair that does not meet) names no setting that was run.
    ran = [row for row in rows if row.status == "ok"] or rows
    attacks = dict.fromkeys(a for row in ran for a in (row.attack, row.poisoning) if a != "none")
    defenses = dict.fromkeys(arm_of(row) for row in ran if row.defense != "none")
    systems, anchors = (
        [label(s) for s in dict.fromkeys(row.system for row in rows if row.kind == kind)]
        for kind in ("federated", "anchor")
    )
    datasets = [label(d) for d in dict.fromkeys(row.dataset for row in rows) if d]
    text = join_words(systems) if systems else "No federated system"
    text += f" on {join_words(datasets)}" if datasets else ""
    text += f", under {_count(len(attacks), 'attack')}"
    text += f" and {_count(len(defenses), 'defence setting')}"
    text += f", {seeds_text(len({row.seed for row in rows}))}"
    text += f"; beside {join_words(anchors)} as reference" if anchors else ""
    return text + "."


def takeaways(verdicts: Sequence[ArmVerdict]) -> list[tuple[str, str, list[tuple[str, str, str]]]]:
    """Per system: its overall sentence, then (attack, tone, what stops it and at what price)."""
    systems: dict[str, list[ArmVerdict]] = {}
    for verdict in verdicts:
        systems.setdefault(system_title(verdict.arm), []).append(verdict)
    found = []
    for system, own in systems.items():
        attacks = dict.fromkeys(f.attack for v in own for f in v.findings)
        lines = [(label(a), *_takeaway(own, a)) for a in attacks]
        if lines:
            found.append((system, _overall(own), lines))
    return found


def verdict_tables(verdicts: Sequence[ArmVerdict]) -> list[Table]:
    """Per system: each defence by its worst attack, the strongest of each kind, and the price."""
    tables = []
    for system in dict.fromkeys(system_title(v.arm) for v in verdicts):
        own = [v for v in verdicts if system_title(v.arm) == system]
        body = tuple(_verdict_row(v) for v in own)
        head = (
            Head("defence"),
            Head("verdict", "by the worst attack"),
            Head("decided by", "attack, metric and clients"),
            Head("strongest privacy attack", "advantage over guessing"),
            Head("strongest attack on training", "advantage over guessing"),
            Head("utility kept", "against no defence, paired"),
        )
        tables.append(Table(f"{system}: verdict per defence.", head, body))
    return tables


def price_tables(evidence: Evidence, verdicts: Sequence[ArmVerdict]) -> list[Table]:
    """Per system: what each defence leaves of HR, NDCG and Hit@1, against no defence."""
    tables = []
    for system in dict.fromkeys(system_title(v.arm) for v in verdicts):
        arms = [v.arm for v in verdicts if system_title(v.arm) == system and not v.arm.undefended]
        measures = _price_measures(evidence, arms)
        body = []
        for arm in arms:
            kept = [utility_kept(evidence, arm, m) for m in measures]
            body.append((Cell(arm.text, header=True), *(_share_cell(k) for k in kept)))
        if body and measures:
            head = (Head("defence"), *(Head(metric_name(*m)) for m in measures))
            caption = f"{system}: share kept of each measure (100 % = as without a defence)."
            tables.append(Table(caption, head, tuple(body)))
    return tables


def read_off_table(verdicts: Sequence[ArmVerdict]) -> Table | None:
    """Per defence: the attack left at 5 % utility loss, the utility left at chance + 0.05."""
    body = []
    for system, points in trade_points(verdicts).items():
        families = dict.fromkeys((p.arm.family, p.arm.strength_name) for p in points)
        for family, strength in families:
            own = [p for p in points if (p.arm.family, p.arm.strength_name) == (family, strength)]
            cheap = [p for p in own if p.kept.value >= 1 - MAX_LOSS]
            private = [p for p in own if p.advantage.value <= MARGIN]
            least = min(cheap, key=lambda p: p.advantage.value, default=None)
            most = max(private, key=lambda p: p.kept.value, default=None)
            if own[0].arm.undefended:
                continue
            body.append((
                Cell(system, header=True), Cell(label(family)),
                Cell(number(least.advantage.value), least.arm.text) if least else
                Cell("no setting is this cheap"),
                Cell(percent(most.kept.value), most.arm.text) if most else
                Cell("no setting is this private"),
            ))  # fmt: skip
    if not body:
        return None
    head = (
        Head("system"), Head("defence"),
        Head("attack at ≤ 5 % utility loss", "advantage of the strongest privacy attack"),
        Head(f"utility at chance + {MARGIN:g}", "share kept"),
    )  # fmt: skip
    return Table("Read off the plot above, by the measured points.", head, tuple(body))


def threat_words(evidence: Evidence, manifest: Mapping[str, Any], attack: str) -> str:
    """What an attack's adversary is, sees and knows; from the manifest, else from the rows."""
    stated = manifest.get("threat_models")
    if isinstance(stated, Mapping) and stated.get(attack):
        return str(stated[attack])
    texts = (row.threat_model for row in evidence.rows if row.attack == attack)
    return next((text for text in texts if text), "No threat model was recorded.")


def attacks_of(evidence: Evidence) -> list[str]:
    """Attacks that have at least one number, privacy first."""
    found = evidence.select(lambda e: e.attack != "none")
    ordered = sorted(found, key=lambda e: e.side != "privacy")
    return list(dict.fromkeys(e.attack for e in ordered))


def _overall(verdicts: Sequence[ArmVerdict]) -> str:
    """How many defence settings hold against every attack, and which."""
    tried = [v for v in verdicts if not v.arm.undefended]
    holding = [v.arm.text for v in tried if v.verdict == HOLDS]
    if not tried:
        return "No defence was run on this system."
    if not holding:
        return f"None of {_count(len(tried), 'defence setting')} holds against every attack."
    verb = "holds" if len(holding) == 1 else "hold"
    named = join_words(holding[:3] + ([f"{len(holding) - 3} more"] if len(holding) > 3 else []))
    total = _count(len(tried), "defence setting")
    return f"{len(holding)} of {total} {verb} against every attack: {named}."


def _takeaway(verdicts: Sequence[ArmVerdict], attack: str) -> tuple[str, str]:
    pairs = [(v, f) for v in verdicts for f in v.findings if f.attack == attack]
    base = next((f for v, f in pairs if v.arm.undefended), None)
    holding = [v for v, f in pairs if not v.arm.undefended and f.verdict == HOLDS]
    start = _undefended_words(base)
    if base is not None and base.verdict == HOLDS:
        return "", start
    if holding:
        best = max(holding, key=lambda v: -math.inf if math.isnan(v.kept.value) else v.kept.value)
        price = (
            f", keeping {percent(best.kept.value)} of utility"
            if best.kept.value == best.kept.value
            else ""
        )
        more = f" ({len(holding)} settings hold)" if len(holding) > 1 else ""
        return "good", f"{start} Stopped by {best.arm.text}{price}{more}."
    tested = [f for v, f in pairs if not v.arm.undefended]
    if not tested:
        return "warn", f"{start} No defence was run against it."
    failed = sum(f.verdict == FAILS for f in tested)
    if failed == len(tested):
        return "bad", f"{start} No defence in this run stops it."
    return (
        "warn",
        f"{start} No defence is shown to stop it ({failed} of {len(tested)} settings fail, the "
        "rest is inconclusive).",
    )


def _undefended_words(base: Finding | None) -> str:
    if base is None:
        return "Not run without a defence."
    value = f"{number(base.worst.advantage.value)} {bounds(base.worst.advantage)}"
    if base.verdict == FAILS:
        return f"Succeeds without a defence: advantage {value} ({base.worst.metric})."
    if base.verdict == HOLDS:
        return f"Fails even without a defence: advantage {value} ({base.worst.metric})."
    return f"Unclear without a defence: advantage {value} ({base.worst.metric})."


def _verdict_row(verdict: ArmVerdict) -> tuple[Cell, ...]:
    arm, worst = verdict.arm, verdict.worst
    if worst is None:
        decided = Cell(MISSING, "no attack was measured")
    else:
        clients = "" if worst.worst.condition.clean else f"; {worst.worst.condition.text}"
        detail = f"{worst.worst.metric}{clients}" + (f"; {worst.note}" if worst.note else "")
        decided = Cell(label(worst.attack), detail)
    kept = Cell("100 %", "by definition") if arm.undefended else _share_cell(verdict.kept)
    return (
        Cell(arm.text, header=True), verdict_cell(arm, verdict.verdict), decided,
        _strongest_cell(verdict.strongest("privacy")),
        _strongest_cell(verdict.strongest("robustness")), kept,
    )  # fmt: skip


def _strongest_cell(finding: Finding | None) -> Cell:
    if finding is None:
        return Cell(MISSING)
    cell = interval_cell(finding.worst.advantage)
    seeds = "" if finding.worst.seeds > 1 else ", one seed"
    return Cell(cell.text, f"{label(finding.attack)} {cell.small}{seeds}")


def _share_cell(kept: Interval) -> Cell:
    if math.isnan(kept.value):
        return Cell(MISSING)
    span = "" if math.isnan(kept.low) else f"[{percent(kept.low)}, {percent(kept.high)}]"
    return Cell(percent(kept.value), span)


def _price_measures(evidence: Evidence, arms: Sequence[Arm]) -> list[tuple[str, int, str]]:
    """Utility's own measure first, then the longest NDCG, and both Hit@1."""
    if not arms:
        return []
    own = evidence.select(lambda e: e.arm in arms and e.side == "utility")
    main = utility_measure(evidence, arms[0])
    found = [main] if main else []
    for metric in ("hr", "ndcg", "hit1_all", "hit1_valid", "valid_ratio"):
        measures = {e.measure for e in own if e.metric == metric}
        if measures:
            found.append(max(measures, key=lambda m: (m[2] == "full", m[1])))
    return list(dict.fromkeys(found))


def _count(number_of: int, word: str) -> str:
    return f"{number_of or 'no'} {word}{'' if number_of == 1 else 's'}"
