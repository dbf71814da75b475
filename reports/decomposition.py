"""What the price of a defence is made of: its rule, and each effect, such as clip and noise.

A scenario runs such a defence beside itself without its effects, then with one after the other
(`harness.arms.companions_of`). Each step from no defence to the whole is a paired difference over
the same users and seeds; the steps add up to the whole price.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.naming import AND, WITHOUT
from harness.results import Interval
from reports.evidence import Arm, Estimate, Evidence
from reports.figures import system_title
from reports.tables import Cell, Head, Table
from reports.verdicts import find_undefended, utility_measure
from reports.wording import MISSING, bounds, metric_name, number

RULE = "rule"


@dataclass(frozen=True)
class Step:
    """One part of a price.

    Attributes:
        name: ``rule``, or the effect that is added.
        change: utility after it less utility before it, paired.
    """

    name: str
    change: Interval


@dataclass(frozen=True)
class Price:
    """An arm's price, taken apart.

    Attributes:
        arm: whose.
        base: utility without a defence.
        steps: from no defence to the arm; empty where no companion was run.
        left: utility of the arm.
    """

    arm: Arm
    base: Interval
    steps: tuple[Step, ...]
    left: Interval


def prices(evidence: Evidence) -> list[Price]:
    """The price of every arm that has companions, in the order of the report."""
    found = (price_of(evidence, arm) for arm in evidence.arms())
    return [price for price in found if price is not None]


def price_of(evidence: Evidence, arm: Arm) -> Price | None:
    """The price of one arm; None where it has no companions or was not run beside them."""
    base, measure = find_undefended(evidence, arm), utility_measure(evidence, arm)
    chain = companions(evidence, arm)
    if base is None or measure is None or not chain:
        return None
    for condition in evidence.conditions(arm):
        if condition.poisoning != "none":
            continue
        places = [evidence.find(a, condition, measure, "none") for a in (base, *chain, arm)]
        known = [place for place in places if place is not None]
        if len(known) == len(places):
            return Price(arm, known[0].interval, _steps(evidence, chain, known), known[-1].interval)
    return None


def companions(evidence: Evidence, arm: Arm) -> list[Arm]:
    """The arms that lack effects of ``arm``, most first."""
    own = _settings(arm.defense, arm.family)
    found: dict[str, Arm] = {}
    for other in dict.fromkeys(e.arm for e in evidence.estimates):
        same = (other.system, other.dataset) == (arm.system, arm.dataset)
        if same and other.family.startswith(arm.family + WITHOUT):
            settings = _settings(other.defense, other.family)
            if settings <= own:
                found[other.family] = other
    return sorted(found.values(), key=lambda a: -len(_lacks(a)))


def decomposition_tables(evidence: Evidence) -> list[Table]:
    """Per system: what rule, clip and noise cost each defence that declares such parts."""
    tables, found = list[Table](), prices(evidence)
    for title in dict.fromkeys(system_title(price.arm) for price in found):
        own = [price for price in found if system_title(price.arm) == title]
        names = list(dict.fromkeys(step.name for price in own for step in price.steps))
        measure = utility_measure(evidence, own[0].arm)
        assert measure is not None
        head = (
            Head("defence"),
            Head("no defence"),
            *(Head(name, _HELP.get(name, "added to what stands before it")) for name in names),
            Head("with all of it"),
        )
        rows = tuple(_row(price, names) for price in own)
        caption = (
            f"{title}: what the price in {metric_name(*measure)} is made of (paired differences)."
        )
        tables.append(Table(caption, head, rows))
    return tables


def change_words(step: Step) -> str:
    """One step in words: ``noise −0.012 [−0.020, −0.003]``."""
    return f"{step.name} {signed(step.change.value)} {bounds(step.change)}"


def signed(value: float) -> str:
    """A difference with its sign, three digits after the point."""
    if math.isnan(value):
        return MISSING
    return f"{value:+.3f}".replace("-", "−")


_HELP = {
    RULE: "its aggregation, without its other parts, against no defence",
    "clip": "updates bounded, still without noise",
    "noise": "at this budget, on top of rule and clip",
}


def _steps(
    evidence: Evidence, chain: Sequence[Arm], places: Sequence[Estimate]
) -> tuple[Step, ...]:
    lacking = [*(_lacks(arm) for arm in chain), ()]
    names = [RULE]
    for before, after in pairwise(lacking):
        names.append(AND.join(name for name in before if name not in after))
    changes = [evidence.difference(after, before) for before, after in pairwise(places)]
    return tuple(Step(name, change) for name, change in zip(names, changes, strict=True))


def _lacks(arm: Arm) -> tuple[str, ...]:
    """The effects that a companion is without."""
    return tuple(arm.family.split(WITHOUT, 1)[1].split(AND))


def _settings(defense: str, family: str) -> set[str]:
    """The swept settings in an arm's label."""
    return {text for text in re.split(r" (?=\w+=)", defense[len(family) :]) if text}


def _row(price: Price, names: Sequence[str]) -> tuple[Cell, ...]:
    changes = {step.name: step.change for step in price.steps}
    return (
        Cell(price.arm.text, header=True),
        _cell(price.base, number(price.base.value)),
        *(
            _cell(changes[name], signed(changes[name].value)) if name in changes else Cell(MISSING)
            for name in names
        ),
        _cell(price.left, number(price.left.value)),
    )


def _cell(interval: Interval, text: str) -> Cell:
    return Cell(text, bounds(interval))
