"""The privacy-utility figures: one per system and attack, one line per defence family."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from reports.drawing import COLOURS, FAINT, INK, MARKERS, Drawing, finish, new_figure, whiskers
from reports.plotting import Axes
from reports.readoff import MAX_LOSS, Spot, utility_at_margin
from reports.sweeps import ALL_PRIVACY, Point, Sweep, TradeOff
from reports.verdicts import MARGIN
from reports.wording import bounds, join_words, label, number, percent, percent_bounds, tick

HOW_TO_READ = (
    "Each mark is one defence at one strength, with 95 % intervals both ways; a line joins the "
    "strengths of one defence family, the numbers are its first and last. Left is safe (the attack "
    "only guesses, or does no damage), up is useful; the best corner is at the top left. The band "
    f"on the left is chance + {MARGIN:g}, the dotted line {100 * MAX_LOSS:g} % of utility lost. "
    "The filled star is no defence, the open star no attack. Ringed marks, joined by dashes, are "
    "the Pareto front: by the estimates, no other mark is better in one direction and no worse in "
    "the other. Axes may be cut to the part that holds marks; read their numbers."
)
# Below this share of utility kept an axis starts at 0.
_CUT = 0.8
# Two marks nearer than this share of the axes share one label.
_TOUCHING = 0.08


def trade_off_figures(found: Sequence[TradeOff]) -> list[Drawing]:
    """One figure per trade-off, in their order.

    To be called under :func:`reports.drawing.styled`, as every drawing here.
    """
    looks = looks_of(found)
    names = _file_names(found)
    return [_figure(t, name, looks) for t, name in zip(found, names, strict=True)]


Looks = dict[tuple[str, str, str], int]
"""(system, defence family, name of its strength) to the number of its colour and marker."""


def looks_of(found: Sequence[TradeOff]) -> Looks:
    """(system, family, strength name) -> number of its colour and marker, the same throughout."""
    looks: Looks = {}
    for trade in found:
        for sweep in trade.sweeps:
            taken = sum(key[0] == trade.system for key in looks)
            looks.setdefault((trade.system, sweep.family, sweep.strength_name), taken)
    return looks


def _file_names(found: Sequence[TradeOff]) -> list[str]:
    """Names that any file system takes, whatever the labels hold; each occurs once."""
    names: list[str] = []
    for trade in found:
        plain = (re.sub(r"[^a-z0-9-]+", "_", text.lower()).strip("_-")[:40]
                 for text in (trade.system, trade.attack))  # fmt: skip
        name = "_".join(["trade_off", *(text or "x" for text in plain)])
        names.append(name if name not in names else f"{name}_{len(names) + 1}")
    return names


def draw_trade_off(panel: Axes, trade: TradeOff, looks: Looks) -> None:
    """Draw one trade-off: a line for each defence family, the anchors, the Pareto front."""
    panel.axvspan(-10, MARGIN, color="#ededed", lw=0, zorder=0)
    panel.axhline(1 - MAX_LOSS, color=FAINT, lw=1, ls=":", zorder=1)
    panel.plot([0], [1], "*", ms=15, mfc="white", mec=INK, label="no attack (ideal)", zorder=3)
    if trade.base:
        whiskers(panel, trade.base.advantage, trade.base.kept, INK, "*", 14, 6)
        panel.plot([], [], "*", color=INK, ms=10, label="no defence")
    _limits(panel, trade.points)
    for sweep in trade.sweeps:
        series = looks[trade.system, sweep.family, sweep.strength_name]
        _draw_sweep(panel, sweep, series)
    _draw_front(panel, [p for p in trade.points if p.pareto])
    panel.set_title(f"{tick(trade.attack)}\n{tick(trade.system)}")
    panel.set_ylabel("utility kept (1 = as without a defence)")
    panel.set_xlabel("advantage of the attack (0 = guessing, 1 = certain)")
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=1)


def _figure(trade: TradeOff, name: str, looks: Looks) -> Drawing:
    figure, (panel,) = new_figure(5.4, [5.0])
    draw_trade_off(panel, trade, looks)
    caption = f"{trade.system}: {label(trade.attack)}. Clients: {trade.clients}."
    if trade.left_out:
        names = [arm.text for arm in trade.left_out[:4]]
        more = [f"{len(trade.left_out) - 4} more"] if len(trade.left_out) > 4 else []
        caption += f" Not drawn, as not measured against it: {join_words(names + more)}."
    return finish(
        figure,
        name,
        f"{label(trade.attack)} on {trade.system}",
        caption,
        finding(trade),
        trade_off_data(trade),
    )


def _draw_sweep(panel: Axes, sweep: Sweep, series: int) -> None:
    colour, marker = COLOURS[series % len(COLOURS)], MARKERS[series % len(MARKERS)]
    x = [p.advantage.value for p in sweep.points]
    y = [p.kept.value for p in sweep.points]
    if sweep.connected:
        panel.plot(x, y, color=colour, lw=1.4, alpha=0.85, zorder=2)
    for p in sweep.points:
        whiskers(panel, p.advantage, p.kept, colour, marker)
    panel.plot([], [], marker + ("-" if sweep.connected else ""), color=colour,
               label=tick(sweep.name))  # fmt: skip
    if sweep.connected:
        _mark_ends(panel, sweep, series, colour)


def _mark_ends(panel: Axes, sweep: Sweep, series: int, colour: str) -> None:
    """Write the first and the last strength beside their marks; as one where the marks touch."""
    spots = [(p.advantage.value, p.kept.value) for p in (sweep.points[0], sweep.points[-1])]
    texts = [number(p.arm.strength) for p in (sweep.points[0], sweep.points[-1])]
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    apart = max(
        abs(spots[0][0] - spots[1][0]) / (right - left),
        abs(spots[0][1] - spots[1][1]) / (top - bottom),
    )
    if apart < _TOUCHING:
        spots, texts = spots[:1], [f"{texts[0]} to {texts[1]}"]
    above = series % 2 == 0
    for (x, y), text in zip(spots, texts, strict=True):
        inward = x > left + 0.8 * (right - left)
        panel.annotate(
            text, (x, y), color=colour, fontsize=9, ha="right" if inward else "left",
            xytext=(-9 if inward else 9, 10 + 5 * series if above else -14 - 5 * series),
            va="center", textcoords="offset points", zorder=7,
        )  # fmt: skip


def _draw_front(panel: Axes, front: Sequence[Point]) -> None:
    """The front as rings on a dashed staircase: what is reachable, and nothing between."""
    ordered = sorted(front, key=lambda p: p.advantage.value)
    x = [p.advantage.value for p in ordered]
    y = [p.kept.value for p in ordered]
    panel.step(x, y, where="post", color=INK, lw=1, ls="--", alpha=0.6, zorder=1)
    panel.plot(x, y, "o", ms=13, mfc="none", mec=INK, mew=1.1, zorder=3)


def _limits(panel: Axes, points: Sequence[Point]) -> None:
    """Zero to one, or the part of it that holds everything; both anchors and limits in sight."""
    x = [v for p in points for v in p.advantage[:3] if not math.isnan(v)]
    y = [v for p in points for v in p.kept[:3] if not math.isnan(v)]
    right = max([*x, 2 * MARGIN])
    panel.set_xlim(min([0.0, *x]) - 0.05 * right, right * 1.08)
    top, low = max([1.0, *y]), min(y)
    bottom = 0.0 if 0 <= low < _CUT else min(low, 1 - 2 * MAX_LOSS)
    margin = 0.07 * (top - bottom)
    panel.set_ylim(bottom - margin, top + margin)


def trade_off_data(trade: TradeOff) -> list[tuple[object, ...]]:
    """Return header and rows of what a trade-off draws."""
    data: list[tuple[object, ...]] = [
        ("system", "attack", "defence", "family", "strength_name", "strength", "set_by", "metric",
         "clients", "advantage", "advantage_low", "advantage_high", "utility_kept", "kept_low",
         "kept_high", "n_advantage", "n_utility", "seeds", "pareto")
    ]  # fmt: skip
    for p in trade.points:
        arm, threat = p.arm, p.threat
        data.append((
            trade.system, trade.attack, arm.defense, arm.family, arm.strength_name,
            math.nan if arm.strength is None else arm.strength, threat.attack, threat.metric,
            threat.condition.text, *p.advantage[:3], *p.kept[:3], p.advantage.n, p.kept.n,
            threat.seeds, int(p.pareto),
        ))  # fmt: skip
    return data


def finding(trade: TradeOff) -> str:
    """What a trade-off shows: the start, the best private point or how near one came, the front."""
    who = "the worst privacy attack" if trade.attack == ALL_PRIVACY else label(trade.attack)
    parts = []
    if trade.base:
        start = trade.base.advantage
        parts.append(
            f"{trade.system}: without a defence, the advantage of {who} is "
            f"{number(start.value)} {bounds(start)}."
        )
    spots = [spot for s in trade.sweeps if (spot := utility_at_margin(s)) is not None]
    if spots:
        best = max(spots, key=lambda s: s.kept.low)
        parts.append(
            f"The cheapest way to chance + {MARGIN:g} is {_place(best)}, "
            f"which keeps {percent(best.kept.value)} {percent_bounds(best.kept)} of utility."
        )
    else:
        tried = [p for s in trade.sweeps for p in s.points]
        low = min(tried, key=lambda p: _upper(p.advantage.high))
        parts.append(
            f"No defence is shown to bring it to chance + {MARGIN:g}; the lowest is "
            f"{number(low.advantage.value)} {bounds(low.advantage)} with {low.arm.text}, which "
            f"keeps {percent(low.kept.value)} {percent_bounds(low.kept)} of utility."
        )
    front = [p.arm.text for p in trade.points if p.pareto]
    more = [f"{len(front) - 5} more"] if len(front) > 5 else []
    parts.append(f"Pareto front: {join_words(front[:5] + more)}.")
    one = all(p.threat.seeds < 2 for p in trade.points)
    return " ".join([*parts, "One seed only."] if one else parts)


def _place(spot: Spot) -> str:
    family = label(spot.between[0].arm.family).replace("_", " ")
    return spot.where if len(spot.between) == 1 else f"{family} at {spot.where}"


def _upper(bound: float) -> float:
    return math.inf if math.isnan(bound) else bound
