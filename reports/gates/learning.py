"""Limits proposed from a run: the bounds its intervals reached, with a margin, as commented YAML.

Proposed are the utility that each defence keeps, the attacks that it demonstrably weakens, the
power of each attack without a defence (an attack that broke would make every defence look good),
and the undefended systems' utility. What the run does not support is listed with the reason.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from harness.limits import Quantity
from harness.reading.scalar import plain_scalar
from harness.results import Interval
from reports.evidence import Estimate, Evidence
from reports.gates.judging import MIN_SEEDS, subject_text
from reports.gates.quantity import read_quantity
from reports.gates.selection import Value, facts
from reports.verdicts import find_undefended, reads_attack, utility_measure
from reports.wording import bounds, clean, number, seeds_text

WIDTH = 96
_STEPS = 10_000  # limits are rounded to four decimals, away from the run's bound
_PLAIN = re.compile(r"[^\W\d_](?:[\w .%+()=-]*[\w.%+()=-])?")


class Proposal(NamedTuple):
    """One limit, or the reason why there is none (then ``bound`` is NaN)."""

    estimate: Estimate
    quantity: Quantity
    side: str
    bound: float
    interval: Interval
    seeds: int
    missing: str = ""


def propose(evidence: Evidence, run: str, margin: float) -> str | None:
    """Return the text of a limits file that the run passes; None if it supports no limit.

    Args:
        evidence: the run's estimates.
        run: its name.
        margin: room between a limit and the bound that was reached, in the quantity's own unit.
    """
    sections = [
        ("Utility that each defence keeps, as a share of the undefended arm's.",
         list(_kept(evidence, margin))),
        ("Attacks that a defence weakens: their advantage (0 guessing, 1 certain) stays below.",
         list(_weakened(evidence, margin))),
        ("Attacks keep their power without a defence; else nothing above means anything.",
         list(_powerful(evidence, margin))),
        ("The undefended systems stay as good as they are.", list(_utility(evidence, margin))),
    ]  # fmt: skip
    if all(p.missing for _, found in sections for p in found):
        return None
    lines = [*_header(run, margin), "schema: 1", f"name: {_scalar(run)}", "limits:"]
    for title, found in sections:
        lines += ["", f"  # {title}"] if found else []
        for proposal in found:
            lines += _lines(proposal, evidence)
    return "\n".join(lines) + "\n"


def _header(run: str, margin: float) -> list[str]:
    return [
        f"# Limits proposed from the run {_comment(run)}: the 95 % bounds it reached, moved by a "
        "margin",
        f"# of {margin:g}. Keep what you promise, tighten it, delete the rest. Then check a run:",
        "#   python -m harness gate RUN --limits THIS_FILE",
    ]


def _kept(evidence: Evidence, margin: float) -> Iterator[Proposal]:
    for estimate in _utilities(evidence):
        if not estimate.arm.undefended:
            yield _at_least("ratio", estimate, evidence, margin)


def _utility(evidence: Evidence, margin: float) -> Iterator[Proposal]:
    for estimate in _utilities(evidence):
        if estimate.arm.undefended:
            yield _at_least("value", estimate, evidence, margin)


def _weakened(evidence: Evidence, margin: float) -> Iterator[Proposal]:
    for estimate in evidence.select(lambda e: reads_attack(e) and not e.arm.undefended):
        found = read_quantity("advantage", estimate, evidence)
        reached = found.interval.high
        base = find_undefended(evidence, estimate.arm)
        bare = base and evidence.find(base, estimate.condition, estimate.measure, estimate.attack)
        missing = _no_evidence(estimate, found.interval, found.seeds)
        if not missing and bare is None:
            missing = "not measured without the defence"
        elif not missing and bare and not estimate.interval.high < bare.interval.low:
            missing = f"no weaker than without the defence, {number(bare.interval.value)}"
        elif not missing and reached + margin >= 1:
            missing = "the limit would allow certainty"
        bound = math.ceil((reached + margin) * _STEPS) / _STEPS if not missing else math.nan
        yield Proposal(
            estimate, "advantage", "at_most", bound, found.interval, found.seeds, missing
        )


def _powerful(evidence: Evidence, margin: float) -> Iterator[Proposal]:
    """The strongest reading of each attack on each undefended arm."""
    strongest: dict[object, Proposal] = {}
    for estimate in evidence.select(lambda e: reads_attack(e) and e.arm.undefended):
        proposal = _at_least("advantage", estimate, evidence, margin)
        place = estimate.arm, estimate.condition, estimate.attack
        if place not in strongest or _rank(proposal) > _rank(strongest[place]):
            strongest[place] = proposal
    yield from strongest.values()


def _rank(proposal: Proposal) -> float:
    return -math.inf if proposal.missing else proposal.bound


def _utilities(evidence: Evidence) -> Iterator[Estimate]:
    """The measure that stands for utility, of every federated arm under every condition."""
    for arm in evidence.arms():
        measure = utility_measure(evidence, arm)
        for condition in evidence.conditions(arm):
            found = measure and evidence.find(arm, condition, measure, "none")
            if found:
                yield found


def _at_least(
    quantity: Quantity, estimate: Estimate, evidence: Evidence, margin: float
) -> Proposal:
    found = read_quantity(quantity, estimate, evidence)
    missing = found.problem or _no_evidence(estimate, found.interval, found.seeds)
    bound = math.nan
    if not missing:
        bound = math.floor((found.interval.low - margin) * _STEPS) / _STEPS
        missing = "" if bound > 0 else "the limit would be 0 or less"
    return Proposal(estimate, quantity, "at_least", bound, found.interval, found.seeds, missing)


def _no_evidence(estimate: Estimate, interval: Interval, seeds: int) -> str:
    if any(math.isnan(value) for value in (*estimate.values.values(), interval.value)):
        return "NaN"
    if seeds < MIN_SEEDS:
        return seeds_text(seeds)
    return "no interval" if math.isnan(interval.low + interval.high) else ""


def _lines(proposal: Proposal, evidence: Evidence) -> list[str]:
    estimate, interval = proposal.estimate, proposal.interval
    what = f"{subject_text(estimate, evidence)}: {estimate.name} {proposal.quantity}"
    found = f"{number(interval.value)} {bounds(interval)}, {seeds_text(proposal.seeds)}"
    if proposal.missing:
        text = _comment(f"not proposed: {what} {found}: {proposal.missing}")
        return textwrap.wrap(text, WIDTH, initial_indent="  # ", subsequent_indent="  #   ")
    return [
        f"  - select: {_mapping(_selector(estimate))}",
        f"    quantity: {proposal.quantity}",
        f"    {proposal.side}: {proposal.bound:.4f}  # {found}",
    ]


def _selector(estimate: Estimate) -> list[tuple[str, Value]]:
    """Keys that single an estimate out; a defence's label says its strength already."""
    known = facts(estimate)
    del known["strength"]
    optional: dict[str, Value] = {"k": 0, "protocol": "", "dataset": ""}
    return [(key, value) for key, value in known.items() if value != optional.get(key)]


def _mapping(entries: Sequence[tuple[str, Value]]) -> str:
    """A flow mapping, broken between entries."""
    lines, indent = [""], " " * len("  - select: {")
    for index, (key, value) in enumerate(entries):
        comma = "," if index < len(entries) - 1 else "}"
        entry = f"{key}: {_scalar(value)}{comma}"
        if lines[-1] and len(indent) + len(lines[-1]) + len(entry) > WIDTH:
            lines.append("")
        lines[-1] += f" {entry}" if lines[-1] else entry
    return "{" + f"\n{indent}".join(lines)


def _scalar(value: Value) -> str:
    """A scalar that the project's reader reads as this very value."""
    if not isinstance(value, str):
        return repr(value)
    try:
        plain = bool(_PLAIN.fullmatch(value)) and plain_scalar(value) == value
    except ValueError:
        plain = False
    if plain:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return re.sub(r"[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\ufeff",
                  lambda found: f"\\u{ord(found[0]):04x}", quoted)  # fmt: skip


def _comment(text: str) -> str:
    return " ".join(clean(text, 300).split())
