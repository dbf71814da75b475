"""Two runs row by row: what changed from A to B, with paired intervals and a verdict in words.

Rows are matched by what they measure. A difference is B − A, paired over the seeds and users that
both runs have: from the values per user where both runs stored them (users drawn jointly for all
seeds, the spread of the seeds added), else from one difference per seed (Student's t). Without
either there is no verdict. One seed in common covers users only: what is beyond its interval
differs on these two trainings, and neither worse nor better is said, unless both runs share the
training itself.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.results import Interval, Pairs, paired_differences_jointly, student_t
from reports.comparison_lost import NOTHING_LOST, Lost, losses, lost_seeds
from reports.comparison_notes import find_problems
from reports.comparison_run import Block, Place, Run, RunRow, part_of, shared_part
from reports.wording import join_words

WORSE, SAME, BETTER = "worse", "no difference shown", "better"
ONE_TRAINING = "different on these trainings"
NOT_COMPARABLE = "not comparable"
VERDICTS = (WORSE, ONE_TRAINING, SAME, BETTER, NOT_COMPARABLE)
DRAWS = 1000
# A mean of stored 32-bit values agrees with its row to about this share.
_SAME_MEAN = 1e-4
_NOTHING = Interval(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Difference:
    """One measure in one place, in both runs.

    Attributes:
        place: what is measured.
        where: system, data, defence, clients and attack in words.
        a: mean in A over the seeds and users compared; where nothing is, over all of A's seeds.
        b: the same in B.
        interval: B − A; NaN bounds where nothing is paired.
        num_seeds: seeds compared.
        per_user: the interval rests on values per user, not on one value per seed.
        better: the direction that is better for the user and the defender.
        verdict: one of ``VERDICTS``, from the user's and the defender's side.
        reason: why there is no interval; else empty.
        lost_in: ``A`` or ``B`` where only the other run has a number; else empty.
        users_differ: some users were left out because one run only has them.
        lost: units and seeds that are not in both runs.
    """

    place: Place
    where: str
    a: float
    b: float
    interval: Interval
    num_seeds: int
    per_user: bool
    better: str
    verdict: str
    reason: str = ""
    lost_in: str = ""
    users_differ: bool = False
    lost: Lost = NOTHING_LOST

    @property
    def changed(self) -> bool:
        """A difference is shown, or one run only has a number."""
        return self.verdict in (WORSE, ONE_TRAINING, BETTER) or bool(self.lost_in)

    @property
    def basis(self) -> str:
        """What the interval rests on, in words."""
        if self.verdict == NOT_COMPARABLE:
            return ""
        seeds = "1 seed" if self.num_seeds == 1 else f"{self.num_seeds} seeds"
        if not self.per_user:
            return seeds
        text = f"users of {seeds}, n = {self.interval.n}"
        if self.verdict != ONE_TRAINING:
            return text
        way = _direction(self.interval, self.better)
        return f"{text}; {way} on these trainings, training noise not covered"


@dataclass(frozen=True)
class Comparison:
    """All of it, the worst first.

    Attributes:
        a: the run that is the reference.
        b: the run that is judged.
        problems: why the two may not be comparable at all, in words.
        differences: measures that both runs have.
        only_a: rows of A whose measure B lacks.
        only_b: rows of B whose measure A lacks.
    """

    a: Run
    b: Run
    problems: tuple[str, ...]
    differences: tuple[Difference, ...]
    only_a: tuple[RunRow, ...]
    only_b: tuple[RunRow, ...]

    def of(self, verdict: str) -> list[Difference]:
        """Differences of one verdict, the worst first."""
        return [d for d in self.differences if d.verdict == verdict]


@dataclass
class _Paired:
    """Values of a place in both runs, seed by seed; ``users`` is None where none were stored."""

    place: Place
    rows: list[tuple[RunRow, RunRow]]
    users: Pairs | None = None
    means: list[tuple[float, float]] = field(default_factory=list)
    users_differ: bool = False
    lost: Lost = NOTHING_LOST


def compare_runs(a: Run, b: Run, metrics: Collection[str] = ()) -> Comparison:
    """Compare run B with run A.

    Args:
        a: the reference.
        b: the run that is judged.
        metrics: only these, such as ``hr`` (every cut-off) or ``hr@20``; all, if empty.
    """
    wanted = [p for p in {**a.places, **b.places} if _wanted(p, metrics)]
    paired: list[_Paired] = []
    found: list[Difference] = []
    for place in wanted:
        if place in a.places and place in b.places:
            reason, lost_in = _obstacle(a.places[place], b.places[place])
            if reason:
                found.append(_not_comparable(a, b, place, reason, lost_in))
            else:
                paired.append(_pair(a, b, place))
    found += _judged(paired)
    lost = losses((pair.rows[0][0], pair.lost) for pair in paired)
    return Comparison(
        a, b, find_problems(a, b, any(d.users_differ for d in found), lost),
        tuple(sorted(found, key=_severity)),
        tuple(row for p in wanted if p not in b.places for row in a.places[p]),
        tuple(row for p in wanted if p not in a.places for row in b.places[p]),
    )  # fmt: skip


def _wanted(place: Place, metrics: Collection[str]) -> bool:
    return not metrics or place.metric in metrics or f"{place.metric}@{place.k}" in metrics


def _obstacle(a: Sequence[RunRow], b: Sequence[RunRow]) -> tuple[str, str]:
    """Why two sides can't be paired, and which one lost its number; empty if they can."""
    for name, rows in (("A", a), ("B", b)):
        if len({row.seed for row in rows}) < len(rows):
            return f"{name} has several rows of one seed", ""
    both = [*a, *b]
    if len({row.better for row in both}) > 1:
        return "the runs disagree on which direction is better", ""
    missing = [name for name, rows in (("A", a), ("B", b)) if not any(r.measured for r in rows)]
    if missing:
        why = list(dict.fromkeys(row.why_missing for row in both if not row.measured))
        lost = missing[0] if len(missing) == 1 else ""
        return f"no number in {lost or 'either run'} ({'; '.join(why[:2])})", lost
    if not {r.seed for r in a if r.measured} & {r.seed for r in b if r.measured}:
        return f"no seed in common (A: {_seeds(a)}; B: {_seeds(b)})", ""
    return "", ""


def _seeds(rows: Sequence[RunRow]) -> str:
    return join_words([str(seed) for seed in sorted(row.seed for row in rows if row.measured)])


def _pair(a: Run, b: Run, place: Place) -> _Paired:
    others = {row.seed: row for row in b.places[place] if row.measured}
    mine = sorted((r for r in a.places[place] if r.measured), key=lambda row: row.seed)
    pair = _Paired(place, [(row, others[row.seed]) for row in mine if row.seed in others])
    pair.means = [(one.value, other.value) for one, other in pair.rows]
    pair.lost = lost_seeds(a.places[place], b.places[place])
    sides: list[tuple[Block, Block]] = []
    whole = 0
    for one, other in pair.rows:
        left, right = _stored(a, one), _stored(b, other)
        if left is None or right is None:
            return pair
        same = np.array_equal(left.units, right.units)
        stored = left, right
        if not same:
            left, right = shared_part(left, right)
            pair.users_differ |= len(left.units) < max(len(x.units) for x in stored)
        measured = ~np.isnan(right.values - left.values)
        if same and measured.all():
            whole += len(measured)
        else:
            pair.lost = pair.lost.also(*stored)
            if not measured.any():
                return pair
            left, right = (part_of(x, measured) for x in (left, right))
        sides.append((left, right))
    pair.lost = replace(pair.lost, of=pair.lost.of + whole)
    pair.users = Pairs(
        [right.values for _, right in sides],
        [left.values for left, _ in sides],
        [left.units for left, _ in sides],
    )
    pair.means = [(left.mean, right.mean) for left, right in sides]
    return pair


def _stored(run: Run, row: RunRow) -> Block | None:
    """The values per user behind a row, if the row is their mean."""
    place = row.place
    block = run.block((row.cell, place.attack, place.metric, place.k, place.protocol))
    if block is None:
        return None
    near = math.isclose(block.mean, row.value, rel_tol=_SAME_MEAN, abs_tol=_SAME_MEAN / 100)
    return block if near else None


def _judged(paired: Sequence[_Paired]) -> Iterator[Difference]:
    by_user = [(p, p.users) for p in paired if p.users is not None]
    by_seed = [p for p in paired if p.users is None]
    intervals = paired_differences_jointly([users for _, users in by_user], draws=DRAWS)
    for (pair, _), interval in zip(by_user, intervals, strict=True):
        yield _difference(pair, interval)
    if by_seed:
        steps = [[right - left for left, right in p.means] for p in by_seed]
        for pair, interval in zip(by_seed, student_t(steps), strict=True):
            yield _difference(pair, interval)


def _difference(pair: _Paired, interval: Interval) -> Difference:
    row = pair.rows[0][0]
    a, b = (sum(side) / len(side) for side in zip(*pair.means, strict=True))
    verdict, reason = _verdict(interval, row.better), ""
    if verdict in (WORSE, BETTER) and len(pair.rows) == 1 and not _share_training(pair):
        verdict = ONE_TRAINING
    if verdict == NOT_COMPARABLE:
        reason = "one value in each run, so the difference has no interval"
    lost_in = pair.lost.too_many_in(pair.place.metric)
    if lost_in:
        # What is left is another sample than the other run's: nothing is said of a difference.
        verdict, reason, interval = NOT_COMPARABLE, pair.lost.words, _NOTHING
    return Difference(
        pair.place, pair.place.where(row.strength_name), a, b, interval, len(pair.rows),
        pair.users is not None, row.better, verdict, reason, lost_in, pair.users_differ, pair.lost,
    )  # fmt: skip


def _verdict(interval: Interval, better: str) -> str:
    if math.isnan(interval.low):
        return SAME if interval.value == 0 else NOT_COMPARABLE
    if interval.low <= 0 <= interval.high:
        return SAME
    return _direction(interval, better)


def _direction(interval: Interval, better: str) -> str:
    return BETTER if (interval.value > 0) == (better == "higher") else WORSE


def _share_training(pair: _Paired) -> bool:
    """Both runs trained the very same thing: what differs does not come from training noise."""
    return all(one.training and one.training == other.training for one, other in pair.rows)


def _not_comparable(a: Run, b: Run, place: Place, reason: str, lost_in: str) -> Difference:
    rows = a.places[place] + b.places[place]
    means = []
    for run in (a, b):
        values = [row.value for row in run.places[place] if row.measured]
        means.append(float(np.mean(values)) if values else math.nan)
    return Difference(
        place, place.where(rows[0].strength_name), means[0], means[1], _NOTHING, 0, False,
        rows[0].better, NOT_COMPARABLE, reason, lost_in,
    )  # fmt: skip


def _severity(difference: Difference) -> tuple[int, bool, float, str]:
    """Worst first: by verdict, then by the harm, as a share of the larger of the two values.

    The harm is what is shown at least; where no difference is shown, what can't be ruled out.
    """
    value, low, high, _ = difference.interval
    if difference.better == "higher":
        value, low, high = -value, -high, -low
    harm = high if difference.verdict == SAME else low
    scale = max(abs(difference.a), abs(difference.b)) or 1.0
    share = value if math.isnan(harm) else harm / scale
    place = VERDICTS.index(difference.verdict)
    return place, not difference.lost_in, 0.0 if math.isnan(share) else -share, difference.where
