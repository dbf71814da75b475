"""``python -m harness``, and the installed command ``harness``."""

from __future__ import annotations

from harness.cli import main


def run() -> None:
    """Run the command line and end the process with its exit code."""
    raise SystemExit(main())


if __name__ == "__main__":
    run()
