"""Every attack's advantage and the utility kept against the strength of a defence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from harness.results import Interval
from reports.drawing import COLOURS, INK, MARKERS, Drawing, finish, new_figure
from reports.plotting import Axes, FuncFormatter, NullFormatter
from reports.sweeps import ALL_PRIVACY, Sweep, TradeOff
from reports.verdicts import MARGIN
from reports.wording import join_words, label, number, strength_text, tick

# Fewer strengths make no curve; the trade-off has their points.
_CURVE_FROM = 3
# From this ratio of the largest to the smallest strength on, an axis is logarithmic.
_DECADE = 10.0
_MAX_LINES = len(COLOURS)
_Line = list[tuple[float, Interval]]


def strength_curves(found: Sequence[TradeOff]) -> Drawing | None:
    """One panel per system and defence family of three strengths or more; None without any.

    To be called under :func:`reports.drawing.styled`.
    """
    panels: dict[tuple[str, str], dict[str, _Line]] = {}
    shown: dict[tuple[str, str], Sweep] = {}
    for trade in found:
        for sweep in trade.sweeps if trade.attack != ALL_PRIVACY else ():
            if sweep.connected and len(sweep.points) >= _CURVE_FROM:
                key = trade.system, sweep.family
                lines = panels.setdefault(key, {})
                shown[key] = sweep
                lines[label(trade.attack)] = [
                    (_x(p.arm.strength), p.advantage) for p in sweep.points
                ]
                kept = lines.setdefault("utility kept", [])
                if len(sweep.points) > len(kept):
                    kept[:] = [(_x(p.arm.strength), p.kept) for p in sweep.points]
    if not panels:
        return None
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = new_figure(5.4 * columns, [5.2] * rows, columns)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    for panel, (key, lines) in zip(axes, panels.items(), strict=False):
        _panel(panel, key, lines, shown[key])
    caption = (
        "Advantage of each attack (0 = guessing, 1 = certain) and utility kept (1 = as without a "
        "defence) at every strength measured, with 95 % intervals. The axis is logarithmic where "
        f"strengths span a factor of {_DECADE:g} or more. The band is chance + {MARGIN:g}."
    )
    alt = " ".join(_finding(key, lines) for key, lines in panels.items())
    data = _data(panels)
    return finish(figure, "strengths", "along the strength", caption, alt, data)


def _panel(panel: Axes, key: tuple[str, str], lines: dict[str, _Line], sweep: Sweep) -> None:
    system, family = key
    panel.axhspan(-10, MARGIN, color="#ededed", lw=0, zorder=0)
    attacks = [name for name in lines if name != "utility kept"][:_MAX_LINES]
    for index, name in enumerate(attacks):
        _line(panel, lines[name], name, COLOURS[index], MARKERS[index % len(MARKERS)])
    _line(panel, lines["utility kept"], "utility kept", INK, "*")
    strengths = [x for x, _ in lines["utility kept"]]
    if is_log(strengths):
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: number(x)))
        panel.xaxis.set_minor_formatter(NullFormatter())
    known = [v for own in lines.values() for _, y in own for v in y[:3] if not math.isnan(v)]
    panel.set_ylim(max(min([0.0, *known]), -0.25) - 0.04, min(max([1.0, *known]), 1.5) + 0.04)
    panel.set_title(f"{tick(family)}\n{tick(system)}")
    first = sweep.points[0].arm
    panel.set_xlabel(strength_text(first.strength_name, first.strength).split(" =")[0])
    panel.set_ylabel("advantage of the attack, utility kept")
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def is_log(strengths: Sequence[float]) -> bool:
    """Whether an axis over these strengths is logarithmic."""
    return min(strengths) > 0 and max(strengths) / min(strengths) >= _DECADE


def _line(panel: Axes, points: _Line, name: str, colour: str, marker: str) -> None:
    x, y = [p[0] for p in points], [p[1].value for p in points]
    panel.plot(x, y, marker + "-", color=colour, lw=1.4, mec="white", label=tick(name),
               ms=11 if marker == "*" else 6)  # fmt: skip
    panel.fill_between(
        x, [p[1].low for p in points], [p[1].high for p in points], color=colour, alpha=0.12, lw=0
    )


def _finding(key: tuple[str, str], lines: dict[str, _Line]) -> str:
    """Between which strengths each line moves most."""
    told = []
    for name, points in lines.items():
        steps = [(left, right) for left, right in pairwise(points)]
        sizes = [abs(right[1].value - left[1].value) for left, right in steps]
        if any(not math.isnan(size) for size in sizes):
            (a, before), (b, after) = steps[sizes.index(max(s for s in sizes if s == s))]
            told.append(
                f"{name} from {number(before.value)} at {number(a)} to {number(after.value)} "
                f"at {number(b)}"
            )
    return f"{key[0]}, {label(key[1])}: largest steps: {join_words(told) or 'not measured'}."


def _data(panels: dict[tuple[str, str], dict[str, _Line]]) -> list[tuple[object, ...]]:
    data: list[tuple[object, ...]] = [
        ("system", "family", "quantity", "strength", "value", "low", "high", "n")
    ]
    for (system, family), lines in panels.items():
        for name, points in lines.items():
            data += [(system, family, name, x, *y) for x, y in points]
    return data


def _x(strength: float | None) -> float:
    assert strength is not None
    return strength
