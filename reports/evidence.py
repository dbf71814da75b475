"""Rows of single seeds turned into estimates over seeds, with intervals, and into paired ratios.

Intervals use the values per user where they were stored (seeds resampled, then users). Without
them, several seeds give Student's t over the seeds' values, and one seed gives the row's own
interval over users. Every estimate says which of the three it is.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pandas as pd
from scipy import stats

from harness.results import Interval, Row, paired_ratio, proportion_over_seeds
from reports.wording import label, metric_name, number, percent, strength_text

DRAWS = 1000
# A stored mean of 32-bit values per user agrees with the row to about this much.
_SAME_MEAN = 1e-4


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
        parts = []
        if self.poisoning != "none":
            parts.append(f"{label(self.poisoning)}, {percent(self.malicious)} malicious")
        elif self.malicious:
            parts.append(f"{percent(self.malicious)} malicious")
        if self.noisy:
            parts.append(f"{percent(self.noisy)} noisy")
        return ", ".join(parts) or "clean"


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
    def text(self) -> str:
        """The defence and its strength in words."""
        if self.undefended:
            return "no defence"
        strength = strength_text(self.strength_name, self.strength)
        shown = "" if self.strength is None else number(self.strength).replace(",", "")
        named = bool(shown) and shown in self.defense.replace(",", "")
        return (
            f"{label(self.defense)}, {strength}" if strength and not named else label(self.defense)
        )


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
        self._ratios: dict[tuple[int, int], Interval] = {}

    def select(self, test: Callable[[Estimate], bool]) -> list[Estimate]:
        """Estimates that pass a test, in the order of the rows."""
        return [e for e in self.estimates if test(e)]

    def arms(self, kind: str = "federated") -> list[Arm]:
        """Arms of one kind: by system, no defence first, then families by strength."""
        found = dict.fromkeys(e.arm for e in self.estimates if e.arm.kind == kind)
        systems = list(dict.fromkeys((a.dataset, a.system) for a in found))
        families = list(dict.fromkeys((a.family, a.strength_name) for a in found))

        def order(arm: Arm) -> tuple[int, bool, int, float, str]:
            place = systems.index((arm.dataset, arm.system))
            family = families.index((arm.family, arm.strength_name))
            return place, not arm.undefended, family, arm.strength or 0.0, arm.defense

        return sorted(found, key=order)

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

    def ratio(self, treated: Estimate, baseline: Estimate) -> Interval:
        """Mean of one estimate over that of another, over the seeds and users both have."""
        key = id(treated), id(baseline)
        if key not in self._ratios:
            self._ratios[key] = self._paired(treated, baseline)
        return self._ratios[key]

    def _paired(self, treated: Estimate, baseline: Estimate) -> Interval:
        seeds = sorted(treated.cells.keys() & baseline.cells.keys())
        pairs = [self._aligned(treated, baseline, seed) for seed in seeds]
        if pairs and all(p is not None for p in pairs):
            sides = zip(*(p for p in pairs if p is not None), strict=True)
            above, below = (list(side) for side in sides)
            return paired_ratio(above, below, np.random.default_rng(0), draws=DRAWS)
        ratios = [
            treated.values[s] / baseline.values[s] if baseline.values[s] else math.nan
            for s in seeds
        ]
        return _over_seed_values([r for r in ratios if not math.isnan(r)], len(seeds))

    def _aligned(
        self, treated: Estimate, baseline: Estimate, seed: int
    ) -> tuple[np.ndarray, np.ndarray] | None:
        sides = [self._samples.get(_sample_key(e, seed)) for e in (treated, baseline)]
        if sides[0] is None or sides[1] is None:
            return None
        _, left, right = np.intersect1d(sides[0][0], sides[1][0], return_indices=True)
        if not len(left):
            return None
        return sides[0][1][left], sides[1][1][right]

    def _estimate(self, place: _Place, group: list[Row]) -> Estimate:
        arm, condition, attack, side, metric, k, protocol, better = place
        cells = {row.seed: row.cell for row in group}
        values = {row.seed: row.value for row in group}
        blocks = [self._samples.get((c, attack, metric, k, protocol)) for c in cells.values()]
        interval, method = _summary(group, list(values.values()), blocks)
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


def _summary(
    group: Sequence[Row],
    values: Sequence[float],
    blocks: Sequence[tuple[np.ndarray, np.ndarray] | None],
) -> tuple[Interval, str]:
    """The mean over seeds and its interval, by the best method the stored values allow."""
    means = [_mean(b[1]) if b is not None else math.nan for b in blocks]
    if all(abs(m - v) <= _SAME_MEAN * max(1.0, abs(v)) for m, v in zip(means, values, strict=True)):
        groups = [b[1] for b in blocks if b is not None]
        found = proportion_over_seeds(groups, np.random.default_rng(0), draws=DRAWS)
        return found, "over seeds and users" if len(groups) > 1 else "over users of one seed"
    n = sum(row.n for row in group)
    if len(values) == 1:
        return Interval(values[0], group[0].low, group[0].high, n), "over users of one seed"
    measured = [v for v in values if not math.isnan(v)]
    return _over_seed_values(measured, n), "over seeds"


def _mean(values: np.ndarray) -> float:
    measured = values[~np.isnan(values)]
    return float(measured.mean()) if len(measured) else math.nan


def _over_seed_values(values: Sequence[float], n: int) -> Interval:
    """Student's t interval over the values of the seeds; NaN bounds with fewer than two."""
    if not values:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan, n)
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half, n)
