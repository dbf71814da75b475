"""A run folder held against a limits file: what the command, CI and a test of a user's own share.

Nothing is judged on results that were edited after they were written, unless that is accepted, and
nothing passes on a sample that shrank: cells, rows or users that the run had and the folder lacks.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.core.errors import DataError
from harness.limits import read_limits
from harness.sealing import FINISHED

if TYPE_CHECKING:
    from reports.evidence import Evidence
    from reports.gates.judging import Outcome


class Run(NamedTuple):
    """A run as a gate reads it.

    Attributes:
        name: of the run.
        evidence: its estimates.
        unfinished: why it is not complete; empty if it is.
        notes: what the reader of a verdict should know.
        doubts: what keeps any verdict from being a pass: planned cells, rows or users that are
            lost, and files that no hash covers.
    """

    name: str
    evidence: Evidence
    unfinished: str
    notes: tuple[str, ...]
    doubts: tuple[str, ...] = ()


def judge_run(folder: Path, limits: Path, *, accept_edited: bool = False) -> Outcome:
    """Judge a run.

    Args:
        folder: the run folder.
        limits: the limits file.
        accept_edited: judge results that do not have the hash they were written with, or that no
            hash covers. Cells, rows and users that are lost stay lost.

    Raises:
        ScenarioError: the limits file is wrong, or a limit selects nothing.
        DataError: the results are missing, unreadable or edited.
    """
    from reports.gates.judging import judge_limits

    demands = read_limits(limits)
    run = read_run(folder, accept_edited=accept_edited)
    return judge_limits(
        demands,
        run.evidence,
        run=run.name,
        unfinished=run.unfinished,
        notes=run.notes,
        doubts=run.doubts,
    )


def propose_limits(folder: Path, margin: float, *, accept_edited: bool = False) -> str:
    """Return a limits file that a run passes, in YAML.

    Args:
        folder: the run folder.
        margin: how far each limit is moved away from the bound that the run reached.
        accept_edited: as in :func:`judge_run`.

    Raises:
        DataError: the results are missing, unreadable or edited, or support no limit at all.
    """
    from reports.gates.learning import propose

    run = read_run(folder, accept_edited=accept_edited)
    if run.unfinished or run.doubts:
        why = "; ".join(filter(None, (run.unfinished, *run.doubts)))
        raise DataError(f"{folder}: {why}; limits are learnt from a complete run")
    text = propose(run.evidence, run.name, margin)
    if text is None:
        raise DataError(f"{folder}: nothing to propose: no estimate has two seeds and an interval")
    return text


def read_run(folder: Path, *, accept_edited: bool = False) -> Run:
    """Read and verify a run's results.

    Raises:
        DataError: missing, unreadable, empty, or edited and not accepted.
    """
    from harness.results import read_rows, read_samples
    from harness.sealing import verify_run
    from reports.evidence import Evidence

    rows = read_rows(folder)
    if not rows:
        raise DataError(f"{folder}: the run has no results")
    seals = verify_run(folder)
    if seals.edits and not accept_edited:
        raise DataError(
            f"{folder}: {'; '.join(seals.edits)}. A gate judges results as they were written; "
            "run the scenario again, or give --accept-edited"
        )
    # Edits may be accepted and what no hash covers too; a hole in the sample never is.
    doubts = [*seals.lost, *(() if accept_edited else seals.unchecked)]
    notes = (*seals.edits, *(seals.unchecked if accept_edited else ()))
    unfinished = _unfinished(_manifest(folder))
    return Run(
        folder.resolve().name,
        Evidence(rows, read_samples(folder)),
        unfinished,
        notes,
        tuple(doubts),
    )


def _manifest(folder: Path) -> dict[str, Any] | None:
    from harness.sealing import read_manifest

    try:
        return read_manifest(folder)
    except DataError:
        return {}  # damaged, which is among the edits already


def _unfinished(manifest: dict[str, Any] | None) -> str:
    """Why a run is not complete; empty if its manifest says that it is."""
    if manifest is None:
        return "manifest.json is missing, so nothing says that every planned cell was run"
    status = str(manifest.get("status", "unreadable"))
    return "" if status in FINISHED else f"the run's status is {status!r}"
