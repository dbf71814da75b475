"""The gate: a run held against limits, for a terminal, for CI and for other programs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.core.errors import DataError, ScenarioError
from harness.terminal import Terminal

if TYPE_CHECKING:
    from reports.gates.judging import Outcome

DEFAULT_MARGIN = 0.02
_STYLES = {"fail": "bold red", "inconclusive": "bold yellow", "pass": "bold green"}


def gate(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="run folder")],
    limits: Annotated[Path | None, typer.Option("--limits", help="limits file, YAML")] = None,
    junit: Annotated[Path | None, typer.Option(help="write JUnit XML here")] = None,
    summary: Annotated[
        Path | None,
        typer.Option(help="write Markdown here; $GITHUB_STEP_SUMMARY is appended to"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the outcome as JSON")] = False,
    accept_edited: Annotated[
        bool, typer.Option("--accept-edited", help="judge results that were edited by hand")
    ] = False,
    learn: Annotated[bool, typer.Option("--learn", help="propose limits from RUN")] = False,
    out: Annotated[Path | None, typer.Option(help="with --learn: write the limits here")] = None,
    margin: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help=f"with --learn: room left; {DEFAULT_MARGIN:g}"),
    ] = None,
) -> None:
    """Hold a run against limits: exit 0 all pass, 10 one fails, 11 inconclusive."""
    if learn:
        if limits or junit or summary or as_json:
            raise ScenarioError("--learn proposes limits: it goes with --out and --margin only")
        _learn(folder, out, DEFAULT_MARGIN if margin is None else margin, accept_edited)
        return
    if out or margin is not None:
        raise ScenarioError("--out and --margin go with --learn")
    if limits is None:
        raise ScenarioError("give --limits FILE to judge a run, or --learn to propose limits")
    from harness.gate import judge_run

    outcome = judge_run(folder, limits, accept_edited=accept_edited)
    _write(outcome, junit, summary)
    if as_json:
        from reports.gates.record import as_json as document

        print(document(outcome))
    else:
        _show(outcome)
    raise typer.Exit(outcome.exit_code)


def _learn(folder: Path, out: Path | None, margin: float, accept_edited: bool) -> None:
    if out is not None and out.exists():
        raise ScenarioError(f"{out} is there already; limits are not replaced: remove it first")
    from harness.files import write_atomic
    from harness.gate import propose_limits

    text = propose_limits(folder, margin, accept_edited=accept_edited)
    if out is None:
        print(text, end="")
        return
    write_atomic(out, text.encode())
    Terminal().say(f"limits: {out}")


def _write(outcome: Outcome, junit: Path | None, summary: Path | None) -> None:
    """Write what CI reads, before anything is printed."""
    from harness.files import write_atomic

    if junit is not None:
        from reports.gates.junit import junit as document

        write_atomic(junit, document(outcome))
    if summary is None:
        return
    from reports.gates.table import markdown

    text = markdown(outcome).encode()
    if _is_step_summary(summary):
        # Other steps of the job write to this file as well.
        try:
            with summary.open("ab") as file:
                file.write(text)
        except OSError as error:
            raise DataError(f"cannot write {summary}: {error.strerror}") from error
    else:
        write_atomic(summary, text)


def _is_step_summary(path: Path) -> bool:
    given = os.environ.get("GITHUB_STEP_SUMMARY")
    return bool(given) and Path(given).resolve() == path.resolve()


def _show(outcome: Outcome) -> None:
    from reports.gates.table import COLUMNS, NARROW, headline, stacked, table_rows

    terminal = Terminal()
    if terminal.width < NARROW:
        for line in stacked(outcome):
            terminal.say(line)
    else:
        terminal.table(COLUMNS, table_rows(outcome))
    for note in outcome.notes:
        terminal.say(f"note: {note}", style="yellow")
    terminal.say(f"\n{headline(outcome)}", style=_STYLES[outcome.verdict])
