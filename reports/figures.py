"""The figures: what a defence costs against what it stops, robustness, and attack × defence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from harness.results import Interval
from reports.drawing import COLOURS, FAINT, INK, MARKERS, Drawing, finish, new_figure, whiskers
from reports.evidence import Arm, Condition, Estimate, Evidence
from reports.verdicts import FAILS, HOLDS, INCONCLUSIVE, MARGIN, UNTESTED, ArmVerdict, Finding
from reports.wording import join_words, label, number, percent, strength_text, tick

_SYMBOL = {HOLDS: "✓", FAILS: "✗", INCONCLUSIVE: "?", UNTESTED: "·"}


@dataclass(frozen=True)
class TradePoint:
    """One arm on the trade-off plot."""

    verdict: ArmVerdict
    finding: Finding
    pareto: bool

    @property
    def arm(self) -> Arm:
        """The arm."""
        return self.verdict.arm

    @property
    def advantage(self) -> Interval:
        """Advantage of the strongest privacy attack."""
        return self.finding.worst.advantage

    @property
    def kept(self) -> Interval:
        """Utility kept against no defence."""
        return self.verdict.kept


def trade_points(verdicts: Sequence[ArmVerdict]) -> dict[str, list[TradePoint]]:
    """Per system, the arms that have both a privacy attack and a utility; marks the Pareto front.

    An arm is on the front if no other arm of its system keeps at least as much utility at no
    more advantage for the attacker, one of the two strictly better.
    """
    found: dict[str, list[tuple[ArmVerdict, Finding]]] = {}
    for verdict in verdicts:
        finding = verdict.strongest("privacy")
        if finding is not None and not math.isnan(verdict.kept.value):
            found.setdefault(system_title(verdict.arm), []).append((verdict, finding))
    points = {}
    for system, pairs in found.items():
        places = [(f.worst.advantage.value, -v.kept.value) for v, f in pairs]
        points[system] = [
            TradePoint(v, f, not any(_dominates(q, p) for q in places))
            for (v, f), p in zip(pairs, places, strict=True)
        ]
    return points


def system_title(arm: Arm) -> str:
    """System and data set."""
    return f"{label(arm.system)} on {label(arm.dataset)}" if arm.dataset else label(arm.system)


def trade_off(verdicts: Sequence[ArmVerdict]) -> Drawing | None:
    """Utility kept against the strongest privacy attack's advantage, one panel per system.

    To be called under :func:`reports.drawing.styled`, as every drawing here.
    """
    points = trade_points(verdicts)
    if not points:
        return None
    figure, panels = new_figure(5.0 * len(points), [5.4], len(points))
    for panel, (system, own) in zip(panels, points.items(), strict=True):
        _trade_panel(panel, system, own)
    panels[0].set_ylabel("utility kept (1 = as without a defence)")
    data: list[tuple[object, ...]] = [
        ("system", "defence", "strength", "attack", "metric", "advantage", "advantage_low",
         "advantage_high", "utility_kept", "kept_low", "kept_high", "pareto")
    ]  # fmt: skip
    for system, own in points.items():
        for p in own:
            data.append((
                system, p.arm.defense, p.arm.strength if p.arm.strength is not None else math.nan,
                p.finding.attack, p.finding.worst.metric, *p.advantage[:3], *p.kept[:3],
                int(p.pareto),
            ))  # fmt: skip
    caption = (
        "Each point is one defence at one strength; a line joins the strengths of one defence. "
        "Left is private (the strongest attack only guesses), up is useful; the best corner is at "
        f"the top left. The grey band is chance + {MARGIN:g}. Bars are 95 % intervals. Points with "
        "a black ring are on the Pareto front: no other point is better in both directions."
    )
    return finish(figure, "trade_off", caption, " ".join(_trade_findings(points)), data)


def heat_map(verdicts: Sequence[ArmVerdict]) -> Drawing | None:
    """Advantage of every attack (columns) under every defence (rows), one panel per system."""
    systems: dict[str, list[ArmVerdict]] = {}
    for verdict in verdicts:
        if verdict.findings:
            systems.setdefault(system_title(verdict.arm), []).append(verdict)
    if not systems:
        return None
    figure, panels = new_figure(8.4, [1.2 + 0.36 * len(own) for own in systems.values()])
    data: list[tuple[object, ...]] = [
        ("system", "defence", "attack", "metric", "advantage", "low", "high", "verdict")
    ]
    for panel, (system, own) in zip(panels, systems.items(), strict=True):
        _heat_panel(panel, system, own)
        for v in own:
            for f in v.findings:
                data.append((system, v.arm.text, f.attack, f.worst.metric,
                             *f.worst.advantage[:3], f.verdict))  # fmt: skip
    caption = (
        "Advantage of each attack, 0 = guessing or no damage, 1 = certain or all utility lost. "
        "✓ the defence holds, ✗ it does not hold, ? inconclusive, · the attack fails even without "
        "a defence. An empty square was not run or does not apply."
    )
    alt = " ".join(_heat_finding(system, own) for system, own in systems.items())
    return finish(figure, "attack_by_defence", caption, alt, data)


def utility_of(
    evidence: Evidence, arm: Arm, measure: tuple[str, int, str]
) -> list[tuple[Condition, Estimate]]:
    """Every condition of an arm with its utility estimate."""
    pairs = ((c, evidence.find(arm, c, measure, "none")) for c in evidence.conditions(arm))
    return [(c, e) for c, e in pairs if e is not None and not math.isnan(e.interval.value)]


def _dominates(q: tuple[float, float], p: tuple[float, float]) -> bool:
    return q[0] <= p[0] and q[1] <= p[1] and q != p


def _trade_panel(panel: Axes, system: str, points: list[TradePoint]) -> None:
    panel.axvspan(-1, MARGIN, color="#ededed", lw=0, zorder=0)
    panel.plot([0], [1], "*", ms=15, mfc="white", mec=INK, label="no attack (ideal)", zorder=3)
    families: dict[tuple[str, str], list[TradePoint]] = {}
    for p in points:
        families.setdefault((p.arm.family, p.arm.strength_name), []).append(p)
    series = 0
    for own in families.values():
        colour, marker = COLOURS[series % 8], MARKERS[series % 8]
        if own[0].arm.undefended:
            colour, marker = INK, "*"
        else:
            series += 1
        ordered = sorted(own, key=lambda p: p.arm.strength or 0.0)
        path = [p.advantage.value for p in ordered], [p.kept.value for p in ordered]
        panel.plot(*path, color=colour, lw=1.3, alpha=0.8, zorder=1)
        for p in ordered:
            size = 14 if p.arm.undefended else 7
            if p.pareto:
                panel.plot(path[0][ordered.index(p)], path[1][ordered.index(p)], "o", ms=size + 5,
                           mfc="none", mec=INK, mew=1.1, zorder=3)  # fmt: skip
            whiskers(panel, p.advantage, p.kept, colour, marker, size, 6 if p.arm.undefended else 4)
        name = "no defence" if own[0].arm.undefended else _family_label(ordered)
        panel.plot([], [], marker + ("-" if len(own) > 1 else ""), color=colour, label=name)
        _mark_ends(panel, ordered, colour)
    low = min([0.0, *(p.advantage.value for p in points)])
    panel.set_xlim(min(-0.06, low - 0.04), 1.06)
    top = max([1.0, *(p.kept.value for p in points)])
    bottom = min([0.0, *(p.kept.value for p in points)])
    panel.set_ylim(bottom - 0.06, max(1.12, top + 0.12))
    panel.set_title(tick(system))
    panel.annotate("better", (0.115, 0.06), (0.3, 0.06), xycoords="axes fraction", color=FAINT,
                   va="center", arrowprops={"arrowstyle": "->", "color": FAINT})  # fmt: skip
    panel.set_xlabel("strongest privacy attack\n(0 = guessing, 1 = certain)")
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=1)


def _family_label(ordered: list[TradePoint]) -> str:
    first = ordered[0].arm
    if len(ordered) == 1:
        return tick(first.text)
    strengths = [number(p.arm.strength) for p in (ordered[0], ordered[-1])]
    name = strength_text(first.strength_name, first.strength).split(" =")[0]
    return f"{tick(first.family).replace('_', ' ')}, {name} {strengths[0]} to {strengths[1]}"


def _mark_ends(panel: Axes, ordered: list[TradePoint], colour: str) -> None:
    """Write the strength beside the first and the last point of a sweep."""
    if len(ordered) < 2:
        return
    for p in (ordered[0], ordered[-1]):
        panel.annotate(
            number(p.arm.strength), (p.advantage.value, p.kept.value), color=colour, fontsize=8,
            xytext=(7, 6), textcoords="offset points", zorder=5,
        )  # fmt: skip


def _trade_findings(points: dict[str, list[TradePoint]]) -> list[str]:
    sentences = []
    for system, own in points.items():
        base = next((p for p in own if p.arm.undefended), None)
        if base is not None:
            sentences.append(
                f"{system}: without a defence the strongest privacy attack, "
                f"{label(base.finding.attack)}, has an advantage of {number(base.advantage.value)}."
            )
        front = [p for p in own if p.pareto and not p.arm.undefended]
        if front:
            listed = [
                f"{p.arm.text} (advantage {number(p.advantage.value)}, "
                f"{percent(p.kept.value)} of utility)" for p in front[:4]
            ]  # fmt: skip
            sentences.append(f"On the Pareto front: {join_words(listed)}.")
    return sentences


def _heat_panel(panel: Axes, system: str, own: list[ArmVerdict]) -> None:
    attacks = list(dict.fromkeys(f.attack for v in own for f in v.findings))
    found = {(v.arm, f.attack): f for v in own for f in v.findings}
    grid = [[_cell_value(found.get((v.arm, a))) for a in attacks] for v in own]
    panel.imshow(grid, cmap="YlOrRd", vmin=0, vmax=1.15, aspect="auto")
    panel.grid(False)
    for row, verdict in enumerate(own):
        for column, attack in enumerate(attacks):
            finding = found.get((verdict.arm, attack))
            if finding is None:
                continue
            value = finding.worst.advantage.value
            panel.text(
                column, row, f"{number(round(value, 3))}  {_SYMBOL[finding.verdict]}", ha="center",
                va="center", fontsize=9, color="white" if value > 0.7 else INK,
            )  # fmt: skip
    panel.set_xticks(range(len(attacks)), [_wrapped(a) for a in attacks], fontsize=9)
    panel.set_yticks(range(len(own)), [tick(v.arm.text) for v in own], fontsize=9)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set_title(tick(system), loc="left")


def _cell_value(finding: Finding | None) -> float:
    return math.nan if finding is None else min(1.0, max(0.0, finding.worst.advantage.value))


def _wrapped(attack: str) -> str:
    """A long attack name over two lines."""
    text = label(attack)
    if len(text) <= 16 or " " not in text.replace("_", " "):
        return text if len(text) <= 22 else text[:21] + "…"
    words, lines = text.replace("_", " ").split(" "), [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > 16:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(line[:22] for line in lines[:3])


def _heat_finding(system: str, own: list[ArmVerdict]) -> str:
    findings = [f for v in own if not v.arm.undefended for f in v.findings]
    if not findings:
        return f"{system}: only the undefended system was attacked."
    held = sum(f.verdict == HOLDS for f in findings)
    failed = sum(f.verdict == FAILS for f in findings)
    return (
        f"{system}: of {len(findings)} pairs of defence and attack, {held} hold, {failed} do not "
        f"hold, {len(findings) - held - failed} are inconclusive or untested."
    )


__all__ = [
    "COLOURS",
    "FAINT",
    "heat_map",
    "system_title",
    "trade_off",
    "trade_points",
    "utility_of",
]
