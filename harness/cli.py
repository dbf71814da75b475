"""The command line: its verbs, and what becomes of an error."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import typer
from typer.exceptions import TyperException

from harness.commands.assets import assets
from harness.commands.compare import compare
from harness.commands.doctor import doctor
from harness.commands.gate import gate
from harness.commands.init import init
from harness.commands.list import show_list
from harness.commands.plan import show_plan
from harness.commands.report import report
from harness.commands.retry import retry
from harness.commands.run import run
from harness.commands.schema import show_schema
from harness.commands.score import score
from harness.commands.validate import validate
from harness.core.errors import HarnessError, shown_path
from harness.core.own_packages import pin
from harness.reading.problems import InvalidScenario
from harness.terminal import close_stream, complain, emit, open_streams

INTERRUPTED = 130
INTERNAL_ERROR = 4
SCRIPT = "harness"
"""Name of the installed command, and the one that shells complete."""

app = typer.Typer(
    name=SCRIPT,
    help="Privacy attacks and robustness tests on federated sequential recommenders.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(run)
app.command()(validate)
app.command("plan")(show_plan)
app.command("list")(show_list)
app.command()(report)
app.command()(compare)
app.command()(gate)
app.command()(retry)
app.command()(score)
app.command()(init)
app.command("schema")(show_schema)
app.command()(assets)
app.command()(doctor)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return the exit code; a user's mistake never shows a traceback."""
    open_streams()
    given = sys.argv[1:] if arguments is None else arguments
    streams = sys.stdout, sys.stderr
    try:
        code = _run(given, "--json" in given)
    except SystemExit as stop:
        # The library's own answer to a closed pipe, at its help, is exit code 1 and other streams.
        if not isinstance(stop.__context__, BrokenPipeError):
            raise
        sys.stdout, sys.stderr = streams
        code = 0
    try:
        sys.stdout.flush()
    except OSError:
        close_stream(sys.stdout)
    return code


def _run(arguments: list[str], as_json: bool) -> int:
    """Run a command; an error becomes lines on standard error, or a JSON document."""
    try:
        pin()
        code = app(arguments, prog_name=_program(arguments), standalone_mode=False)
        # The library turns an interrupt into a bare exit code.
        if code == INTERRUPTED and as_json:
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except HarnessError as error:
        return _fail(error.exit_code, _entries(error), _lines(error), as_json)
    except TyperException as error:
        code = int(getattr(error, "exit_code", 2))
        message = getattr(error, "format_message", lambda: str(error))()
        if not as_json and hasattr(error, "show"):
            error.show()  # type: ignore[attr-defined]
            return code
        return _fail(code, [_entry(message)], message, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(INTERRUPTED, [_entry("interrupted")], "interrupted", as_json)
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None or error.strerror is None:
            line = f"internal error: {type(error).__name__}: {error}{_keep_traceback(error)}"
            return _fail(INTERNAL_ERROR, [_entry(line)], line, as_json)
        # A name that no file can have was given to us; all else is the machine's.
        code = 2 if error.errno == errno.ENAMETOOLONG else INTERNAL_ERROR
        line = f"error: {shown_path(error.filename)}: {error.strerror}"
        return _fail(code, [_entry(line)], line, as_json)
    except Exception as error:
        line = f"internal error: {type(error).__name__}: {error}{_keep_traceback(error)}"
        return _fail(INTERNAL_ERROR, [_entry(line)], line, as_json)


def _only_help(arguments: list[str]) -> bool:
    """Whether the library itself prints, and nothing else is done."""
    return not arguments or bool({"--help", "--show-completion"} & set(arguments))


def _program(arguments: list[str]) -> str:
    """Return how the user calls this program; a shell can only complete the installed command."""
    asked = arguments[:1] in (["--show-completion"], ["--install-completion"])
    completing = asked or f"_{SCRIPT.upper()}_COMPLETE" in os.environ
    installed = Path(sys.argv[0]).stem == SCRIPT
    return SCRIPT if completing or installed else "python -m harness"


def _fail(code: int, entries: list[dict[str, Any]], lines: str, as_json: bool) -> int:
    if as_json:
        emit({"ok": False, "exit_code": code, "errors": entries})
    else:
        complain(lines)
    return code


def _lines(error: HarnessError) -> str:
    if not isinstance(error, InvalidScenario):
        return f"error: {error}"
    count = len(error.problems)
    return f"{error}\n{count} problem{'s' if count > 1 else ''}"


def _entries(error: HarnessError) -> list[dict[str, Any]]:
    if not isinstance(error, InvalidScenario):
        return [_entry(str(error))]
    return [
        {
            "file": problem.mark.file,
            "line": problem.mark.line,
            "column": problem.mark.column,
            "path": problem.path,
            "message": problem.message,
        }
        for problem in error.problems
    ]


def _entry(message: str) -> dict[str, Any]:
    return {"file": None, "line": None, "column": None, "path": "", "message": message}


def _keep_traceback(error: Exception) -> str:
    """Keep the traceback in a file and say where; on a full disk, print it."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="harness-error-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            traceback.print_exception(error, file=file)
        return f"; details in {file.name}"
    except OSError:
        traceback.print_exception(error)
        return ""
