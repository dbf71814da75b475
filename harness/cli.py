"""The command line: verbs that parse, call and print.

What a verb needs is imported when it is called: help, and verbs that read a finished run, start
without the training libraries.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from harness.commands.compare import compare
from harness.commands.gate import gate
from harness.core.errors import DataError, HarnessError, ScenarioError
from harness.kinds import KINDS, Kind
from harness.reading.problems import InvalidScenario, suggest
from harness.terminal import Terminal, close_output, complain

if TYPE_CHECKING:
    from harness.forecast import Forecast
    from harness.plan import Plan

MAX_CELLS = 10_000
"""A plan with more cells than this is only run when the user confirms it."""

INTERRUPTED = 130
INTERNAL_ERROR = 4
RESULTS = "results.parquet"

app = typer.Typer(
    name="harness",
    help="Privacy attacks and robustness tests on federated sequential recommenders.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

File = Annotated[Path, typer.Argument(metavar="SCENARIO.yaml", help="the scenario")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-S", metavar="KEY=VALUE", help="override, e.g. seeds=[0,1]"),
]


@app.command()
def run(
    scenario: File,
    overrides: Overrides = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="processes")] = None,
    out: Annotated[Path | None, typer.Option(help="run folder; default runs/NAME")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="run at most so many cells")] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going/--fail-fast", help="go on after a failed cell")
    ] = True,
    force_unlock: Annotated[bool, typer.Option(help="take a run folder's lock by force")] = False,
    yes: Annotated[bool, typer.Option(help=f"run more than {MAX_CELLS} cells")] = False,
) -> None:
    """Train, attack and score a scenario, and write its report."""
    from harness.plan import expand
    from harness.scenario import load

    loaded = load(scenario, overrides or ())
    plan = expand(loaded)
    cells = len(plan.cells)
    if cells > MAX_CELLS and limit is None and not yes:
        raise ScenarioError(f"{scenario}: {cells} cells, more than {MAX_CELLS}; add --yes to run")
    from harness.launch import run_scenario
    from harness.progress import Progress
    from harness.run_folder import claim, default_folder, run_lock

    folder = out or default_folder(loaded)
    claim(folder, loaded)
    progress = Progress(jobs or loaded.compute.jobs)
    for warning in plan.warnings:
        progress.line(f"warning: {warning}")
    try:
        with run_lock(folder, force=force_unlock, say=progress.line):
            status = run_scenario(
                loaded, folder, jobs or loaded.compute.jobs, keep_going, limit, progress
            )
    except KeyboardInterrupt:
        status = INTERRUPTED
    finally:
        progress.finish()
    if status == INTERRUPTED:
        complain(f"interrupted; go on with: python -m harness {shlex.join(sys.argv[1:])}")
    elif (folder / RESULTS).is_file():
        Terminal().say(f"report: {_report(folder)}")
    raise typer.Exit(status)


def _report(folder: Path) -> Path:
    from reports.html import build_report

    return build_report(folder)


@app.command()
def validate(scenario: File, overrides: Overrides = None) -> None:
    """Check a scenario and print every problem as FILE:LINE:COLUMN: PATH: MESSAGE."""
    from harness.plan import expand
    from harness.scenario import load

    plan = expand(load(scenario, overrides or ()))
    terminal = Terminal()
    terminal.say(f"{scenario}: valid, {len(plan.cells)} cells in {plan.trainings} trainings")
    for warning in plan.warnings:
        terminal.say(f"warning: {warning}", style="yellow")


@app.command("plan")
def show_plan(
    scenario: File,
    overrides: Overrides = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="processes")] = None,
) -> None:
    """Show what a scenario would run, its cost, and where it leaves a defence's theory."""
    from harness.forecast import facts_at_hand, forecast
    from harness.plan import expand
    from harness.scenario import load

    loaded = load(scenario, overrides or ())
    plan = expand(loaded)
    known = forecast(plan, facts_at_hand(loaded.datasets), jobs or loaded.compute.jobs)
    _print_plan(Terminal(), plan, known)


def _print_plan(terminal: Terminal, plan: Plan, known: Forecast) -> None:
    from harness.progress import duration

    columns = ("system", "data set", "clients", "cells", "trainings", "time", "memory", "disk")
    rows = [
        (
            group.system,
            group.dataset,
            "–" if group.clients is None else str(group.clients),
            str(group.cells),
            str(group.trainings),
            "unknown" if group.seconds is None else duration(group.seconds),
            _size(group.memory_bytes),
            _size(group.disk_bytes),
        )
        for group in known.groups
    ]
    terminal.table(columns, rows)
    time = "unknown" if known.seconds is None else duration(known.seconds)
    terminal.say(f"\n{known.cells} cells in {known.trainings} trainings; time: {time}")
    if plan.not_run:
        terminal.say("\nnot run:")
        for entry in plan.not_run:
            what = " × ".join(part for part in (entry.system, entry.defense, entry.attack) if part)
            terminal.say(f"  {what}: {entry.part} {entry.status}: {entry.reason}")
    for warning in (*plan.warnings, *known.theory):
        terminal.say(f"warning: {warning}", style="yellow")
    if known.cells > MAX_CELLS:
        terminal.say(f"more than {MAX_CELLS} cells: `run` needs --yes", style="yellow")


def _size(count: float | None) -> str:
    return "unknown" if count is None else f"{count / 2**20:,.0f} MiB"


@app.command("list")
def show_list(
    kind: Annotated[str, typer.Argument(metavar="|".join(KINDS))],
    as_json: Annotated[bool, typer.Option("--json", help="all there is to know, as JSON")] = False,
) -> None:
    """List systems, attacks, defenses, datasets or metrics."""
    from harness.listing import entries
    from harness.plugins import load_plugins

    chosen: Kind | None = next((known for known in KINDS if known == kind), None)
    if chosen is None:
        raise ScenarioError(f"nothing called {kind!r} to list{suggest(kind, KINDS)}")
    load_plugins()
    found = entries(chosen)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False))
        return
    terminal = Terminal()
    for entry in found:
        source = f" [{entry['paper']}, {entry['fidelity']}]" if "paper" in entry else ""
        terminal.say(f"{entry['name']}{source}", style="bold")
        terminal.say(f"  {entry['summary']}")
        for name, field in entry.get("parameters", {}).items():
            given = "required" if field["required"] else f"default {json.dumps(field['default'])}"
            about = f": {field['description']}" if field["description"] else ""
            terminal.say(f"    {name} ({given}){about}")


@app.command()
def report(folder: Annotated[Path, typer.Argument(metavar="RUN", help="run folder")]) -> None:
    """Write a run's report again."""
    if not (folder / RESULTS).is_file():
        raise DataError(f"{folder}: no results there ({RESULTS} is missing)")
    Terminal().say(f"report: {_report(folder)}")


@app.command()
def assets(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]… | all")] = None,
) -> None:
    """List the pinned models and data sets, or fetch and check some of them."""
    from harness.assets import ASSETS, fetch, is_complete, verify

    terminal = Terminal()
    if not names:
        rows = [
            (a.name, a.kind, f"{a.megabytes:g} MB", "fetched" if is_complete(a) else "–", a.licence)
            for a in ASSETS.values()
        ]
        terminal.table(("name", "kind", "download", "state", "licence"), rows)
        return
    for name in ASSETS if names == ["all"] else names:
        path = fetch(name, progress=complain)
        terminal.say(f"{name}: {len(verify(name))} files checked in {path}")


app.command()(gate)


@app.command()
def doctor() -> None:
    """Check this installation: versions, threads, disk, plug-ins, determinism."""
    from harness.doctor import examine

    terminal, good = Terminal(), True
    for check in examine():
        good &= check.good
        mark = "ok " if check.good else "BAD"
        terminal.say(f"{mark} {check.name}: {check.text}", style="" if check.good else "red")
    raise typer.Exit(0 if good else INTERNAL_ERROR)


app.command()(compare)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return the exit code; a user's mistake never shows a traceback."""
    try:
        code = app(arguments, prog_name="python -m harness", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except InvalidScenario as error:
        count = len(error.problems)
        complain(f"{error}\n{count} problem{'s' if count > 1 else ''}")
        return error.exit_code
    except HarnessError as error:
        complain(f"error: {error}")
        return error.exit_code
    except TyperException as error:
        show = getattr(error, "show", None)
        complain(str(error)) if show is None else show()
        return int(getattr(error, "exit_code", 2))
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        close_output()
        return 0
    except Exception as error:
        return _report_bug(error)


def _report_bug(error: Exception) -> int:
    """Say in one line what broke and keep the traceback in a file."""
    where = ""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="harness-error-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            traceback.print_exception(error, file=file)
        where = f"; details in {file.name}"
    except OSError:
        traceback.print_exception(error)
    complain(f"internal error: {type(error).__name__}: {error}{where}")
    return INTERNAL_ERROR
