"""What a user may see go wrong, and the exit code each kind ends the command with."""

from __future__ import annotations

import os

MAX_SHOWN = 160


def shown_path(path: object) -> str:
    """Return a path for a message: unprintable characters escaped, a very long one shortened."""
    text = os.fsdecode(path) if isinstance(path, (bytes, os.PathLike)) else str(path)
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


class HarnessError(Exception):
    """An error that the person at the terminal can act on; printed without a traceback.

    Attributes:
        exit_code: status of the process that ends with this error.
    """

    exit_code = 4


class ScenarioError(HarnessError):
    """The scenario or the command line is wrong."""

    exit_code = 2


class DataError(HarnessError):
    """A data set is missing, empty or inconsistent."""

    exit_code = 3


class AssetError(HarnessError):
    """A pinned model or data file is missing or is not the pinned one."""

    exit_code = 3


class RunError(HarnessError):
    """Training, an attack or writing failed; what was finished is kept."""

    exit_code = 4


class Interrupted(HarnessError):
    """The person at the terminal asked to stop; what was finished is kept."""

    exit_code = 130
