"""Printing that survives a closed pipe, a narrow window, no colour and no terminal."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from typing import IO, Any

from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 120
"""Width of tables when the output is not a terminal and ``COLUMNS`` does not say."""
_ANY_WIDTH = 10_000


class OutlivingConsole(Console):
    """A console whose reader may go away: what is printed from then on leads nowhere.

    The command goes on and ends with its own exit code: 0 is for work that was done.
    """

    def on_broken_pipe(self) -> None:
        """Go on without a word: whoever read the output has seen enough."""
        close_stream(self.file)


class Terminal(OutlivingConsole):
    """Standard output."""

    def __init__(self) -> None:
        piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
        # The library would keep bold and italics under NO_COLOR; here no escape code is left.
        colors = None if os.environ.get("NO_COLOR") else "auto"
        super().__init__(highlight=False, width=PIPE_WIDTH if piped else None, color_system=colors)

    def say(self, text: str, style: str = "") -> None:
        """Print a line as it is: no markup is read, and a pipe gets it unbroken."""
        self.print(Text(text, style=style), soft_wrap=not self.is_terminal)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table: long cells fold; where words would break, each row is a block of lines."""
        table = Table(*columns, box=None, header_style="bold", padding=(0, 2, 0, 0))
        for row in rows:
            table.add_row(*(Text(cell, overflow="fold") for cell in row))
        needed = Measurement.get(self, self.options.update_width(_ANY_WIDTH), table).minimum
        if needed <= self.width:
            self.print(table)
            return
        for row in rows:
            self.print(Text(row[0], style="bold", overflow="fold"))
            for name, cell in zip(columns[1:], row[1:], strict=True):
                line = Text(f"{name}: {cell}", overflow="fold")
                self.print(Padding(line, (0, 0, 0, 2), expand=False))


def emit(document: Any) -> None:
    """Print one JSON document; what the output's encoding lacks is escaped.

    Raises:
        ValueError: the document holds NaN or an infinity, which JSON does not have.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(document, indent=2, allow_nan=False)
    try:
        print(text, flush=True)
    except BrokenPipeError:
        close_stream(sys.stdout)


def open_streams() -> None:
    """Make the standard streams fit to write any text to.

    A character that the terminal's encoding lacks becomes ``?``; a stream that the caller closed
    leads nowhere.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def close_stream(stream: IO[str]) -> None:
    """Point a standard stream at nothing, so that no later write or last flush can fail."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


def complain(text: str) -> None:
    """Print an error, each line as it is, to standard error."""
    try:
        sys.stderr.write(text.rstrip("\n") + "\n")
        sys.stderr.flush()
    except OSError:
        close_stream(sys.stderr)
