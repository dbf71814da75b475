"""How many units that a number should rest on have no value: no sample shrinks unseen.

Every metric has a value for each of its units (users, items, uploads, canaries), but for two kinds:
some exist for a unit only where the data let them (a user who has had every promoted item can't be
shown one), which holds for every defence alike, and some are conditional by definition (Hit@1 over
valid answers).
"""

from __future__ import annotations

from typing import NamedTuple

MAX_MISSING = 0.05
"""Largest share of units without a value at which a number passes a gate, unless a limit says."""
OF_THE_UNIT = frozenset({"er", "target_rank", "category_overlap"})
"""Metrics that the data leave undefined for some units, whatever the system and the defence do."""
CONDITIONAL = frozenset({"hit1_valid", "llm_only_hit1_valid", "observed_rank"})
"""Metrics over those units alone for which something happened; another metric counts these."""


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
