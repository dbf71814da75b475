"""``compare A B``: what changed between two runs, paired, with intervals and verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.core.errors import DataError, ScenarioError
from harness.reading.problems import suggest
from harness.terminal import Terminal

if TYPE_CHECKING:
    from reports.comparison import Comparison
    from reports.comparison_run import Run

Format = Literal["terminal", "markdown", "html", "json"]
_BY_SUFFIX: dict[str, Format] = {
    ".md": "markdown",
    ".html": "html",
    ".htm": "html",
    ".json": "json",
}
_SCENARIO = "scenario.yaml"
_MAX_KEYS = 5


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="run folder, the reference")],
    b: Annotated[Path, typer.Argument(metavar="B", help="run folder that is judged")],
    form: Annotated[
        Format | None,
        typer.Option("--format", help="default: by the suffix of --out, else terminal"),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="write there")] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", metavar="NAME", help="only this one, e.g. hr or hr@20; repeatable"
        ),
    ] = None,
    only: Annotated[
        Literal["changed"] | None, typer.Option(help="leave out rows without a difference")
    ] = None,
) -> None:
    """Compare run B with run A: paired differences, intervals, verdicts; the worst first."""
    # Imported here so that help starts without the libraries that read tables.
    from reports.comparison import compare_runs
    from reports.comparison_notes import scenarios_differ
    from reports.comparison_run import read_run

    runs = read_run(a), read_run(b)
    _require_known(metrics or [], runs)
    comparison = compare_runs(*runs, metrics or ())
    if scenarios_differ(*runs):
        changed = _changed_keys(a / _SCENARIO, b / _SCENARIO)
        comparison = replace(comparison, problems=(*comparison.problems, *changed))
    chosen = form or (_BY_SUFFIX.get(out.suffix.lower(), "terminal") if out else "terminal")
    if out is None and chosen == "terminal":
        _print(comparison, only_changed=only is not None)
        return
    text = _text(comparison, chosen, only_changed=only is not None)
    if out is None:
        print(text, end="")
        return
    if not out.parent.is_dir():
        raise DataError(f"cannot write {out}: {out.parent} is no folder")
    from harness.files import write_atomic

    write_atomic(out, text.encode("utf-8", "replace"))
    Terminal().say(f"comparison: {out}")


def _require_known(metrics: list[str], runs: tuple[Run, Run]) -> None:
    places = [place for run in runs for place in run.places]
    known = {p.metric for p in places} | {f"{p.metric}@{p.k}" for p in places if p.k}
    for name in metrics:
        if name not in known:
            raise ScenarioError(f"--metric: neither run measures {name!r}{suggest(name, known)}")


def _print(comparison: Comparison, *, only_changed: bool) -> None:
    from reports.comparison_text import terminal_blocks

    terminal = Terminal()
    width = terminal.width if terminal.is_terminal else None
    for text, style in terminal_blocks(comparison, only_changed=only_changed, width=width):
        if style:
            terminal.say(text, style=style)
        else:
            # Thousands of plain lines: the terminal library would take a second to lay them out.
            print(text)


def _text(comparison: Comparison, form: Format, *, only_changed: bool) -> str:
    if form == "html":
        from reports.comparison_html import comparison_html

        return comparison_html(comparison, only_changed=only_changed)
    if form == "json":
        from reports.comparison_json import comparison_json

        return comparison_json(comparison, only_changed=only_changed)
    from reports.comparison_text import markdown, terminal_blocks

    if form == "markdown":
        return markdown(comparison, only_changed=only_changed)
    blocks = terminal_blocks(comparison, only_changed=only_changed)
    return "".join(f"{text}\n" for text, _ in blocks)


def _changed_keys(a: Path, b: Path) -> list[str]:
    """Name the keys in which two resolved scenarios differ, where both can be read."""
    from harness.reading.paths import PATHS_FROM
    from harness.reading.source import read_yaml

    try:
        sides = [read_yaml(path).root.plain() for path in (a, b)]
    except ScenarioError:
        return []
    keys = sorted(key for key in _differing(*sides) if key != PATHS_FROM)
    if not keys:
        return []
    more = f" and {len(keys) - _MAX_KEYS} more" if len(keys) > _MAX_KEYS else ""
    return [f"{_SCENARIO} differs in {', '.join(keys[:_MAX_KEYS])}{more}"]


def _differing(a: Any, b: Any, path: str = "") -> Iterator[str]:
    if not (isinstance(a, dict) and isinstance(b, dict)):
        if a != b:
            yield path
        return
    for key in a.keys() | b.keys():
        below = f"{path}.{key}" if path else str(key)
        if key in a and key in b:
            yield from _differing(a[key], b[key], below)
        else:
            yield below
