"""How many units that a number should rest on have no value: no sample shrinks unseen.

Every metric has a value for each of its units (users, items, uploads, canaries), but for two kinds:
some exist for a unit only where the data let them (a user who has had every promoted item can't be
shown one), which holds for every defence alike, and some are conditional by definition (Hit@1 over
valid answers).
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from reports.evidence import Estimate, Evidence

MAX_MISSING = 0.05
"""Largest share of units without a value at which a number passes a gate, unless a limit says."""
OF_THE_UNIT = frozenset({"er", "target_rank", "category_overlap"})
"""Metrics that the data leave undefined for some units, whatever the system and the defence do."""
CONDITIONAL = frozenset({"hit1_valid", "llm_only_hit1_valid", "observed_rank"})
"""Metrics over those units alone for which something happened; another metric counts these."""
_SIDES = frozenset({"utility", "robustness"})


class Missing(NamedTuple):
    """Units without a value, over all seeds.

    Attributes:
        lost: without a value.
        expected: that should have one.
    """

    lost: int
    expected: int

    @property
    def share(self) -> float:
        """Part of the expected; 0 where no values per unit were stored."""
        return self.lost / self.expected if self.expected else 0.0

    def __str__(self) -> str:
        return f"{self.lost:,} of {self.expected:,} units ({self.share:.1%}) have no value"


class MissingUnits:
    """Counts the missing units of a run's estimates."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._valued: dict[tuple[object, ...], set[int]] = defaultdict(set)
        for estimate in evidence.estimates:
            for seed in estimate.cells:
                key = _alike(estimate, seed)
                if key is not None and (block := evidence.block(estimate, seed)) is not None:
                    self._valued[key].update(_valued(block).tolist())

    def of(self, estimate: Estimate) -> Missing:
        """Count an estimate's units; without stored values there is nothing to count."""
        lost = expected = 0
        for seed in estimate.cells:
            block = self._evidence.block(estimate, seed)
            if block is None:
                continue
            have = set(_valued(block).tolist())
            due = set(have) if estimate.metric in OF_THE_UNIT else set(block[0].tolist())
            key = _alike(estimate, seed)
            if key is not None:
                due |= self._valued[key]
            lost, expected = lost + len(due - have), expected + len(due)
        return Missing(lost, expected)


def _valued(block: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return block[0][~np.isnan(block[1])]


def _alike(estimate: Estimate, seed: int) -> tuple[object, ...] | None:
    """What estimates share whose units are the same by design: one system's users of one seed."""
    arm, condition = estimate.arm, estimate.condition
    if estimate.metric in CONDITIONAL or max(condition.malicious, condition.noisy) >= 1:
        return None
    if estimate.side in _SIDES:
        return arm.dataset, arm.system, seed, estimate.metric
    if estimate.metric in OF_THE_UNIT:
        return arm.dataset, arm.system, seed, estimate.metric, condition, estimate.attack
    return None
