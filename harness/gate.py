"""A run folder held against a limits file: what the command, CI and a test of a user's own share.

Nothing is judged on results that were edited after they were written, unless that is accepted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.core.errors import DataError
from harness.limits import read_limits

if TYPE_CHECKING:
    from reports.evidence import Evidence
    from reports.gates.judging import Outcome

_FINISHED = frozenset({"done", "complete", "finished"})


class Run(NamedTuple):
    """A run as a gate reads it.

    Attributes:
        name: of the run.
        evidence: its estimates.
        unfinished: why it is not complete; empty if it is.
        notes: what the reader of a verdict should know.
    """

    name: str
    evidence: Evidence
    unfinished: str
    notes: tuple[str, ...]


def judge_run(folder: Path, limits: Path, *, accept_edited: bool = False) -> Outcome:
    """Judge a run.

    Args:
        folder: the run folder.
        limits: the limits file.
        accept_edited: judge results that do not have the hash they were written with.

    Raises:
        ScenarioError: the limits file is wrong, or a limit selects nothing.
        DataError: the results are missing, unreadable or edited.
    """
    from reports.gates.judging import judge_limits

    demands = read_limits(limits)
    run = read_run(folder, accept_edited=accept_edited)
    return judge_limits(
        demands, run.evidence, run=run.name, unfinished=run.unfinished, notes=run.notes
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
    if run.unfinished:
        raise DataError(f"{folder}: {run.unfinished}; limits are learnt from a complete run")
    text = propose(run.evidence, run.name, margin)
    if text is None:
        raise DataError(f"{folder}: nothing to propose: no estimate has two seeds and an interval")
    return text


def read_run(folder: Path, *, accept_edited: bool = False) -> Run:
    """Read and verify a run's results.

    Raises:
        DataError: missing, unreadable, empty, or edited and not accepted.
    """
    from harness.results import read_rows, read_samples, verify_results
    from reports.evidence import Evidence

    rows = read_rows(folder)
    if not rows:
        raise DataError(f"{folder}: the run has no results")
    edits = verify_results(folder)
    if edits and not accept_edited:
        raise DataError(
            f"{folder}: {'; '.join(edits)}. A gate judges results as they were written; "
            "run the scenario again, or give --accept-edited"
        )
    status = _status(folder)
    unfinished = "" if status in _FINISHED else f"the run's status is {status!r}"
    name = folder.resolve().name
    return Run(name, Evidence(rows, read_samples(folder)), unfinished, edits)


def _status(folder: Path) -> str:
    """The status in the manifest; a run without one counts as done."""
    try:
        text = (folder / "manifest.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return "done"
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{folder / 'manifest.json'}: {error}") from error
    try:
        return str(json.loads(text)["status"])
    except (ValueError, KeyError, TypeError):
        return "unreadable"
