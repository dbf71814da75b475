"""A gate's outcome as rows of text: for the terminal, a test's failure and a step summary."""

from __future__ import annotations

import html
import io
import re

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports.gates.judging import EXIT_CODES, RULE, Check, Outcome
from reports.wording import MISSING, bounds, number

COLUMNS = ("verdict", "limit", "of", "estimate", "95 % interval", "n", "seeds", "why")
NARROW = 80
"""Columns of a window below which a table is not readable."""
# A step summary may hold 1 MiB; the worst stand first, and the JSON has them all.
MAX_MARKDOWN_ROWS = 500


def headline(outcome: Outcome) -> str:
    """The verdict and how it came about, in one line."""
    counts = [f"{outcome.count(v)} {v}" for v in EXIT_CODES if outcome.count(v)]
    return f"gate {outcome.verdict}: {', '.join(counts)} ({outcome.run} against {outcome.limits})"


def table_rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """One row a check, the worst first, under :data:`COLUMNS`."""
    return [_cells(check) for check in outcome.checks]


def stacked(outcome: Outcome) -> list[str]:
    """The same as lines under each other, for a window too narrow for a table."""
    lines = list[str]()
    for check in outcome.checks:
        verdict, limit, subject, value, interval, n, seeds, why = _cells(check)
        lines += [f"{verdict}: {limit}", f"  {subject}"]
        lines.append(f"  {value} {interval}, n {n}, seeds {seeds}" + (f": {why}" if why else ""))
    return lines


def plain_text(outcome: Outcome, width: int = 110) -> str:
    """Headline, table and notes as they would stand in a terminal without colour."""
    table = Table(*COLUMNS, box=None, padding=(0, 2, 0, 0))
    for row in table_rows(outcome):
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    stream = io.StringIO()
    Console(file=stream, width=width, no_color=True, highlight=False).print(table)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    return "\n".join([headline(outcome), "", *lines, *_notes(outcome)])


def markdown(outcome: Outcome) -> str:
    """A section for a step summary: what did not pass is open, what passed is folded."""
    open_rows = [_line(c) for c in outcome.checks if c.verdict != "pass"]
    passed = [_line(c) for c in outcome.checks if c.verdict == "pass"]
    parts = [f"### {_escape(headline(outcome))}", ""]
    parts += [f"> {_escape(note)}\n" for note in outcome.notes]
    if open_rows:
        parts += [*_markdown_table(open_rows), ""]
    if passed:
        parts += [f"<details><summary>{len(passed)} passed</summary>", ""]
        parts += [*_markdown_table(passed), "", "</details>", ""]
    return "\n".join([*parts, f"<sub>{_escape(RULE)}</sub>", "", ""])


def _cells(check: Check) -> tuple[str, ...]:
    limit = check.name if check.name == check.demand else f"{check.name}: {check.demand}"
    n = f"{check.interval.n:,}" if check.interval.n else MISSING
    return (
        check.verdict, limit, check.subject, number(check.interval.value), bounds(check.interval),
        n, str(check.seeds) if check.seeds else MISSING, check.reason,
    )  # fmt: skip


def _notes(outcome: Outcome) -> list[str]:
    return ["", *(f"note: {note}" for note in outcome.notes)] if outcome.notes else []


def _line(check: Check) -> str:
    verdict, *others = _cells(check)
    shown = verdict if verdict == "pass" else f"**{verdict}**"
    return f"| {' | '.join([shown, *map(_escape, others)])} |"


def _markdown_table(lines: list[str]) -> list[str]:
    left = len(lines) - MAX_MARKDOWN_ROWS
    more = ["", f"and {left} more; `--json` has them all"] if left > 0 else []
    head = [f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS)]
    return [*head, *lines[:MAX_MARKDOWN_ROWS], *more]


def _escape(text: str) -> str:
    """Text that neither HTML nor Markdown reads as its own."""
    quiet = re.sub(r"([\\`*_{}\[\]|~#])", r"\\\1", " ".join(text.split()))
    return html.escape(quiet, quote=False)
