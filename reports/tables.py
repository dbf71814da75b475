"""The tables of the report as plain data: headers, cells and captions; no HTML here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.results import Interval, Row
from reports.choosers import beside_popularity
from reports.evidence import Arm, Condition, Estimate, Evidence, arm_of
from reports.verdicts import ArmVerdict, Finding
from reports.wording import (
    METRICS,
    MISSING,
    bounds,
    clean,
    join_words,
    label,
    metric_help,
    metric_name,
    number,
)


@dataclass(frozen=True)
class Cell:
    """One cell: the text, a smaller second line, a tone for colour, and whether it names a row."""

    text: str
    small: str = ""
    tone: str = ""
    header: bool = False


@dataclass(frozen=True)
class Head:
    """A column's name and what it means."""

    text: str
    help: str = ""


@dataclass(frozen=True)
class Table:
    """A table; ``folded`` tables start closed in the page."""

    caption: str
    head: tuple[Head, ...]
    rows: tuple[tuple[Cell, ...], ...]
    folded: bool = False


Measure = tuple[str, int, str]
_SPENT = ("seconds", "peak_memory_mb")
_Extra = Callable[[Arm], Sequence[Cell]]


def utility_tables(evidence: Evidence) -> list[Table]:
    """One table per data set and condition; the anchors stand in each of them."""
    found = evidence.select(_utility_column)
    tables = []
    for dataset in dict.fromkeys(e.arm.dataset for e in found):
        own = [e for e in found if e.arm.dataset == dataset]
        anchors = [e for e in own if e.arm.kind == "anchor"]
        trained = [e for e in own if e.arm.kind != "anchor"]
        conditions = _by_harm({e.condition for e in trained}) or _by_harm(
            {e.condition for e in anchors}
        )
        for place, condition in enumerate(conditions):
            here = [e for e in trained if e.condition == condition]
            caption = f"Clients: {condition.text}." + (
                f" Data: {label(dataset)}." if dataset else ""
            )
            tables.append(_matrix(evidence, anchors + here, caption, folded=place > 0))
    return tables


def attack_tables(evidence: Evidence, verdicts: Sequence[ArmVerdict], attack: str) -> list[Table]:
    """What one attack reached on each system: every metric, every defence, every condition."""
    findings = {(f.arm, f.attack): f for v in verdicts for f in v.findings}
    found = evidence.select(lambda e: e.attack == attack)
    tables = []
    for dataset, system in dict.fromkeys((e.arm.dataset, e.arm.system) for e in found):
        own = [e for e in found if (e.arm.dataset, e.arm.system) == (dataset, system)]
        caption = label(system) + (f" on {label(dataset)}." if dataset else ".")
        tables.append(
            _matrix(
                evidence, own, caption, extra_head=(Head("advantage", "worst"), Head("verdict")),
                extra=lambda arm: _finding_cells(findings.get((arm, attack))), with_system=False,
            )
        )  # fmt: skip
    return tables


def not_run(rows: Sequence[Row]) -> Table | None:
    """What has no number and why: not applicable, skipped, failed, or not measurable."""
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        if row.status != "ok" or math.isnan(row.value):
            status = row.status if row.status != "ok" else "not measurable"
            what = row.attack if row.attack != "none" else metric_name(row.metric)
            groups.setdefault((status, row.system, what, row.reason), []).append(row)
    body = []
    for (status, system, what, reason), group in groups.items():
        defenses = list(dict.fromkeys(arm_of(row).text for row in group))
        shown = join_words(defenses) if len(defenses) <= 3 else f"{len(defenses)} settings"
        tone = {"failed": "bad", "not measurable": "warn"}.get(status, "")
        body.append((
            Cell(label(system), header=True), Cell(label(what)), Cell(shown),
            Cell(status, tone=tone), Cell(clean(reason, 300) or "no reason was recorded"),
            Cell(str(len(group))),
        ))  # fmt: skip
    head = ("system", "attack or metric", "under", "status", "why", "rows")
    caption = f"Rows without a number, by cause ({len(body)})."
    return Table(caption, tuple(map(Head, head)), tuple(body), len(body) > 12) if body else None


def cost_table(evidence: Evidence) -> Table | None:
    """Bytes, time and memory of each arm; time and memory as recorded with its rows."""
    costs = evidence.select(lambda e: e.side == "cost")
    spent: dict[Arm, list[Row]] = {}
    for row in evidence.rows:
        if row.status == "ok":
            spent.setdefault(arm_of(row), []).append(row)
    measures = _measures(costs)
    by_place = {(e.arm, e.measure): e for e in reversed(costs)}
    body, known = [], bool(costs)
    for arm in evidence.arms("anchor") + evidence.arms():
        extremes = [_largest([getattr(r, f) for r in spent[arm]]) for f in _SPENT]
        known = known or not all(math.isnan(x) for x in extremes)
        found = [by_place.get((arm, m)) for m in measures]
        line = [_value_cell(e) if e else Cell(MISSING) for e in found]
        line += [Cell(number(x)) for x in extremes]
        body.append((Cell(label(arm.system), header=True), Cell(_arm_text(arm)), *line))
    head = [Head("system"), Head("defence"), *(_measure_head(m) for m in measures)]
    head += [Head("slowest stage, s"), Head("peak memory, MB")]
    return Table("Cost per arm, mean over seeds.", tuple(head), tuple(body)) if known else None


def interval_cell(interval: Interval, tone: str = "") -> Cell:
    """A value over its interval."""
    return Cell(number(interval.value), bounds(interval), tone)


def _matrix(
    evidence: Evidence,
    estimates: Sequence[Estimate],
    caption: str,
    *,
    extra_head: Sequence[Head] = (),
    extra: _Extra | None = None,
    with_system: bool = True,
    folded: bool = False,
) -> Table:
    """Arms and conditions down, measures across, a line with the chance levels on top."""
    measures = _measures(estimates)
    order = {a: i for i, a in enumerate(evidence.arms("anchor") + evidence.arms())}
    places = sorted(
        {(e.arm, e.condition) for e in estimates},
        key=lambda p: (order[p[0]], p[1].poisoning, p[1].malicious, p[1].noisy),
    )
    show_condition = not with_system and len({c for _, c in places}) > 1
    lead = [Head("system")] if with_system else []
    lead += [Head("defence")] + ([Head("clients")] if show_condition else []) + [Head("seeds")]
    body = [_chance_row(estimates, measures, len(lead), len(extra_head))]
    by_place = {(e.arm, e.condition, e.measure): e for e in estimates}
    for arm, condition in places:
        line = [Cell(label(arm.system), header=True)] if with_system else []
        line.append(Cell(_arm_text(arm), header=not with_system))
        line += [Cell(condition.text)] if show_condition else []
        own = [by_place.get((arm, condition, m)) for m in measures]
        line.append(Cell(str(max(len(e.cells) for e in own if e))))
        line += [_value_cell(e) if e else Cell(MISSING) for e in own]
        body.append((*line, *(extra(arm) if extra else ())))
    head = (*lead, *(_measure_head(m) for m in measures), *extra_head)
    methods = " or ".join(sorted({e.method for e in estimates}))
    return Table(f"{caption} Intervals: 95 %, {methods}.", head, tuple(body), folded)


def _chance_row(
    estimates: Sequence[Estimate], measures: Sequence[Measure], lead: int, tail: int
) -> tuple[Cell, ...]:
    cells = [Cell("guessing (chance)", header=True, tone="chance")]
    cells += [Cell("", tone="chance")] * (lead - 1)
    for measure in measures:
        levels = [e.chance for e in estimates if e.measure == measure and not math.isnan(e.chance)]
        texts = list(dict.fromkeys(number(x) for x in (min(levels), max(levels)))) if levels else []
        cells.append(Cell(" to ".join(texts) or MISSING, tone="chance"))
    return (*cells, *[Cell("", tone="chance")] * tail)


def _value_cell(estimate: Estimate) -> Cell:
    n = f"n {estimate.interval.n:,}"
    span = bounds(estimate.interval)
    return Cell(number(estimate.interval.value), n if span == MISSING else f"{span} {n}")


def _finding_cells(finding: Finding | None) -> tuple[Cell, Cell]:
    if finding is None:
        return Cell(MISSING), Cell(MISSING)
    return interval_cell(finding.worst.advantage), verdict_cell(finding.arm, finding.verdict)


def verdict_cell(arm: Arm, verdict: str) -> Cell:
    """A verdict in words and colour; without a defence there is nothing that could hold."""
    if arm.undefended:
        words = {"does not hold": "exposed", "holds": "attack fails"}.get(verdict, verdict)
        return Cell(words, tone="bad" if words == "exposed" else "")
    tones = {"holds": "good", "does not hold": "bad", "inconclusive": "warn"}
    return Cell(verdict, tone=tones.get(verdict, ""))


def _largest(values: Sequence[float]) -> float:
    return max((v for v in values if not math.isnan(v)), default=math.nan)


def _measures(estimates: Sequence[Estimate]) -> list[Measure]:
    """Measures in the order newcomers meet them, then by K."""
    known = list(METRICS)

    def order(measure: Measure) -> tuple[int, str, str, int]:
        metric, k, protocol = measure
        return known.index(metric) if metric in known else len(known), metric, protocol, k

    return sorted({e.measure for e in estimates}, key=order)


def _measure_head(measure: Measure) -> Head:
    return Head(metric_name(*measure), metric_help(measure[0]))


def _utility_column(estimate: Estimate) -> bool:
    """Utility, and ER@K beside it: the promoted item's exposure in the same table."""
    own = estimate.side == "utility" and not beside_popularity(estimate.metric)
    return own or estimate.metric == "er"


def _by_harm(conditions: set[Condition]) -> list[Condition]:
    return sorted(
        conditions, key=lambda c: (c.poisoning != "none", c.poisoning, c.malicious, c.noisy)
    )


def _arm_text(arm: Arm) -> str:
    return "anchor" if arm.kind == "anchor" else arm.text
