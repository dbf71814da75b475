"""What every command that trains has around it: the lock, the progress, the report, the end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from harness.commands.report import write_report
from harness.core.errors import HarnessError, RunError
from harness.progress import Progress
from harness.run_folder import RESULTS, run_lock
from harness.terminal import Terminal, complain

INTERRUPTED = 130


def work(
    folder: Path,
    train: Callable[[Progress], int],
    *,
    jobs: int,
    force_unlock: bool,
    warnings: Sequence[str] = (),
) -> None:
    """Hold a run folder, train in it, write its report, and end the command.

    Args:
        folder: the run folder; made where it is missing.
        train: does the work and returns the exit status.
        jobs: cells that run at once, for the time left.
        force_unlock: take the folder's lock by force.
        warnings: said before the work begins.

    Raises:
        Exit: always, with the status.
        RunError: another process holds the folder.
    """
    progress = Progress(jobs)
    for warning in warnings:
        progress.line(f"warning: {warning}")
    try:
        with run_lock(folder, force=force_unlock, say=progress.line):
            status = train(progress)
    except KeyboardInterrupt:
        status = INTERRUPTED
    finally:
        progress.finish()
    if status == INTERRUPTED:
        complain(f"interrupted; go on with: python -m harness {shlex.join(sys.argv[1:])}")
    elif (folder / RESULTS).is_file():
        status = _reported(folder, status)
    raise typer.Exit(status)


def _reported(folder: Path, status: int) -> int:
    """Write the report and return the exit status: what is computed is not lost if that fails."""
    try:
        path = write_report(folder)
    except KeyboardInterrupt:
        complain(f"the results are kept; for the report: {_report_command(folder)}")
        return INTERRUPTED
    except Exception as error:
        known = isinstance(error, HarnessError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        complain(
            f"error: the report can't be written: {reason}. The results are kept in {folder}; "
            f"for the report: {_report_command(folder)}"
        )
        return status or RunError.exit_code
    Terminal().say(f"report: {path}")
    return status


def _report_command(folder: Path) -> str:
    return f"python -m harness report {shlex.quote(str(folder))}"
