"""The gate's rule: a limit holds if the whole interval is within it, and never without evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.limits import Limit, Limits
from harness.results import Interval
from reports.evidence import Estimate, Evidence
from reports.gates.gaps import FailedCells, Gaps
from reports.gates.quantity import Reading, quantity_text, read_quantity
from reports.gates.selection import Chosen, choose, show
from reports.gates.units import MissingUnits
from reports.missing import CONDITIONAL, MAX_MISSING
from reports.wording import clean, label, metric_name, number

Verdict = Literal["fail", "inconclusive", "pass"]
EXIT_CODES: dict[Verdict, int] = {"fail": 10, "inconclusive": 11, "pass": 0}
MIN_SEEDS = 2
# Values per user are stored in 32 bits; a bound this close to a limit is at it.
ROUNDING = 1e-6
RULE = (
    "A limit passes if the whole 95 % interval satisfies it; an end exactly at the limit (within "
    f"{ROUNDING:g}) does. It fails if the whole interval violates it, or if there is no evidence: "
    f"NaN, no interval, a cell that failed. Otherwise, with under {MIN_SEEDS} seeds, and where "
    f"more than {MAX_MISSING:.0%} of the units have no value (max_missing), it is inconclusive. A "
    f"limit that holds for several estimates counts by the worst of them."
)
_NOTHING = Interval(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Check:
    """One limit held against one estimate.

    Attributes:
        name: the limit's name, or what it demands in words.
        demand: quantity and bound: ``top-1 advantage ≤ 0.05``.
        line: the limit's line in its file; 0 for what no limit asked for.
        subject: system, defence, clients and attack in words.
        interval: the quantity; NaN where there is none.
        seeds: seeds behind it.
        verdict: the rule's word.
        reason: why, in one sentence; empty for a pass.
        slack: how far the interval's worse end is within the limit; negative beyond it.
    """

    name: str
    demand: str
    line: int
    subject: str
    interval: Interval
    seeds: int
    verdict: Verdict
    reason: str
    slack: float = math.nan


@dataclass(frozen=True)
class Outcome:
    """Everything a gate found, the worst first."""

    run: str
    limits: str
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    verdict: Verdict = field(init=False)

    def __post_init__(self) -> None:
        found: set[Verdict] = {check.verdict for check in self.checks}
        worst = (v for v in EXIT_CODES if v in found)
        object.__setattr__(self, "verdict", next(worst, "inconclusive"))

    @property
    def exit_code(self) -> int:
        """The command's exit code: 10, 11 or 0."""
        return EXIT_CODES[self.verdict]

    def count(self, verdict: Verdict) -> int:
        """Checks with this verdict."""
        return sum(check.verdict == verdict for check in self.checks)


def judge_limits(
    limits: Limits,
    evidence: Evidence,
    *,
    run: str,
    unfinished: str = "",
    notes: Sequence[str] = (),
    doubts: Sequence[str] = (),
) -> Outcome:
    """Hold a run's estimates against limits.

    Args:
        limits: the limits.
        evidence: the run's estimates.
        run: the run's name.
        unfinished: why the run is not complete, which makes the gate inconclusive; else empty.
        notes: what the reader should know besides.
        doubts: what of the run is lost or cannot be checked; each makes the gate inconclusive.

    Raises:
        InvalidScenario: a limit selects nothing.
    """
    gaps, units = Gaps(evidence.rows), MissingUnits(evidence)
    checks = [
        c
        for chosen in choose(limits, evidence, gaps)
        for c in _judge(chosen, evidence, gaps, units)
    ]
    if unfinished:
        checks.append(_doubt("the run is complete", "every cell done", run, unfinished))
    checks += [_doubt("the run is whole", "all that was written", run, text) for text in doubts]
    order = list(EXIT_CODES)
    checks.sort(key=lambda c: (order.index(c.verdict), _first_if_nan(c.slack)))
    return Outcome(clean(run), clean(limits.path), tuple(checks), tuple(notes))


def _doubt(name: str, demand: str, run: str, reason: str) -> Check:
    return Check(name, demand, 0, clean(run), _NOTHING, 0, "inconclusive", clean(reason, 500))


def _judge(chosen: Chosen, evidence: Evidence, gaps: Gaps, units: MissingUnits) -> list[Check]:
    checks = [_failed_cell(chosen, group) for group in chosen.failed]
    if chosen.unmeasured and not checks:
        checks.append(_without_estimate(chosen, _selected(chosen.limit), chosen.unmeasured))
    return checks + [_check(chosen, e, evidence, gaps, units) for e in chosen.estimates]


def _check(
    chosen: Chosen, estimate: Estimate, evidence: Evidence, gaps: Gaps, units: MissingUnits
) -> Check:
    limit = chosen.limit
    reading = read_quantity(limit.quantity, estimate, evidence)
    problem = gaps.of(estimate) or reading.problem
    if not problem and reading.baseline is not None:
        below = gaps.of(reading.baseline)
        problem = f"undefended arm: {below}" if below else ""
    verdict, reason = verdict_of(limit, reading, problem)
    shrunk = shrunk_sample(
        limit, [estimate, *([reading.baseline] if reading.baseline else [])], units
    )
    if shrunk and verdict != "fail":
        verdict, reason = "inconclusive", "; ".join(filter(None, (shrunk, reason)))
    demand = demand_text(limit, estimate.name)
    subject = subject_text(estimate, evidence)
    return Check(
        limit.name or demand, demand, chosen.line, subject, reading.interval, reading.seeds,
        verdict, clean(reason, 300), _slack(limit, reading.interval),
    )  # fmt: skip


def shrunk_sample(limit: Limit, rests_on: Sequence[Estimate], units: MissingUnits) -> str:
    """Why a number rests on too few of its units; empty if it does not."""
    for estimate in rests_on:
        allowed = limit.max_missing
        if allowed is None:
            allowed = 1.0 if estimate.metric in CONDITIONAL else MAX_MISSING
        missing = units.of(estimate)
        if missing.share > allowed:
            whose = "" if estimate is rests_on[0] else "undefended arm: "
            return f"{whose}{missing}, more than {allowed:.0%}"
    return ""


def verdict_of(limit: Limit, reading: Reading, problem: str = "") -> tuple[Verdict, str]:
    """Apply the rule to one reading; ``problem`` says why it is no evidence."""
    low, high = reading.interval.low, reading.interval.high
    if problem or math.isnan(reading.interval.value):
        return "fail", f"no evidence: {problem or 'the value is NaN'}"
    if reading.seeds < MIN_SEEDS:
        return "inconclusive", f"one seed; a gate needs {MIN_SEEDS}"
    if math.isnan(low) or math.isnan(high):
        return "fail", "no evidence: no interval could be computed"
    misses: list[str] = []
    if limit.at_least is not None and _below(low, limit.at_least):
        if _below(high, limit.at_least):
            return "fail", f"wholly below: ends at {_exact(high)}"
        misses.append(f"reaches down to {_exact(low)}")
    if limit.at_most is not None and _below(limit.at_most, high):
        if _below(limit.at_most, low):
            return "fail", f"wholly above: starts at {_exact(low)}"
        misses.append(f"reaches up to {_exact(high)}")
    return ("inconclusive", " and ".join(misses)) if misses else ("pass", "")


def demand_text(limit: Limit, metric: str) -> str:
    """What a limit demands of a metric: ``HR@20 ÷ undefended ≥ 0.95``."""
    bounds = [
        f"{sign} {_exact(bound)}"
        for sign, bound in (("≥", limit.at_least), ("≤", limit.at_most))
        if bound is not None
    ]
    return f"{quantity_text(limit.quantity, metric)} {' and '.join(bounds)}"


def _failed_cell(chosen: Chosen, group: FailedCells) -> Check:
    seeds = f"seed{'s' if len(group.seeds) > 1 else ''} {', '.join(map(str, group.seeds))}"
    poisoning = "" if group.poisoning == "none" else f", {label(group.poisoning)}"
    subject = f"{label(group.system)}, {label(group.defense)}{poisoning}, {seeds}"
    return _without_estimate(chosen, subject, f"the cell failed: {group.reason}")


def _without_estimate(chosen: Chosen, subject: str, reason: str) -> Check:
    select = chosen.limit.select
    k = select.k[0] if len(select.k) == 1 else 0
    names = " or ".join(metric_name(metric, k) for metric in select.metric)
    demand = demand_text(chosen.limit, names)
    return Check(
        chosen.limit.name or demand, demand, chosen.line, subject, _NOTHING, 0, "fail",
        clean(f"no evidence: {reason}", 300),
    )  # fmt: skip


def _selected(limit: Limit) -> str:
    given = limit.select.given()
    texts = [f"{key} {' or '.join(map(show, values))}" for key, values in given.items()]
    return clean(", ".join(t for t in texts if not t.startswith("metric ")) or "any estimate", 200)


def subject_text(estimate: Estimate, evidence: Evidence) -> str:
    """What an estimate is about: system, defence, clients, attack."""
    arm = estimate.arm
    several = len(evidence.datasets(arm.system)) > 1
    parts = [label(arm.system) + (f" on {label(arm.dataset)}" if several else "")]
    parts += [arm.text] if arm.kind != "anchor" else []
    parts.append(estimate.condition.text)
    if estimate.attack not in ("none", estimate.condition.poisoning):
        parts.append(f"by {label(estimate.attack)}")
    return ", ".join(parts)


def _slack(limit: Limit, interval: Interval) -> float:
    rooms = [
        room
        for bound, room in (
            (limit.at_least, interval.low - (limit.at_least or 0.0)),
            (limit.at_most, (limit.at_most or 0.0) - interval.high),
        )
        if bound is not None
    ]
    return min(rooms, key=_first_if_nan)


def _first_if_nan(slack: float) -> float:
    return -math.inf if math.isnan(slack) else slack


def _below(value: float, bound: float) -> bool:
    return value < bound - ROUNDING * max(1.0, abs(bound))


def _exact(value: float) -> str:
    """Enough digits to tell a value from the limit it misses by little."""
    return number(value) if float(f"{value:.3g}") == value else f"{value:.6g}".replace("-", "−")
