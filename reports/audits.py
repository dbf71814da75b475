"""Privacy budgets: what each defence claims, beside what canary clients prove of it.

Trainings with canaries are audits and nothing else. Their rows are read here alone, so that no
verdict, price or cost compares a training that had canaries in its cohorts with one that had not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.metrics.one_run import exceeds_claim, one_run_epsilon, provable_epsilon
from harness.results import Row
from reports.evidence import Arm, Condition, arm_of
from reports.tables import Cell, Head, Table
from reports.wording import MISSING, clean, join_words, label, number, percent, seeds_text

REFUTED, STANDS, SUSPICIOUS = "claim refuted", "not refuted", "suspicious"
OUT_OF_REACH, NO_CLAIM, NOT_AUDITED = "too few canaries to refute", "no claim", "not audited"
_TONES = {REFUTED: "bad", STANDS: "good", SUSPICIOUS: "warn"}
HOW_TO_READ = (
    "If the claim is right, the true ε lies between the two: ε audited is a lower bound that "
    "holds with 95 % confidence over all seeds together, ε claimed an upper bound. A gap says "
    "little: such bounds are loose, and a few hundred canaries cannot prove a large ε, however "
    "large it is (the most that they could prove stands below). A bound above the claim refutes "
    "it: the code adds less noise than it says, or counts it wrongly. ε estimated is what "
    "Gaussians fitted to the canaries give, the mean over seeds; it is no bound and may lie above "
    "a claim that is right. Suspicious is a claim whose canaries lie farther apart than the "
    "Gaussian mechanism with that ε would let them in 95 % of trainings: one in twenty right "
    "claims is called so, and it is no proof. HR is that of trainings with canaries in their "
    "cohorts."
)


@dataclass(frozen=True)
class Budget:
    """What is claimed and proved of one arm; NaN where something is not claimed or not audited.

    Attributes:
        arm: the defence at one strength.
        protected: what is protected, and who computed the claim, in words.
        against: against whom the claim holds.
        epsilon: claimed.
        delta: claimed, or the one that was audited where nothing is claimed.
        noise: noise multiplier.
        rounds: rounds that the claim covers.
        clients: who took part, in words; empty where nothing was audited.
        auditor: what the auditor saw.
        proved: lower bound over all seeds together.
        provable: what it would be if all guesses were right.
        estimate: mean Gaussian estimate.
        beyond: the canaries lie farther apart than a right claim lets them in 95 % of trainings.
        canaries: of all seeds.
        seeds: how many.
        utility: mean HR at the largest K with canaries in the cohort, and its K.
    """

    arm: Arm
    protected: str
    against: str
    epsilon: float
    delta: float
    noise: float
    rounds: int
    clients: str = ""
    auditor: str = ""
    proved: float = math.nan
    provable: float = math.nan
    estimate: float = math.nan
    beyond: bool = False
    canaries: int = 0
    seeds: int = 0
    utility: tuple[float, int] = (math.nan, 0)

    @property
    def verdict(self) -> str:
        """Whether the audit refutes the claim."""
        if not self.canaries or math.isnan(self.proved):
            return NOT_AUDITED
        if not math.isfinite(self.epsilon):
            return NO_CLAIM
        if self.proved > max(0.0, self.epsilon):
            return REFUTED
        if self.beyond:
            return SUSPICIOUS
        return STANDS if self.provable > self.epsilon else OUT_OF_REACH


def audited_cells(rows: Sequence[Row]) -> frozenset[str]:
    """Cells that had canaries in their cohorts."""
    return frozenset(row.cell for row in rows if row.metric == "epsilon_audited")


def without_audits(rows: Sequence[Row]) -> list[Row]:
    """Rows of all other cells."""
    cells = audited_cells(rows)
    return [row for row in rows if row.cell not in cells]


def budgets(rows: Sequence[Row], samples: pd.DataFrame) -> list[Budget]:
    """Return every arm that claims a budget or was audited, in the order of the rows."""
    audited, places = (
        audited_cells(rows),
        defaultdict[tuple[Arm, Condition | None], list[Row]](list),
    )
    for row in rows:
        if row.status != "ok" or row.kind != "federated":
            continue
        if row.cell in audited:
            places[arm_of(row), Condition(row.poisoning, row.malicious, row.noisy)].append(row)
        elif not math.isnan(row.epsilon):
            places[arm_of(row), None].append(row)
    measured = {arm for arm, condition in places if condition is not None}
    games = _games(samples)
    return [
        _budget(arm, condition, own, games)
        for (arm, condition), own in places.items()
        if condition is not None or arm not in measured
    ]


def budget_tables(found: Sequence[Budget]) -> list[Table]:
    """Claimed ε beside the audited lower bound, and in words what is claimed and was seen."""
    if not found:
        return []
    head = (
        Head("system"), Head("defence"), Head("ε claimed", "upper bound; δ"),
        Head("ε audited", "lower bound, 95 %"), Head("verdict"),
        Head("ε estimated", "no bound"), Head("noise z", "over the clip norm"), Head("rounds"),
        Head("canaries", "of all seeds"), Head("HR with canaries", "compare with nothing"),
    )  # fmt: skip
    caption = "Privacy budget that is claimed, beside what canary clients prove of it."
    numbers = Table(caption, head, tuple(_line(budget) for budget in found))
    words: dict[tuple[str, ...], list[Budget]] = {}
    for b in found:
        key = (b.arm.system, b.protected, b.against, b.clients, b.auditor)
        words.setdefault(key, []).append(b)
    what = (
        Head("system"), Head("defences"), Head("what is protected"), Head("against whom"),
        Head("clients of the audit"), Head("what the auditor saw"),
    )  # fmt: skip
    return [
        numbers,
        Table("What is claimed, and how it was audited.", what, tuple(map(_words, words.values()))),
    ]


def refuted(found: Sequence[Budget]) -> list[str]:
    """One sentence for every claim that its audit refutes."""
    return [
        f"{label(b.arm.system)}, {b.arm.text}: the privacy claim is REFUTED. It claims "
        f"ε = {number(b.epsilon)}, and {b.canaries} canaries prove ε ≥ {number(b.proved)} at "
        f"δ = {number(b.delta)}"
        for b in found
        if b.verdict == REFUTED
    ]


_Games = dict[str, np.ndarray]


def _games(samples: pd.DataFrame) -> _Games:
    own = samples[samples["metric"] == "canary_margin"]
    return {
        str(cell): np.asarray(group["value"], dtype=np.float64)
        for cell, group in own.groupby("cell", observed=True, sort=False)
    }


def _budget(arm: Arm, condition: Condition | None, own: Sequence[Row], games: _Games) -> Budget:
    claim = next((row for row in own if row.metric == "epsilon_claimed"), None)
    first = own[0]
    delta = first.delta if math.isfinite(first.delta) else _mean(own, "delta_audited")
    budget = Budget(
        arm,
        claim.reason if claim else "",
        claim.threat_model if claim else "",
        # A table of an earlier version may hold a claim below 0, which says no less than 0.
        max(0.0, first.epsilon) if math.isfinite(first.epsilon) else first.epsilon,
        delta,
        _mean(own, "noise_multiplier"),
        claim.n if claim else 0,
    )
    if condition is None:
        return budget
    seen = [games[cell] for cell in dict.fromkeys(row.cell for row in own) if cell in games]
    audits = [row for row in own if row.metric == "epsilon_audited"]
    size = sum(len(game) for game in seen)
    largest = max((row.k for row in own if row.metric == "hr"), default=0)
    return Budget(
        **{
            **vars(budget),
            "clients": _clients(condition),
            "auditor": audits[0].threat_model,
            "proved": one_run_epsilon(seen, delta) if size else _mean(own, "epsilon_audited"),
            "provable": provable_epsilon(size, delta) if size else math.nan,
            "estimate": _mean(own, "epsilon_estimate"),
            "beyond": exceeds_claim(
                [(row.value, row.n) for row in own if row.metric == "canary_separation"],
                first.epsilon,
                delta,
            ),
            "canaries": size or sum(row.n for row in audits),
            "seeds": len({row.seed for row in audits}),
            "utility": (_mean([r for r in own if r.k == largest], "hr"), largest),
        }
    )


def _mean(rows: Sequence[Row], metric: str) -> float:
    values = [row.value for row in rows if row.metric == metric and math.isfinite(row.value)]
    return float(np.mean(values)) if values else math.nan


def _line(budget: Budget) -> tuple[Cell, ...]:
    endless = math.isinf(budget.epsilon)
    if endless or math.isnan(budget.epsilon):
        claimed = Cell("no guarantee" if endless else "nothing", f"δ {number(budget.delta)}")
    else:
        claimed = Cell(number(budget.epsilon), f"δ {number(budget.delta)}")
    if budget.verdict == NOT_AUDITED:
        audited = Cell(MISSING)
    else:
        audited = Cell(f"≥ {number(budget.proved)}", f"of at most {number(budget.provable)}")
    value, k = budget.utility
    verdict = budget.verdict
    return (
        Cell(label(budget.arm.system), header=True),
        Cell(budget.arm.text),
        claimed,
        audited,
        Cell(verdict.upper() if verdict == REFUTED else verdict, tone=_TONES.get(verdict, "")),
        Cell(number(budget.estimate)),
        Cell(number(budget.noise)),
        Cell(str(budget.rounds) if budget.rounds else MISSING),
        Cell(f"{budget.canaries:,}" if budget.canaries else MISSING,
             seeds_text(budget.seeds) if budget.seeds else ""),
        Cell(number(value), f"HR@{k}") if k else Cell(MISSING),
    )  # fmt: skip


def _words(alike: Sequence[Budget]) -> tuple[Cell, ...]:
    """Arms that share every word stand in one row."""
    first = alike[0]
    texts = (first.protected, first.against, first.clients, first.auditor)
    arms = Cell(join_words([b.arm.text for b in alike]))
    system = Cell(label(first.arm.system), header=True)
    return (system, arms, *(Cell(clean(text, 300) or MISSING) for text in texts))


def _clients(condition: Condition) -> str:
    text = f"{percent(condition.malicious)} canaries"
    return text + (f", {percent(condition.noisy)} noisy" if condition.noisy else "")


def audit_words(found: Sequence[Budget]) -> str:
    """One sentence on what was audited; empty if nothing was."""
    own = [b for b in found if b.verdict != NOT_AUDITED]
    if not own:
        return ""
    claims = [b for b in own if b.verdict != NO_CLAIM]
    broken = [b for b in claims if b.verdict == REFUTED]
    arms = f"{len(claims)} of {len(own)} audited settings claim a budget"
    names = join_words([b.arm.text for b in broken])
    verdict = f"refuted: {names}" if broken else "none of these claims is refuted"
    return f"{arms}; {verdict}."
