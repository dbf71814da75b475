"""``report``: write a run's report again."""

from __future__ import annotations

from pathlib import Path

from harness.commands.arguments import Folder
from harness.core.errors import DataError
from harness.terminal import Terminal


def report(folder: Folder) -> None:
    """Write a run's report again."""
    from harness.run_folder import RESULTS

    if not (folder / RESULTS).is_file():
        raise DataError(f"{folder}: no results there ({RESULTS} is missing)")
    Terminal().say(f"report: {write_report(folder)}")


def write_report(folder: Path) -> Path:
    """Write the report of a run folder that holds results, and return its path."""
    from reports.html import build_report

    return build_report(folder)
