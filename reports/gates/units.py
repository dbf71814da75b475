"""How many units the estimates of a run lack, held against what the run's other arms measured."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from reports.evidence import Estimate, Evidence
from reports.missing import CONDITIONAL, OF_THE_UNIT, Missing

_SIDES = frozenset({"utility", "robustness"})


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
