"""Rows of single seeds turned into estimates over seeds, with intervals, and into paired ratios.

Intervals use the values per user where they were stored: users are resampled jointly for all seeds,
as the same ones return, and the spread of the seeds is added. Without them, several seeds give
Student's t over the seeds' values, and one seed gives the row's own interval over users. Every
estimate says which of the three it is; one seed never covers what another training would give.
"""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pandas as pd

from harness.naming import WITHOUT
from harness.results import Interval, Row, paired_difference, paired_ratio
from reports.seeds import DRAWS, agrees, over_seed_values, quotient, summary
from reports.wording import clients_text, defense_text, metric_name


@dataclass(frozen=True)
class Condition:
    """What the clients of a training were: the attack inside it and the shares of bad clients."""

    poisoning: str
    malicious: float
    noisy: float

    @property
    def clean(self) -> bool:
        """Nobody malicious and nobody noisy."""
        return self.poisoning == "none" and not self.malicious and not self.noisy

    @property
    def poisoned(self) -> bool:
        """Some clients are malicious."""
        return self.poisoning != "none" and self.malicious > 0

    @property
    def text(self) -> str:
        """The condition in words."""
        return ", ".join(clients_text(self.poisoning, self.malicious, self.noisy)) or "clean"


@dataclass(frozen=True)
class Arm:
    """One system under one defence at one strength; ``strength`` is None where it has none."""

    dataset: str
    system: str
    kind: str
    defense: str
    family: str
    strength: float | None
    strength_name: str

    @property
    def undefended(self) -> bool:
        """No defence at all."""
        return self.defense == "none"

    @property
    def companion(self) -> bool:
        """Another arm without some of its effects, run to tell what the price is made of."""
        return WITHOUT in self.family

    @property
    def text(self) -> str:
        """The defence and its strength in words."""
        return defense_text(self.defense, self.strength_name, self.strength)


@dataclass(frozen=True)
class Estimate:
    """One metric of one arm under one condition, over all its seeds.

    Attributes:
        cells: the cell of each seed.
        values: the row's value of each seed.
        interval: mean over seeds with its interval; ``n`` sums users over seeds.
        method: what the interval covers, in words.
        chance: mean chance level; NaN where there is none.
    """

    arm: Arm
    condition: Condition
    attack: str
    side: str
    metric: str
    k: int
    protocol: str
    better: str
    cells: dict[int, str] = field(hash=False)
    values: dict[int, float] = field(hash=False)
    interval: Interval
    method: str
    chance: float

    @property
    def name(self) -> str:
        """The metric as a reader knows it."""
        return metric_name(self.metric, self.k, self.protocol)

    @property
    def measure(self) -> tuple[str, int, str]:
        """What is measured, whoever it is measured on."""
        return self.metric, self.k, self.protocol


_Samples = dict[tuple[str, str, str, int, str], tuple[np.ndarray, np.ndarray]]
_Place = tuple[Arm, Condition, str, str, str, int, str, str]


class Evidence:
    """All estimates of a run, and ratios between them that are paired over seeds and users."""

    def __init__(self, rows: Sequence[Row], samples: pd.DataFrame) -> None:
        self.rows = rows
        self._samples = _index(samples)
        groups: dict[_Place, list[Row]] = defaultdict(list)
        for row in rows:
            if row.status == "ok":
                groups[_place(row)].append(row)
        self.estimates = [self._estimate(place, group) for place, group in groups.items()]
        self._by_place: dict[tuple[Arm, Condition], list[Estimate]] = defaultdict(list)
        for estimate in self.estimates:
            self._by_place[estimate.arm, estimate.condition].append(estimate)
        self._datasets: dict[str, set[str]] = defaultdict(set)
        for estimate in self.estimates:
            self._datasets[estimate.arm.system].add(estimate.arm.dataset)
        self._compared: dict[tuple[str, int, int], Interval] = {}

    def select(self, test: Callable[[Estimate], bool]) -> list[Estimate]:
        """Estimates that pass a test, in the order of the rows; companions' are left out."""
        return [e for e in self.estimates if not e.arm.companion and test(e)]

    def arms(self, kind: str = "federated") -> list[Arm]:
        """Arms of one kind: by system, no defence first, then families by strength.

        Companions, which are no defences of their own, are left out.
        """
        own = (e.arm for e in self.estimates if e.arm.kind == kind and not e.arm.companion)
        found = dict.fromkeys(own)
        systems = list(dict.fromkeys((a.dataset, a.system) for a in found))
        families = list(dict.fromkeys((a.family, a.strength_name) for a in found))

        def order(arm: Arm) -> tuple[int, bool, int, float, str]:
            place = systems.index((arm.dataset, arm.system))
            family = families.index((arm.family, arm.strength_name))
            return place, not arm.undefended, family, arm.strength or 0.0, arm.defense

        return sorted(found, key=order)

    def datasets(self, system: str) -> set[str]:
        """Data sets that a system was trained on."""
        return self._datasets[system]

    def conditions(self, arm: Arm) -> list[Condition]:
        """Conditions an arm was trained under, the cleanest first."""
        found = dict.fromkeys(c for a, c in self._by_place if a == arm)
        return sorted(found, key=lambda c: (c.poisoning != "none", c.malicious, c.noisy))

    def find(
        self,
        arm: Arm,
        condition: Condition,
        measure: tuple[str, int, str],
        attack: str | None = None,
    ) -> Estimate | None:
        """The estimate of one measure in one place; None where it was not measured."""
        for estimate in self._by_place.get((arm, condition), ()):
            if estimate.measure == measure and attack in (None, estimate.attack):
                return estimate
        return None

    def block(self, estimate: Estimate, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Units and values per unit of one seed; None where none were stored."""
        return self._samples.get(_sample_key(estimate, seed))

    def ratio(self, treated: Estimate, baseline: Estimate) -> Interval:
        """Mean of one estimate over that of another, over the seeds and users both have."""
        key = "ratio", id(treated), id(baseline)
        if key not in self._compared:
            self._compared[key] = self._paired(treated, baseline, paired_ratio, quotient)
        return self._compared[key]

    def difference(self, treated: Estimate, baseline: Estimate) -> Interval:
        """Mean of one estimate less that of another, over the seeds and users both have."""
        key = "difference", id(treated), id(baseline)
        if key not in self._compared:
            self._compared[key] = self._paired(treated, baseline, paired_difference, operator.sub)
        return self._compared[key]

    def _paired(
        self,
        treated: Estimate,
        baseline: Estimate,
        over_users: Callable[..., Interval],
        of_seed: Callable[[float, float], float],
    ) -> Interval:
        seeds = sorted(treated.cells.keys() & baseline.cells.keys())
        pairs = [self._aligned(treated, baseline, seed) for seed in seeds]
        if pairs and all(p is not None for p in pairs):
            parts = zip(*(p for p in pairs if p is not None), strict=True)
            units, above, below = (list(part) for part in parts)
            rng = np.random.default_rng(0)
            return over_users(above, below, rng, units=units, draws=DRAWS)
        found = [of_seed(treated.values[s], baseline.values[s]) for s in seeds]
        return over_seed_values([x for x in found if not math.isnan(x)], len(seeds))

    def _aligned(
        self, treated: Estimate, baseline: Estimate, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        left, right = (self._samples.get(_sample_key(e, seed)) for e in (treated, baseline))
        if left is None or right is None:
            return None
        if not (agrees(left, treated.values[seed]) and agrees(right, baseline.values[seed])):
            return None
        units, first, second = np.intersect1d(left[0], right[0], return_indices=True)
        return (units, left[1][first], right[1][second]) if len(first) else None

    def _estimate(self, place: _Place, group: list[Row]) -> Estimate:
        arm, condition, attack, side, metric, k, protocol, better = place
        cells = {row.seed: row.cell for row in group}
        values = {row.seed: row.value for row in group}
        blocks = [self._samples.get((c, attack, metric, k, protocol)) for c in cells.values()]
        interval, method = summary(group, list(values.values()), blocks)
        chances = [row.chance for row in group if not math.isnan(row.chance)]
        chance = float(np.mean(chances)) if chances else math.nan
        return Estimate(
            arm, condition, attack, side, metric, k, protocol, better, cells, values, interval,
            method, chance,
        )  # fmt: skip


def arm_of(row: Row) -> Arm:
    """The arm a row belongs to."""
    strength = None if math.isnan(row.strength) else row.strength
    return Arm(
        row.dataset, row.system, row.kind, row.defense, row.defense_family, strength,
        row.strength_name,
    )  # fmt: skip


def _place(row: Row) -> _Place:
    condition = Condition(row.poisoning, row.malicious, row.noisy)
    return (
        arm_of(row), condition, row.attack, row.side, row.metric, row.k, row.protocol, row.better,
    )  # fmt: skip


def _sample_key(estimate: Estimate, seed: int) -> tuple[str, str, str, int, str]:
    return (
        estimate.cells[seed], estimate.attack, estimate.metric, estimate.k, estimate.protocol,
    )  # fmt: skip


def _index(samples: pd.DataFrame) -> _Samples:
    """Units and values of each block, found by its key."""
    if samples.empty:
        return {}
    names = ["cell", "attack", "metric", "k", "protocol"]
    units = samples["unit"].to_numpy()
    values = samples["value"].to_numpy(dtype=np.float64)
    found: _Samples = {}
    for key, at in samples.groupby(names, observed=True, sort=False).indices.items():
        cell, attack, metric, k, protocol = cast(tuple[str, str, str, int, str], key)
        found[cell, attack, metric, int(k), protocol] = units[at], values[at]
    return found
