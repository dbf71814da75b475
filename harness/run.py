"""One cell from data to rows: the function to read first."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.answers import score_answers
from harness.audit import score_audit, score_budget
from harness.case import Case, build_case
from harness.cells import Cell
from harness.claims import score_claims
from harness.core.observe import View
from harness.core.seeds import Seeds
from harness.fed.checkpoint import Checkpoints
from harness.fed.loop import federate
from harness.fed.training import Outcome
from harness.inputs import Expected, Inputs
from harness.provenance import package_versions
from harness.rows import Row, SampleBlock
from harness.score import score_recommendations
from harness.sheet import NAN, Sheet, score_seeds


@dataclass(frozen=True)
class CellResult:
    """Rows and samples of a finished cell, and where its time went.

    Attributes:
        rows: one row a number.
        samples: values by unit behind them.
        timings: stage to seconds.
        inputs: what they were made from.
    """

    rows: list[Row]
    samples: list[SampleBlock]
    timings: dict[str, float]
    inputs: Inputs


@dataclass(frozen=True)
class Desk:
    """Where a cell is worked on.

    Attributes:
        cache: folder for derived files that cells share.
        progress: called with a line of text now and then.
        rounds: folder of this cell's checkpoints; None keeps none.
        pause: called between rounds; raises `Interrupted` where the work is to stop.
        memory_bytes: what local training may take; None for no bound.
        expected: what data and models were when the run started; None holds nothing against it.
    """

    cache: Path
    progress: Callable[[str], None]
    rounds: Path | None = None
    pause: Callable[[], None] = lambda: None
    memory_bytes: float | None = None
    expected: Expected | None = None

    def checkpoints(self, cell: Cell, case: Case) -> Checkpoints | None:
        """Return where this training's rounds are kept."""
        if self.rounds is None:
            return None
        versions = {name: str(version) for name, version in package_versions().items()}
        identity = {"training": cell.training, "data": case.data_hash, **versions}
        return Checkpoints(self.rounds, identity, self.progress)


def run_cell(cell: Cell, base: dict[str, Any], desk: Desk) -> CellResult:
    """Train one system in one scenario cell, attack what it showed, and score.

    Args:
        cell: what to run.
        base: row fields that identify the run.
        desk: where.

    Raises:
        Interrupted: the person at the terminal asked; rounds done are on the desk.
        DataError: data or models changed since the run started.
    """
    clock = _Clock()
    case = build_case(cell, desk.cache, desk.progress)
    inputs = case.inputs()
    if desk.expected is not None:
        desk.expected.require(cell, inputs)
    clock.lap("data")
    state = case.training.system.setup(
        case.training.domains, case.resources, case.training.seeds.child("setup")
    )
    clock.lap("setup")
    training = replace(case.training, pause=desk.pause, memory_bytes=desk.memory_bytes)
    outcome = federate(training, state, desk.checkpoints(cell, case))
    clock.lap("training")
    sheet = Sheet(
        _row_base(cell, case, outcome, base),
        score_seeds(cell.seed),
        cell.evaluation.bootstrap,
    )
    score_system(sheet, cell, case, outcome)
    clock.lap("evaluation")
    score_attacks(sheet, case, outcome)
    score_budget(sheet, case, outcome)
    score_audit(sheet, case, outcome, cell.poisoning.label if cell.poisoning else "none")
    clock.lap("attacks")
    score_cost(sheet, outcome, clock.seconds)
    return CellResult(sheet.rows, sheet.samples, clock.seconds, inputs)


def score_system(sheet: Sheet, cell: Cell, case: Case, outcome: Outcome) -> None:
    """Score the released recommender, its language stage, and the system's own findings."""
    seeds, asked = Seeds(cell.seed).child("evaluation"), cell.evaluation
    count, ways = asked.candidates, asked.candidate_sampling
    score_recommendations(sheet, outcome.released, case.truth, asked.k, count, seeds, ways)
    limit = min(asked.answer_users, getattr(outcome.released, "answer_limit", 0))
    if limit:
        score_answers(sheet, outcome.released, case.truth, count, limit, seeds, ways)
    for metric, value in case.training.system.findings(outcome.state).items():
        sheet.figure(metric, NAN if value is None else value, side="cost", better="higher")


def score_attacks(sheet: Sheet, case: Case, outcome: Outcome) -> None:
    """Let every inference attack work on its view, and score what it claims."""
    transcript = outcome.transcript
    truth, items = case.truth, case.training.system.upload_items(outcome.state)
    if items is not None:
        owner = transcript.catalogue.domain[items]
        truth = replace(truth, upload_items=items.numpy(), upload_domain=owner.numpy())
    for label, attack in case.inference.items():
        view = View(transcript, attack.threat_model)
        reason = attack.declines(view)
        if reason is not None:
            sheet.figure(
                "attack",
                NAN,
                side="privacy",
                better="lower",
                attack=label,
                threat_model=attack.threat_model.words,
                status="not applicable",
                reason=reason,
            )
            continue
        claims = attack.infer(view, case.training.seeds.child("attack", label))
        score_claims(sheet, attack, label, claims, truth, transcript.protocol)


def score_cost(sheet: Sheet, outcome: Outcome, seconds: dict[str, float]) -> None:
    """Enter traffic, time, memory and refused updates."""
    lower: dict[str, Any] = {"side": "cost", "better": "lower"}
    if outcome.federation.num_rounds:
        sheet.figure("upload_mb", outcome.bytes_up / 2**20, **lower)
        rejected = sum(outcome.guard.rejected.values())
        sheet.figure(
            "updates_rejected",
            rejected,
            n=outcome.guard.received,
            reason=outcome.guard.words(),
            **lower,
        )
        sheet.figure("empty_rounds", outcome.guard.empty_rounds, **lower)
    sheet.figure("seconds", sum(seconds.values()), **lower)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sheet.figure("peak_memory_mb", peak, **lower)


def _row_base(cell: Cell, case: Case, outcome: Outcome, base: dict[str, Any]) -> dict[str, Any]:
    budgets = [d.spent(outcome.federation) for d in case.training.defenses]
    spent = [budget for budget in budgets if budget is not None]
    return {
        **base,
        "cell": cell.id,
        "training": cell.training,
        "data_hash": case.data_hash,
        "dataset": cell.dataset_label,
        "system": cell.system.label,
        "kind": case.training.system.kind,
        "poisoning": cell.poisoning.label if cell.poisoning else "none",
        "defense": cell.defense.label,
        "defense_family": cell.defense.family,
        "strength": NAN if cell.defense.strength is None else cell.defense.strength,
        "strength_name": cell.defense.strength_name,
        "malicious": cell.malicious if cell.poisoning else 0.0,
        "noisy": cell.noisy.fraction,
        "seed": cell.seed,
        "epsilon": spent[0].epsilon if len(spent) == 1 else NAN,
        "delta": spent[0].delta if len(spent) == 1 else NAN,
    }


class _Clock:
    """Seconds by stage, on the monotonic clock."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.monotonic()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap under ``stage``."""
        now = time.monotonic()
        self.seconds[stage] = now - self._start
        self._start = now
