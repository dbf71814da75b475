"""Do counterfactual negatives help against noise, poisoning, inference?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reports.evidence import Arm, Condition, Estimate, Evidence
from reports.findings.answer import Answer, shown
from reports.wording import MISSING, label, number, percent

_STRENGTH = "weight"


class _Column(NamedTuple):
    """One measure in one condition: where helping would show."""

    title: str
    condition: Condition
    attack: str
    measure: tuple[str, int, str]
    better: str


def counterfactuals(evidence: Evidence) -> Answer:
    """Answer by paired differences to the published weight of 1."""
    arms = [a for a in evidence.arms() if a.undefended or a.strength_name == _STRENGTH]
    base = next(arm for arm in arms if arm.undefended)
    columns = _columns(evidence, base)
    return Answer(
        question="Do counterfactual negatives help against noise, poisoning, inference?",
        sentences=tuple(_sentences(evidence, arms, base, columns)),
        head=("weight of the counterfactual view", *(c.title for c in columns)),
        rows=tuple(_row(evidence, arm, base, columns) for arm in arms),
        notes=(
            "Weight 1 is LUMOS as published; 0 leaves the view out of the loss. Other rows give "
            "the paired difference to weight 1 over the same seeds and users.",
        ),
        runs=("defenses",),
    )


def _columns(evidence: Evidence, base: Arm) -> list[_Column]:
    """HR@20 in every condition, exposure where items are promoted, inference on honest clients."""
    found: list[_Column] = []
    for condition in evidence.conditions(base):
        found.append(_Column(f"HR@20, {condition.text}", condition, "none", ("hr", 20, "full"),
                             "higher"))  # fmt: skip
    for estimate in evidence.select(lambda e: e.arm == base):
        promoted = estimate.measure == ("er", 20, "full") and estimate.condition.poisoned
        inferred = estimate.metric in ("auc", "exact_position") and estimate.condition.clean
        if (promoted or inferred) and estimate.attack != "none":
            where = estimate.condition.text if promoted else label(estimate.attack)
            found.append(_Column(f"{estimate.name}, {where}", estimate.condition,
                                 estimate.attack, estimate.measure, "lower"))  # fmt: skip
    return found


def _find(evidence: Evidence, arm: Arm, column: _Column) -> Estimate | None:
    return evidence.find(arm, column.condition, column.measure, column.attack)


def _row(evidence: Evidence, arm: Arm, base: Arm, columns: Sequence[_Column]) -> tuple[str, ...]:
    cells: list[str] = []
    for column in columns:
        own, reference = _find(evidence, arm, column), _find(evidence, base, column)
        if own is None or reference is None:
            cells.append(MISSING)
        elif arm == base:
            cells.append(shown(own.interval))
        else:
            cells.append(_signed(evidence, own, reference))
    return ("1 (published)" if arm == base else number(arm.strength), *cells)


def _signed(evidence: Evidence, own: Estimate, reference: Estimate) -> str:
    difference = evidence.difference(own, reference)
    text = shown(difference)
    text = text if text.startswith(("−", "0 ", MISSING)) else f"+{text}"
    return f"**{text}**" if difference.low > 0 or difference.high < 0 else text


def _sentences(
    evidence: Evidence, arms: Sequence[Arm], base: Arm, columns: Sequence[_Column]
) -> list[str]:
    said: list[str] = []
    for arm in arms:
        if arm == base:
            continue
        better, worse, alike = list[str](), list[str](), 0
        for column in columns:
            own, reference = _find(evidence, arm, column), _find(evidence, base, column)
            if own is None or reference is None:
                continue
            change = evidence.difference(own, reference)
            if change.low <= 0 <= change.high:
                alike += 1
            else:
                gain = (change.value > 0) == (column.better == "higher")
                (better if gain else worse).append(column.title)
        total = len(better) + len(worse) + alike
        text = f"With weight {number(arm.strength)} instead of 1, "
        text += f"{alike} of {total} measures do not differ"
        text += f"; better for the user: {'; '.join(better) or 'none'}"
        text += f"; worse: {'; '.join(worse) or 'none'}."
        said.append(text)
    if columns:
        expected = 1 - 0.95 ** len(columns)
        said.append(
            f"Bold differences exclude 0. Of {len(columns)} true zeros at least one would be bold "
            f"in {percent(expected)} of such tables."
        )
    return said
