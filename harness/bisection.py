"""Where a sweep over strength gets its next point: halfway between the two that differ most.

A phase transition falls between two strengths of a grid, and the grid alone cannot say where. Each
step parts the neighbours between which something changes most, as long as the change is worth it
and more than noise. What is measured decides, and nothing else: the same results give the same
strengths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.metrics.interval import Interval

if TYPE_CHECKING:
    from harness.reading.ranges import StrengthRange


class Change(NamedTuple):
    """How one quantity differs between two neighbouring strengths.

    Attributes:
        low: the smaller strength.
        high: the larger one.
        system: on what it was measured.
        what: the quantity: an attack's label, or ``utility kept``.
        metric: what it was read by.
        before: its value at ``low``, from 0 to 1; NaN where there is none.
        after: its value at ``high``.
        difference: after less before, with a 95 % interval over seeds and users.
    """

    low: float
    high: float
    system: str
    what: str
    metric: str
    before: float
    after: float
    difference: Interval

    @property
    def size(self) -> float:
        """Absolute change on the scale from 0 to 1; NaN where a value is missing."""
        return abs(self.after - self.before)

    @property
    def shown(self) -> bool:
        """Whether it is more than noise: its interval leaves no change out."""
        return self.difference.low > 0 or self.difference.high < 0


class Proposal(NamedTuple):
    """A strength to measure next.

    Attributes:
        strength: the middle of the change's neighbours.
        change: why.
    """

    strength: float
    change: Change


def next_strength(
    wanted: StrengthRange, measured: Sequence[float], changes: Sequence[Change]
) -> Proposal | str:
    """Return the strength to measure next, or in words why there is none.

    Of the changes above the threshold and above noise, those within one threshold of the largest
    count as equal, and the pair that was halved least often is parted: two transitions of about
    the same height share the strengths. Then the larger change wins, then the smaller strength.

    Args:
        wanted: the range.
        measured: every strength measured so far.
        changes: between neighbours among them, for every quantity on every system.
    """
    used = len(set(measured)) - wanted.points
    if used >= wanted.refine:
        return f"all {wanted.refine} further strengths are used"
    known = [c for c in changes if not math.isnan(c.size)]
    if not known:
        return "nothing has a number at two neighbouring strengths"
    large = [c for c in known if c.size > wanted.threshold]
    if not large:
        return f"between neighbours, nothing changes by more than {wanted.threshold:g}"
    shown = [c for c in large if c.shown]
    if not shown:
        return f"no change above {wanted.threshold:g} is more than its 95 % interval explains"
    parted = [
        Proposal(middle, c) for c in shown if (middle := wanted.between(c.low, c.high)) is not None
    ]
    if not parted:
        return "the neighbours with a change are too near to be parted"
    largest = max(p.change.size for p in parted)
    equal = [p for p in parted if p.change.size >= largest - wanted.threshold]
    return min(equal, key=lambda p: (wanted.halvings(p.change.low, p.change.high), *_order(p)))


def _order(proposal: Proposal) -> tuple[float, float, str, str]:
    change = proposal.change
    return -change.size, change.low, change.system, change.what
