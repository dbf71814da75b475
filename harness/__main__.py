"""``python -m harness``, and the installed command ``harness``."""

from __future__ import annotations

import os
import sys


def run() -> None:
    """Run the command line and end the process with its exit code."""
    _leave_out_current_directory()
    from harness.cli import main

    raise SystemExit(main())


def _leave_out_current_directory() -> None:
    """Import nothing from the user's current directory, which ``python -m`` searches first.

    A ``numpy.py`` or a folder ``yaml`` there would be run. A checkout's own root stays: the
    package was found there.
    """
    if sys.flags.safe_path or not sys.path:
        return
    root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    first = sys.path[0] or os.curdir
    if _same(first, os.curdir) and not _same(first, root):
        del sys.path[0]


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


if __name__ == "__main__":
    run()
