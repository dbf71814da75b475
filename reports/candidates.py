"""Hit@1 among candidates beside what needs no model: popularity, a guess by frequency, stage 1."""

from __future__ import annotations

from harness.results import Interval
from reports.choosers import CHOOSERS, REFERENCES
from reports.evidence import Arm, Condition, Estimate, Evidence
from reports.tables import Cell, Head, Table, interval_cell
from reports.wording import MISSING, bounds, label, number

_PROTOCOLS = {"sampled": "uniform", "popularity": "by popularity"}
HOW_TO_READ = (
    "Every line is measured on the same lists and users from left to right. Uniform candidates are "
    "mostly little known, so ranking them by popularity finds the held-out item far more often "
    "than a guess; candidates drawn by popularity take that help away. Popularity is counted in "
    "the training data; ties count as a fair draw. Differences are paired by user."
)


def candidate_table(evidence: Evidence) -> Table | None:
    """Every chooser of a candidate list with its references; None where nothing chose."""
    body = []
    for estimate in _choosers(evidence):
        name, prefix, stage1 = CHOOSERS[estimate.metric]
        found = [_beside(evidence, estimate, f"{prefix}{r}") for r in REFERENCES]
        found.append(_beside(evidence, estimate, stage1) if stage1 else None)
        gain = gain_over_popularity(evidence, estimate)
        body.append((
            Cell(label(estimate.arm.system), header=True), Cell(estimate.arm.text),
            Cell(estimate.condition.text), Cell(name), Cell(_PROTOCOLS[estimate.protocol]),
            Cell(f"{estimate.interval.n:,}"), Cell(number(estimate.chance)),
            interval_cell(estimate.interval), *(_cell(e) for e in found),
            interval_cell(gain.interval) if gain else Cell(MISSING),
            Cell(_verdict(gain.interval) if gain else MISSING),
        ))  # fmt: skip
    names = ("system", "defence", "clients", "what chooses", "candidates", "n", "guessing")
    head = (
        *map(Head, names), Head("Hit@1"), Head("popularity", "the same lists by popularity"),
        Head("guess by frequency"), Head("stage 1"), Head("over popularity", "paired by user"),
        Head("against popularity"),
    )  # fmt: skip
    caption = f"Hit@1 among candidates. {HOW_TO_READ}"
    return Table(caption, head, tuple(body), folded=len(body) > 24) if body else None


def language_words(evidence: Evidence) -> list[str]:
    """A sentence for every trained language stage: whether it beats popularity, and by how much."""
    said = []
    for estimate in _choosers(evidence):
        gain = gain_over_popularity(evidence, estimate)
        if estimate.metric != "hit1_all" or gain is None:
            continue
        popular = _beside(evidence, estimate, "asked_popularity_hit1")
        against = f" against {_shown(popular.interval)} by popularity" if popular else ""
        said.append(
            f"{label(estimate.arm.system)}, {estimate.arm.text}, {estimate.condition.text}, "
            f"candidates drawn {_drawn(estimate)}: the language stage "
            f"{_verdict(gain.interval)} popularity: Hit@1 {_shown(estimate.interval)}{against} on "
            f"the same lists, a paired difference of {_shown(gain.interval)}."
        )
    return said


def gain_over_popularity(evidence: Evidence, estimate: Estimate) -> Estimate | None:
    """The paired difference to popularity of what an estimate says."""
    return _beside(evidence, estimate, f"{estimate.metric}_over_popularity")


def against_popularity(evidence: Evidence, estimate: Estimate) -> str:
    """``beats``, ``is below`` or ``is not told apart from``; empty where it was not measured."""
    gain = gain_over_popularity(evidence, estimate)
    return _verdict(gain.interval) if gain else ""


def _choosers(evidence: Evidence) -> list[Estimate]:
    found = evidence.select(
        lambda e: (
            e.metric in CHOOSERS
            and e.protocol in _PROTOCOLS
            and e.arm.kind != "anchor"
            and not e.arm.companion
        )
    )
    order: dict[Arm, int] = {}
    for estimate in found:
        order.setdefault(estimate.arm, len(order))
    metrics, ways = list(CHOOSERS), list(_PROTOCOLS)

    def place(e: Estimate) -> tuple[int, tuple[str, float, float], int, int]:
        where: Condition = e.condition
        clients = (where.poisoning, where.malicious, where.noisy)
        return order[e.arm], clients, metrics.index(e.metric), ways.index(e.protocol)

    return sorted(found, key=place)


def _beside(evidence: Evidence, estimate: Estimate, metric: str) -> Estimate | None:
    measure = (metric, estimate.k, estimate.protocol)
    return evidence.find(estimate.arm, estimate.condition, measure, "none")


def _verdict(gain: Interval) -> str:
    if gain.low > 0:
        return "beats"
    return "is below" if gain.high < 0 else "is not told apart from"


def _drawn(estimate: Estimate) -> str:
    return "uniformly" if estimate.protocol == "sampled" else "by popularity"


def _cell(estimate: Estimate | None) -> Cell:
    return interval_cell(estimate.interval) if estimate else Cell(MISSING)


def _shown(interval: Interval) -> str:
    return f"{number(interval.value)} {bounds(interval)}"
