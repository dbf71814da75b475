"""What of a measure one run has and the other lost: users without a value, and seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reports.comparison_run import Block, RunRow
from reports.missing import CONDITIONAL, MAX_MISSING
from reports.wording import join_words, metric_name


@dataclass(frozen=True)
class Lost:
    """Units (users, items, uploads) and seeds of a measure that are not in both runs.

    Attributes:
        in_a: units that B alone has a value for, over the seeds compared.
        in_b: units that A alone has a value for.
        neither: units of either run that neither has a value for.
        of: units of either run.
        seeds_a: seeds that B alone measured.
        seeds_b: seeds that A alone measured.
    """

    in_a: int = 0
    in_b: int = 0
    neither: int = 0
    of: int = 0
    seeds_a: tuple[int, ...] = ()
    seeds_b: tuple[int, ...] = ()

    def also(self, left: Block, right: Block) -> Lost:
        """Add the units of one more seed."""
        have_a, have_b = (block.units[~np.isnan(block.values)] for block in (left, right))
        either, units = np.union1d(have_a, have_b), np.union1d(left.units, right.units)
        return replace(
            self,
            in_a=self.in_a + len(np.setdiff1d(have_b, have_a)),
            in_b=self.in_b + len(np.setdiff1d(have_a, have_b)),
            neither=self.neither + len(units) - len(either),
            of=self.of + len(units),
        )

    def share(self, side: str) -> float:
        """Part of the units that ``A`` or ``B`` lost."""
        return (self.in_a if side == "A" else self.in_b) / self.of if self.of else 0.0

    def too_many_in(self, metric: str) -> str:
        """The run that lost so much that the rest is another sample; empty if none did."""
        if metric in CONDITIONAL or max(self.share("A"), self.share("B")) <= MAX_MISSING:
            return ""
        return "A" if self.share("A") > self.share("B") else "B"

    @property
    def words(self) -> str:
        """All of it in words; empty where nothing is lost."""
        counts = (("A", self.in_a), ("B", self.in_b), ("either run", self.neither))
        found = [
            f"{number:,} of {self.of:,} units ({number / self.of:.1%}) have no value in {side}"
            for side, number in counts
            if number
        ]
        for side, seeds in (("A", self.seeds_a), ("B", self.seeds_b)):
            if seeds:
                named = join_words([str(seed) for seed in seeds])
                found.append(f"seed{'s' if len(seeds) > 1 else ''} {named} not in {side}")
        return "; ".join(found)


NOTHING_LOST = Lost()


def lost_seeds(a: Sequence[RunRow], b: Sequence[RunRow]) -> Lost:
    """The seeds of a measure that one run alone has a number for."""
    have_a, have_b = ({row.seed for row in rows if row.measured} for rows in (a, b))
    return Lost(seeds_a=tuple(sorted(have_b - have_a)), seeds_b=tuple(sorted(have_a - have_b)))


def losses(found: Iterable[tuple[RunRow, Lost]]) -> list[str]:
    """One sentence for each run that lost users or seeds of measures that the other has."""
    known = list(found)
    sentences: list[str] = []
    for side in ("A", "B"):
        users = [(lost.share(side), row) for row, lost in known if lost.share(side) > 0]
        if users:
            share, row = max(users, key=lambda entry: entry[0])
            where = row.place.where(row.strength_name)
            sentences.append(
                f"{side} has no value for users or items that the other run measured, in "
                f"{len(users):,} row{'s' if len(users) > 1 else ''}; most: {share:.1%} of "
                f"{metric_name(row.place.metric, row.place.k, row.place.protocol)}, {where}"
            )
        seeds = {s for _, lost in known for s in (lost.seeds_a if side == "A" else lost.seeds_b)}
        rows = sum(bool(lost.seeds_a if side == "A" else lost.seeds_b) for _, lost in known)
        if rows:
            named = join_words([str(seed) for seed in sorted(seeds)])
            sentences.append(f"{side} lacks seeds of the other run ({named}) in {rows:,} rows")
    return sentences
