"""The attack × defence heat map, with every defence's worst case and the best of these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reports.drawing import FAINT, INK, Drawing, finish, new_figure
from reports.evidence import Arm, Condition, Estimate, Evidence
from reports.plotting import Axes, Normalize, Rectangle, mpl, to_rgba
from reports.verdicts import FAILS, HOLDS, INCONCLUSIVE, UNTESTED, ArmVerdict, Finding
from reports.wording import MISSING, bounds, label, number, tick

_SYMBOL = {HOLDS: "✓", FAILS: "✗", INCONCLUSIVE: "?", UNTESTED: "·"}
_SHADES = "YlOrRd"
WORST = "worst case"


@dataclass(frozen=True)
class WorstCase:
    """A defence's worst attack of those it faced.

    Attributes:
        verdict: the arm.
        finding: its finding with the largest advantage; None where nothing was measured.
        missed: attacks that succeed without a defence and were not run on this arm.
        chosen: the lowest upper bound of all defences of the system that missed none.
    """

    verdict: ArmVerdict
    finding: Finding | None
    missed: tuple[str, ...]
    chosen: bool = False


def system_title(arm: Arm) -> str:
    """System and data set."""
    return f"{label(arm.system)} on {label(arm.dataset)}" if arm.dataset else label(arm.system)


def worst_cases(verdicts: Sequence[ArmVerdict]) -> list[WorstCase]:
    """The worst case of every arm of one system, and the defence whose worst case is the lowest.

    A defence that did not face an attack which matters is not chosen: it was spared, not better.
    """
    base = next((v for v in verdicts if v.arm.undefended), None)
    everything = [f for v in verdicts for f in v.findings]
    harmless = {f.attack for f in base.findings if f.verdict == HOLDS} if base else set()
    needed = [a for a in dict.fromkeys(f.attack for f in everything) if a not in harmless]
    found = []
    for verdict in verdicts:
        faced = {f.attack for f in verdict.findings}
        worst = max(verdict.findings, key=_upper, default=None)
        found.append(WorstCase(verdict, worst, tuple(a for a in needed if a not in faced)))
    able = [
        w for w in found
        if not w.missed and not w.verdict.arm.undefended and math.isfinite(_upper(w.finding))
    ]  # fmt: skip
    best = min(able, key=lambda w: _upper(w.finding), default=None)
    return [WorstCase(w.verdict, w.finding, w.missed, w is best) for w in found]


def heat_map(verdicts: Sequence[ArmVerdict]) -> Drawing | None:
    """Advantage of every attack (columns) under every defence (rows), one panel per system."""
    systems: dict[str, list[ArmVerdict]] = {}
    for verdict in verdicts:
        if verdict.findings:
            systems.setdefault(system_title(verdict.arm), []).append(verdict)
    if not systems:
        return None
    cases = {system: worst_cases(own) for system, own in systems.items()}
    columns = 1 + max(len(_attacks(own)) for own in cases.values())
    heights = [1.2 + 0.36 * len(own) for own in systems.values()]
    figure, panels = new_figure(max(8.4, 3.0 + 1.15 * columns), heights)
    for panel, (system, own) in zip(panels, cases.items(), strict=True):
        _heat_panel(panel, system, own)
    caption = (
        "Advantage of each attack, 0 = guessing or no damage, 1 = certain or all utility lost, by "
        "the attack's worst metric. ✓ the defence holds, ✗ it does not hold, ? inconclusive, · the "
        "attack fails even without a defence. A dash was not run or does not apply. The "
        "last column is the worst case of each row; * marks a row that did not face every attack "
        "that succeeds without a defence. Framed: the defence with the lowest worst case, by the "
        "upper end of its interval, among those that faced them all."
    )
    alt = " ".join(_heat_finding(system, own) for system, own in cases.items())
    return finish(figure, "attack_by_defence", "attack by defence", caption, alt, _data(cases))


def utility_of(
    evidence: Evidence, arm: Arm, measure: tuple[str, int, str]
) -> list[tuple[Condition, Estimate]]:
    """Every condition of an arm with its utility estimate."""
    pairs = ((c, evidence.find(arm, c, measure, "none")) for c in evidence.conditions(arm))
    return [(c, e) for c, e in pairs if e is not None and not math.isnan(e.interval.value)]


def _attacks(own: Sequence[WorstCase]) -> list[str]:
    return list(dict.fromkeys(f.attack for w in own for f in w.verdict.findings))


def _upper(finding: Finding | None) -> float:
    """The upper bound of a finding's advantage; nothing known rules nothing out."""
    bound = finding.worst.advantage.high if finding else math.nan
    return math.inf if math.isnan(bound) else bound


def _data(cases: dict[str, list[WorstCase]]) -> list[tuple[object, ...]]:
    data: list[tuple[object, ...]] = [
        ("system", "defence", "attack", "metric", "advantage", "low", "high", "verdict",
         "worst_case", "faced_every_attack", "lowest_worst_case")
    ]  # fmt: skip
    for system, own in cases.items():
        for w in own:
            for f in w.verdict.findings:
                data.append((
                    system, w.verdict.arm.text, f.attack, f.worst.metric, *f.worst.advantage[:3],
                    f.verdict, int(f is w.finding), int(not w.missed), int(w.chosen),
                ))  # fmt: skip
    return data


def _heat_panel(panel: Axes, system: str, own: list[WorstCase]) -> None:
    attacks = _attacks(own)
    shown = [[*(_of(w, a) for a in attacks), w.finding] for w in own]
    grid = [[_shade(f) for f in row] for row in shown]
    panel.imshow(grid, cmap=_SHADES, vmin=0, vmax=1.15, aspect="auto")
    panel.grid(False)
    panel.axvline(len(attacks) - 0.5, color="white", lw=5)
    for row, findings in enumerate(shown):
        for column, f in enumerate(findings):
            if f is None:
                panel.text(column, row, MISSING, ha="center", va="center", color=FAINT)
            else:
                star = "*" if column == len(attacks) and own[row].missed else ""
                text = f"{number(round(f.worst.advantage.value, 3))}{star}  {_SYMBOL[f.verdict]}"
                panel.text(column, row, text, ha="center", va="center", fontsize=9,
                           color=_ink(_shade(f)))  # fmt: skip
        if own[row].chosen:
            panel.add_patch(Rectangle((-0.49, row - 0.48), len(attacks) + 0.98, 0.96, fill=False,
                                      ec=INK, lw=2))  # fmt: skip
    panel.set_xticks(range(len(attacks) + 1), [*map(_wrapped, attacks), WORST], fontsize=9)
    panel.set_yticks(range(len(own)), [tick(w.verdict.arm.text) for w in own], fontsize=9)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set_title(tick(system), loc="left")


def _of(case: WorstCase, attack: str) -> Finding | None:
    return next((f for f in case.verdict.findings if f.attack == attack), None)


def _shade(finding: Finding | None) -> float:
    return math.nan if finding is None else min(1.0, max(0.0, finding.worst.advantage.value))


def _ink(shade: float) -> str:
    """Black or white, whichever stands out more from a square of this shade (WCAG luminance)."""
    red, green, blue, _ = mpl.colormaps[_SHADES](Normalize(0, 1.15)(shade))
    levels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
              for c in to_rgba((red, green, blue))[:3]]  # fmt: skip
    luminance = 0.2126 * levels[0] + 0.7152 * levels[1] + 0.0722 * levels[2]
    return "black" if luminance > 0.179 else "white"


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


def _heat_finding(system: str, own: list[WorstCase]) -> str:
    findings = [f for w in own if not w.verdict.arm.undefended for f in w.verdict.findings]
    if not findings:
        return f"{system}: only the undefended system was attacked."
    held = sum(f.verdict == HOLDS for f in findings)
    failed = sum(f.verdict == FAILS for f in findings)
    text = (
        f"{system}: of {len(findings)} pairs of defence and attack, {held} hold, {failed} do not "
        f"hold, {len(findings) - held - failed} are inconclusive or untested."
    )
    best = next((w for w in own if w.chosen), None)
    if best is None or best.finding is None:
        return f"{text} No defence faced every attack that succeeds without one."
    advantage = best.finding.worst.advantage
    return (
        f"{text} Lowest worst case: {best.verdict.arm.text}, {number(advantage.value)} "
        f"{bounds(advantage)} under {label(best.finding.attack)}."
    )
