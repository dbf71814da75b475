"""What was run, the verdict on every defence, and its price, as words and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.results import Interval, Row
from reports.evidence import Arm, Evidence, arm_of
from reports.figures import system_title
from reports.tables import Cell, Head, Measure, Table, interval_cell, verdict_cell
from reports.verdicts import ArmVerdict, Finding, utility_kept, utility_measure
from reports.wording import (
    MISSING,
    count,
    join_words,
    label,
    metric_name,
    percent,
    percent_bounds,
    seeds_text,
)


def what_was_run(rows: Sequence[Row]) -> str:
    """One sentence: systems, data, attacks, defences, seeds, anchors."""
    if not rows:
        return "This run holds no results."
    # A row without a number (a pair that does not meet) names no setting that was run.
    ran = [row for row in rows if row.status == "ok"] or rows
    audits = {row.attack for row in ran if row.metric == "epsilon_audited"}
    attacks = {a for row in ran for a in (row.attack, row.poisoning)} - audits - {"none"}
    arms = dict.fromkeys(arm_of(row) for row in ran if row.defense != "none")
    defenses = [arm for arm in arms if not arm.companion]
    systems, anchors = (
        [label(s) for s in dict.fromkeys(row.system for row in rows if row.kind == kind)]
        for kind in ("federated", "anchor")
    )
    datasets = [label(d) for d in dict.fromkeys(row.dataset for row in rows) if d]
    text = join_words(systems) if systems else "No federated system"
    text += f" on {join_words(datasets)}" if datasets else ""
    text += f", under {count(len(attacks), 'attack')}"
    text += f", {count(len(audits), 'privacy audit')}" if audits else ""
    text += f" and {count(len(defenses), 'defence setting')}"
    text += f", {seeds_text(len({row.seed for row in rows}))}"
    text += f"; beside {join_words(anchors)} as reference" if anchors else ""
    return text + "."


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
        measures = price_measures(evidence, arms)
        kept = {arm: [utility_kept(evidence, arm, m) for m in measures] for arm in arms}
        # A measure without a number on any defence, or without one undefended, says nothing here.
        told = [i for i in range(len(measures))
                if any(not math.isnan(k[i].value) for k in kept.values())]  # fmt: skip
        measures = [measures[i] for i in told]
        body = [(Cell(arm.text, header=True), *(_share_cell(k[i]) for i in told))
                for arm, k in kept.items()]  # fmt: skip
        if body and measures:
            head = (Head("defence"), *(Head(metric_name(*m)) for m in measures))
            caption = f"{system}: share kept of each measure (100 % = as without a defence)."
            tables.append(Table(caption, head, tuple(body)))
    return tables


def price_measures(evidence: Evidence, arms: Sequence[Arm]) -> list[Measure]:
    """What the price is told in: utility's own measure, the longest NDCG, every kind of Hit@1."""
    if not arms:
        return []
    own = evidence.select(lambda e: e.arm in arms and e.side == "utility")
    main = utility_measure(evidence, arms[0])
    found = [main] if main else []
    for metric in ("hr", "ndcg", "hit1", "hit1_all", "hit1_valid", "valid_ratio"):
        measures = {e.measure for e in own if e.metric == metric}
        if measures:
            found.append(
                max(sorted(measures), key=lambda m: (m[2] == "full", m[1], m[2] == "sampled"))
            )
    return list(dict.fromkeys(found))


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
    return Cell(percent(kept.value), percent_bounds(kept))
