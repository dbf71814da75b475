"""What a run should have measured and did not: failed cells, attacks that declined, NaN."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from harness.limits import Selector
from harness.results import Row
from reports.evidence import Arm, Condition, Estimate, arm_of


class FailedCells(NamedTuple):
    """Cells of one arm under one poisoning attack that failed for one reason."""

    system: str
    dataset: str
    defense: str
    poisoning: str
    reason: str
    seeds: tuple[int, ...]


class Gaps:
    """The rows of a run that carry no number although one was due."""

    def __init__(self, rows: Sequence[Row]) -> None:
        failed: dict[tuple[str, str, str, str, str], list[int]] = {}
        self._declined: dict[tuple[Arm, Condition, str], str] = {}
        self._nan: dict[tuple[str, str, str, int, str], str] = {}
        self._times: Counter[tuple[Arm, Condition, str, tuple[str, int, str], int]] = Counter()
        for row in rows:
            if row.status == "ok":
                condition = Condition(row.poisoning, row.malicious, row.noisy)
                measure = row.metric, row.k, row.protocol
                self._times[arm_of(row), condition, row.attack, measure, row.seed] += 1
            if row.status == "failed":
                place = row.system, row.dataset, row.defense, row.poisoning, row.reason
                failed.setdefault(place, []).append(row.seed)
            elif row.status != "ok" and row.cell:
                # A row of the plan, for what makes no sense or was left out, names no cell.
                condition = Condition(row.poisoning, row.malicious, row.noisy)
                self._declined[arm_of(row), condition, row.attack] = row.reason
            elif row.status == "ok" and math.isnan(row.value):
                self._nan[row.cell, row.attack, row.metric, row.k, row.protocol] = row.reason
        self.failed = [FailedCells(*place, tuple(seeds)) for place, seeds in failed.items()]

    def failed_under(self, selector: Selector) -> list[FailedCells]:
        """Failed cells that a selector covers; their rows name no metric and no inference."""
        given = selector.given()
        keys = ("system", "dataset", "defense", "poisoning")
        return [
            group
            for group in self.failed
            if all(getattr(group, key) in given.get(key, (getattr(group, key),)) for key in keys)
        ]

    def declined_under(self, selector: Selector) -> str:
        """Why attacks that a selector covers read nothing in any cell; empty if none declined."""
        given = selector.given()
        for (arm, condition, attack), reason in self._declined.items():
            known: dict[str, str | float] = {
                "system": arm.system,
                "dataset": arm.dataset,
                "defense": arm.defense,
                "poisoning": condition.poisoning,
                "malicious": condition.malicious,
                "noisy": condition.noisy,
                "attack": attack,
            }
            if all(value in given.get(key, (value,)) for key, value in known.items()):
                return reason
        return ""

    def of(self, estimate: Estimate) -> str:
        """Why an estimate is no evidence: a seed that is NaN, double, or declined; else ''."""
        place = estimate.arm, estimate.condition, estimate.attack, estimate.measure
        for seed, value in sorted(estimate.values.items()):
            if self._times[*place, seed] > 1:
                return f"{self._times[*place, seed]} rows of seed {seed} measure the same"
            if math.isnan(value):
                key = estimate.cells[seed], estimate.attack, *estimate.measure
                return f"NaN in seed {seed}: {self._nan.get(key) or 'no reason was recorded'}"
        declined = self._declined.get((estimate.arm, estimate.condition, estimate.attack))
        return f"not measured in every seed: {declined}" if declined else ""
