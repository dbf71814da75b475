"""Utility under bad clients: curves over their fraction, or clean against attacked in dots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import fill

from harness.results import Interval
from reports.drawing import COLOURS, INK, MARKERS, Drawing, finish, new_figure
from reports.evidence import Arm, Condition, Estimate, Evidence
from reports.figures import system_title, utility_of
from reports.plotting import Axes
from reports.verdicts import NOISY_CLIENTS, utility_measure
from reports.wording import label, number, percent, tick

MAX_LINES = 8
# From this many fractions on (zero among them) a curve says more than dots.
_CURVE_FROM = 3
_Points = list[tuple[float, Interval]]


def robustness(evidence: Evidence) -> Drawing | None:
    """Curves where some attack was run at several fractions, else clean against attacked."""
    curves = _all_curves(evidence)
    if not curves:
        return None
    longest = max(len(points) for lines in curves.values() for points in lines.values())
    return _curves(evidence, curves) if longest >= _CURVE_FROM else _dots(evidence)


def _all_curves(evidence: Evidence) -> dict[tuple[str, str], dict[Arm, _Points]]:
    """(system, attack) -> arm -> utility at each fraction of bad clients, zero included."""
    found: dict[tuple[str, str], dict[Arm, _Points]] = {}
    for arm in evidence.arms():
        measure = utility_measure(evidence, arm)
        if measure is None:
            continue
        places = utility_of(evidence, arm, measure)
        for attack, points in _fractions(places).items():
            found.setdefault((system_title(arm), attack), {})[arm] = points
    return found


def _fractions(places: Sequence[tuple[Condition, Estimate]]) -> dict[str, _Points]:
    """Attack -> utility by fraction; along a curve only the named kind of bad client varies."""
    curves: dict[str, dict[float, Interval]] = {}
    poisoned = [(c, e) for c, e in places if c.poisoned]
    honest = [(c, e) for c, e in places if not c.malicious and c.poisoning == "none"]
    for condition, estimate in poisoned:
        own = {c.noisy for c, _ in poisoned if c.poisoning == condition.poisoning}
        name = label(condition.poisoning)
        name += f", {percent(condition.noisy)} noisy" if len(own) > 1 else ""
        curve = curves.setdefault(name, {})
        curve[condition.malicious] = estimate.interval
        start = [e for c, e in honest if c.noisy == condition.noisy] or [e for _, e in honest]
        if start:
            curve[0.0] = start[0].interval
    if any(c.noisy for c, _ in honest):
        curves[NOISY_CLIENTS] = {c.noisy: e.interval for c, e in honest}
    return {attack: sorted(points.items()) for attack, points in curves.items()}


def _curves(evidence: Evidence, curves: dict[tuple[str, str], dict[Arm, _Points]]) -> Drawing:
    columns = min(2, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure, panels = new_figure(5.0 * columns, [4.8] * rows, columns)
    data: list[tuple[object, ...]] = [
        ("system", "attack", "defence", "fraction", "utility", "low", "high")
    ]
    for panel in panels[len(curves) :]:
        panel.set_axis_off()
    for panel, ((system, attack), lines) in zip(panels, curves.items(), strict=False):
        for index, (arm, points) in enumerate(lines.items()):
            data += [(system, attack, arm.text, x, *y[:3]) for x, y in points]
            if index < MAX_LINES:
                _line(panel, arm, points, index)
        panel.set_title(tick(f"{system}: {attack}"))
        share = "noisy" if attack == NOISY_CLIENTS else "malicious"
        panel.set_xlabel(f"fraction of {share} clients")
        panel.set_ylabel(_utility_name(evidence, next(iter(lines))))
        panel.set_ylim(bottom=0)
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=1)
    caption = (
        "Utility as the share of bad clients grows, with 95 % intervals. A flat line is a robust "
        f"system. At most {MAX_LINES} defences are drawn per panel; all are in the CSV."
    )
    return finish(figure, "robustness", "robustness", caption, _finding(curves), data)


def _line(panel: Axes, arm: Arm, points: _Points, index: int) -> None:
    colour = INK if arm.undefended else COLOURS[index % len(COLOURS)]
    x = [p[0] for p in points]
    panel.plot(x, [p[1].value for p in points], MARKERS[index % len(MARKERS)] + "-",
               color=colour, lw=1.5, ms=6, label=tick(arm.text))  # fmt: skip
    panel.fill_between(x, [p[1].low for p in points], [p[1].high for p in points],
                       color=colour, alpha=0.12, lw=0)  # fmt: skip


def _dots(evidence: Evidence) -> Drawing:
    """One line per defence: its utility when clean and under each attack that was run."""
    systems: dict[str, list[Arm]] = {}
    for arm in evidence.arms():
        if utility_measure(evidence, arm):
            systems.setdefault(system_title(arm), []).append(arm)
    heights = [1.1 + 0.5 * len(arms) for arms in systems.values()]
    figure, panels = new_figure(8.8, heights)
    data: list[tuple[object, ...]] = [("system", "defence", "condition", "utility", "low", "high")]
    for panel, (system, arms) in zip(panels, systems.items(), strict=True):
        data += _dot_panel(evidence, panel, system, arms)
    caption = (
        "Utility of each defence when all clients are honest and under each attack on training, "
        "with 95 % intervals. The further an attacked mark lies left of the clean one, the more "
        "the attack destroys."
    )
    return finish(
        figure, "robustness", "robustness", caption, _finding(_all_curves(evidence)), data
    )


def _dot_panel(
    evidence: Evidence, panel: Axes, system: str, arms: list[Arm]
) -> list[tuple[object, ...]]:
    measures = {arm: utility_measure(evidence, arm) for arm in arms}
    found = [(a, c, e) for a, m in measures.items() if m for c, e in utility_of(evidence, a, m)]
    texts = list(dict.fromkeys(c.text for _, c, _ in found))
    step = min(0.18, 0.75 / len(texts)) if texts else 0.0
    for arm, condition, estimate in found:
        series = texts.index(condition.text)
        y = arms.index(arm) + step * (series - (len(texts) - 1) / 2)
        mean, low, high, _ = estimate.interval
        colour, marker = COLOURS[series % len(COLOURS)], MARKERS[series % len(MARKERS)]
        if not math.isnan(low):
            panel.plot([low, high], [y, y], color=colour, lw=1.4, alpha=0.7)
        panel.plot([mean], [y], marker, color=colour, ms=7, mec="white")
    for series, text in enumerate(texts):
        panel.plot([], [], MARKERS[series % len(MARKERS)], label=fill(label(text), 28),
                   color=COLOURS[series % len(COLOURS)])  # fmt: skip
    panel.set_yticks(range(len(arms)), [tick(a.text) for a in arms], fontsize=9)
    panel.set_ylim(len(arms) - 0.5, -0.5)
    panel.set_xlim(left=0)
    panel.set_title(tick(system), loc="left")
    panel.set_xlabel(_utility_name(evidence, arms[0]))
    panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return [(system, a.text, c.text, *e.interval[:3]) for a, c, e in found]


def _utility_name(evidence: Evidence, arm: Arm) -> str:
    measure = utility_measure(evidence, arm)
    if measure is None:
        return "utility"
    return next(e.name for e in evidence.estimates if e.measure == measure)


def _finding(curves: dict[tuple[str, str], dict[Arm, _Points]]) -> str:
    sentences = []
    for (system, attack), lines in curves.items():
        points = next((p for a, p in lines.items() if a.undefended), None)
        if points and len(points) > 1:
            (start, first), (end, last) = points[0], points[-1]
            sentences.append(
                f"{system}, no defence, {label(attack)}: utility {number(first.value)} at "
                f"{percent(start)} and {number(last.value)} at {percent(end)} of the clients."
            )
    return " ".join(sentences) or "Utility of each defence with honest and with bad clients."
