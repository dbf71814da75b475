"""``doctor``: whether this installation can be trusted."""

from __future__ import annotations

import typer

from harness.commands.arguments import AsJson
from harness.core.errors import RunError
from harness.terminal import Terminal, emit


def doctor(as_json: AsJson = False) -> None:
    """Check this installation: versions, threads, disk, plug-ins, determinism."""
    from harness.doctor import examine

    if as_json:
        checks = [check._asdict() for check in examine()]
        good = all(check["good"] for check in checks)
        emit({"ok": good, "checks": checks})
    else:
        terminal, good = Terminal(), True
        for check in examine():
            good &= check.good
            mark = "ok " if check.good else "BAD"
            terminal.say(f"{mark} {check.name}: {check.text}", style="" if check.good else "red")
    raise typer.Exit(0 if good else RunError.exit_code)
