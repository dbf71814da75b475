"""Two numbers read off a sweep: the attack left at a small loss, the utility left near chance.

Both are chosen on bounds, never on the lucky end of an interval: a strength is cheap enough if the
*lower* bound of the utility it keeps is, private enough if the *upper* bound of the advantage is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from harness.results import Interval
from reports.evidence import Arm
from reports.sweeps import Point, Sweep, TradeOff
from reports.tables import Cell, Head, Table
from reports.verdicts import MARGIN
from reports.wording import bounds, label, number, percent, percent_bounds, settled, strength_text

MAX_LOSS = 0.05
# A place between two measured strengths must be better than every measured one by more than this.
WORTH_READING = 0.01
RULE = (
    f"“At ≤ {100 * MAX_LOSS:g} % utility loss”: among the strengths whose utility kept has its "
    f"lower 95 % bound at {100 - 100 * MAX_LOSS:g} % or more, the one whose advantage has the "
    f"lowest upper bound. “At chance + {MARGIN:g}”: among the strengths whose advantage has its "
    f"upper bound at {MARGIN:g} or less, the one whose utility kept has the highest lower bound. "
    "Between two neighbouring measured strengths of one family, estimates and bounds are taken to "
    "lie on a straight line over the logarithm of the strength (over the strength itself where one "
    "is 0); such a value is marked ≈, names its neighbours, and is taken only where its bound is "
    f"better than that of every measured strength by more than {WORTH_READING:g}. Nothing is read "
    "beyond the first or the last strength. “Not shown” means that the estimate meets the limit "
    "and its bound does not."
)


class Spot(NamedTuple):
    """A place on a sweep: measured at ``between[0]``, or on the line to ``between[1]``.

    Attributes:
        advantage: the attack's advantage there.
        kept: utility kept there.
        strength: the strength; None where the family has none.
        between: one measured point, or the two neighbours of an interpolated one.
    """

    advantage: Interval
    kept: Interval
    strength: float | None
    between: tuple[Point, ...]

    @property
    def where(self) -> str:
        """The place in words."""
        arms = [p.arm for p in self.between]
        if len(arms) == 1:
            return arms[0].text
        symbol = strength_text(arms[0].strength_name, self.strength).replace(" = ", " ≈ ")
        ends = f"{number(arms[0].strength)} and {number(arms[1].strength)}"
        return f"{symbol}, between the measured {ends}"


def attack_at_loss(sweep: Sweep) -> Spot | None:
    """Where the attack is weakest among the places that cost at most :data:`MAX_LOSS`."""
    return _best(sweep, lambda s: s.kept.low - (1 - MAX_LOSS), lambda s: -s.advantage.high)


def utility_at_margin(sweep: Sweep) -> Spot | None:
    """Where utility is highest among the places that hold the attack at chance + ``MARGIN``."""
    return _best(sweep, lambda s: MARGIN - s.advantage.high, lambda s: s.kept.low)


def read_off_tables(found: Sequence[TradeOff]) -> list[Table]:
    """One table per system: every attack by every defence family."""
    head = (
        Head("attack"), Head("defence"),
        Head(f"attack at ≤ {100 * MAX_LOSS:g} % utility loss", "its advantage"),
        Head(f"utility at chance + {MARGIN:g}", "share kept"),
    )  # fmt: skip
    tables = []
    for system in dict.fromkeys(t.system for t in found):
        own = [t for t in found if t.system == system]
        body = tuple(_row(t, s) for t in own for s in t.sweeps)
        tables.append(Table(f"{system}: read off the sweeps.", head, body))
    return tables


def _best(
    sweep: Sweep, slack: Callable[[Spot], float], worth: Callable[[Spot], float]
) -> Spot | None:
    """The place of most worth among those with no negative slack; NaN is never enough."""
    measured = [Spot(p.advantage, p.kept, p.arm.strength, (p,)) for p in sweep.points]
    places = [s for s in measured if slack(s) >= 0 and not math.isnan(worth(s))]
    best = max(places, key=worth, default=None)
    for left, right in pairwise(measured) if sweep.connected else ():
        start, end = slack(left), slack(right)
        if start * end < 0:
            place = _between(left, right, start / (start - end))
            least = -math.inf if best is None else worth(best)
            least += 0 if best and len(best.between) > 1 else WORTH_READING
            best = place if worth(place) > least else best
    return best


def _between(left: Spot, right: Spot, share: float) -> Spot:
    """The place at a share of the way from one measured strength to the next."""

    def mix(a: float, b: float) -> float:
        return a + share * (b - a)

    def blend(a: Interval, b: Interval) -> Interval:
        return Interval(
            mix(a.value, b.value), mix(a.low, b.low), mix(a.high, b.high), min(a.n, b.n)
        )

    low, high = left.strength or 0.0, right.strength or 0.0
    strength = mix(low, high)
    if low > 0 and high > 0:
        strength = math.exp(mix(math.log(low), math.log(high)))
    advantage = blend(left.advantage, right.advantage)
    return Spot(advantage, blend(left.kept, right.kept), strength, left.between + right.between)


def _row(trade: TradeOff, sweep: Sweep) -> tuple[Cell, ...]:
    cheap, private = attack_at_loss(sweep), utility_at_margin(sweep)
    base = trade.base.advantage if trade.base else None
    harmless = base is not None and base.high <= MARGIN
    seeds = {p.threat.seeds for p in sweep.points}
    one = "; one seed" if seeds == {1} else ""
    return (
        Cell(label(trade.attack), "fails without a defence" if harmless else "", header=True),
        Cell(label(sweep.family).replace("_", " "), _measured(sweep.points)),
        _cell(cheap, number(settled(cheap.advantage).value), bounds(settled(cheap.advantage)), one)
        if cheap else Cell(_too_dear(sweep)),
        _cell(private, percent(private.kept.value), percent_bounds(private.kept), one)
        if private else Cell(_too_open(sweep)),
    )  # fmt: skip


def _cell(spot: Spot, value: str, span: str, one_seed: str) -> Cell:
    exact = len(spot.between) == 1
    return Cell(f"{'' if exact else '≈ '}{value} {span}", f"{spot.where}{one_seed}")


def _measured(points: Sequence[Point]) -> str:
    return "1 strength" if len(points) == 1 else f"{len(points)} strengths"


def _too_dear(sweep: Sweep) -> str:
    """Why no place is cheap enough."""
    known = [p for p in sweep.points if not math.isnan(p.kept.low)]
    if not known:
        return "not measurable: utility has no interval"
    meeting = [p for p in known if p.kept.value >= 1 - MAX_LOSS]
    best = max(meeting or known, key=lambda p: p.kept.low)
    text = f"{percent(best.kept.value)} {percent_bounds(best.kept)} kept{_at(sweep, best.arm)}"
    return f"not shown: {text}" if meeting else f"not reached: at most {text}"


def _too_open(sweep: Sweep) -> str:
    """Why no place is private enough."""
    known = [p for p in sweep.points if not math.isnan(p.advantage.high)]
    if not known:
        return "not measurable: the attack has no interval"
    meeting = [p for p in known if p.advantage.value <= MARGIN]
    best = min(meeting or known, key=lambda p: p.advantage.high)
    text = f"{number(best.advantage.value)} {bounds(best.advantage)}{_at(sweep, best.arm)}"
    return f"not shown: advantage {text}" if meeting else f"not reached: lowest advantage {text}"


def _at(sweep: Sweep, arm: Arm) -> str:
    return f", at {strength_text(arm.strength_name, arm.strength)}" if sweep.connected else ""
