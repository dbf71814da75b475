"""A comparison as lines for a terminal and as Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from reports.comparison import Comparison
from reports.comparison_words import RULE, Line, Section, caution, sections, summary
from reports.wording import clean

_STYLES = {"bad": "bold red", "good": "bold green", "warn": "bold yellow", "": "bold"}
_SPECIAL = re.compile(r"([\\`*_|<>\[\]])")
_MARKDOWN_HEAD = "| metric | B − A | 95 % interval | A | B | rests on | where |\n|" + " --- |" * 7


def terminal_blocks(
    comparison: Comparison, *, only_changed: bool = False, width: int | None = None
) -> Iterator[tuple[str, str]]:
    """Yield pieces of text with the style that each is printed in.

    Args:
        comparison: what to print.
        only_changed: leave out rows without a shown difference.
        width: columns of the terminal; longer rows take several lines. None leaves them whole.
    """
    for name, run in (("A", comparison.a), ("B", comparison.b)):
        yield _wrapped(f"{name}: {clean(run.title)}", width), "bold"
    for problem in comparison.problems:
        yield _wrapped(f"warning: {clean(problem, 500)}", width), "yellow"
    yield "\n" + _wrapped(RULE, width), ""
    yield "\n" + _wrapped(summary(comparison), width), "bold"
    warned = caution(comparison)
    if warned:
        yield _wrapped(f"note: {warned}", width), ""
    for section in sections(comparison, only_changed=only_changed):
        yield f"\n{section.title} ({len(section.lines):,})", _STYLES[section.tone]
        yield _aligned(section, width), ""


def markdown(comparison: Comparison, *, only_changed: bool = False) -> str:
    """Return the comparison as Markdown; text from the runs can't become markup."""
    parts = [
        f"# {_escaped(comparison.a.title)} → {_escaped(comparison.b.title)}",
        f"A: {_escaped(comparison.a.title)}  \nB: {_escaped(comparison.b.title)}",
        *(f"> **Warning:** {_escaped(problem)}" for problem in comparison.problems),
        f"**{summary(comparison)}**",
        RULE,
        *(f"{warned}." for warned in [caution(comparison)] if warned),
    ]
    for section in sections(comparison, only_changed=only_changed):
        rows = "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in section.lines)
        parts.append(f"## {section.title} ({len(section.lines):,})")
        parts.append(f"{_MARKDOWN_HEAD}\n{rows}")
    return "\n\n".join(parts) + "\n"


def _aligned(section: Section, width: int | None) -> str:
    """Rows in columns, or, where the terminal is too narrow, each over several lines."""
    cells = [_cells(line) for line in section.lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if width is None or sum(widths) + 2 * len(widths) <= width:
        return "\n".join(
            "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
            for row in cells
        )
    lines = []
    for measure, *rest in cells:
        lines.append(_wrapped(f"  {measure}", width))
        lines += [_wrapped(f"    {cell}", width) for cell in rest if cell]
    return "\n".join(lines)


def _cells(line: Line) -> tuple[str, ...]:
    difference = f"{line.difference} {line.interval}".strip()
    return line.measure, difference, f"{line.a} → {line.b}", line.where, line.basis


def _wrapped(text: str, width: int | None) -> str:
    if width is None or len(text) <= width:
        return text
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    return "\n".join(textwrap.wrap(text, width, subsequent_indent=indent, drop_whitespace=True))


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", clean(text, 500).replace("\n", " ").replace("\t", " "))
