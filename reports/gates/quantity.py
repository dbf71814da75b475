"""The quantities that a limit can bound, each with its interval and its number of seeds."""

from __future__ import annotations

import math
from typing import NamedTuple

from harness.limits import Quantity
from harness.results import Interval
from reports.evidence import Estimate, Evidence
from reports.verdicts import find_undefended, normalised

_NOTHING = Interval(math.nan, math.nan, math.nan, 0)


class Reading(NamedTuple):
    """A quantity of one estimate.

    Attributes:
        interval: NaN where it could not be computed.
        seeds: seeds behind it.
        baseline: the undefended estimate that it is compared with, if it is.
        problem: why it could not be computed; empty if it was.
    """

    interval: Interval
    seeds: int
    baseline: Estimate | None = None
    problem: str = ""


def read_quantity(quantity: Quantity, estimate: Estimate, evidence: Evidence) -> Reading:
    """Compute a quantity; what does not exist is NaN with a reason."""
    if quantity == "value":
        return Reading(estimate.interval, len(estimate.values))
    if quantity in ("ratio", "difference"):
        return _compared(quantity, estimate, evidence)
    return _over_chance(quantity, estimate)


def quantity_text(quantity: Quantity, name: str) -> str:
    """The quantity of a metric in words: ``top-1 advantage``."""
    return {
        "value": name,
        "above_chance": f"{name} − chance",
        "advantage": f"{name} advantage",
        "ratio": f"{name} ÷ undefended",
        "difference": f"{name} − undefended",
    }[quantity]


def _over_chance(quantity: Quantity, estimate: Estimate) -> Reading:
    raw, chance = estimate.interval, estimate.chance
    if math.isnan(chance):
        return Reading(_NOTHING, 0, problem="the metric has no chance level")
    if quantity == "above_chance":
        shifted = Interval(raw.value - chance, raw.low - chance, raw.high - chance, raw.n)
        return Reading(shifted, len(estimate.values))
    if not 0 <= chance < 1:
        problem = f"no advantage: its chance level, {chance:.6g}, is not between 0 and 1"
        return Reading(_NOTHING, 0, problem=problem)
    return Reading(normalised(raw, chance), len(estimate.values))


def _compared(quantity: Quantity, estimate: Estimate, evidence: Evidence) -> Reading:
    arm = find_undefended(evidence, estimate.arm)
    base = arm and evidence.find(arm, estimate.condition, estimate.measure, estimate.attack)
    if base is None:
        where = f"with {estimate.condition.text} clients"
        return Reading(_NOTHING, 0, problem=f"the undefended arm was not measured {where}")
    seeds = len(estimate.cells.keys() & base.cells.keys())
    if not seeds:
        return Reading(_NOTHING, 0, base, "it shares no seed with the undefended arm")
    compare = evidence.ratio if quantity == "ratio" else evidence.difference
    interval = compare(estimate, base)
    lost = math.isnan(interval.value) and quantity == "ratio"
    return Reading(interval, seeds, base, "the undefended arm's mean is 0 or NaN" if lost else "")
