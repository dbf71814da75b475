"""Printing that survives a closed pipe, a narrow window, no colour and no terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 120
"""Width of tables when the output is not a terminal and ``COLUMNS`` does not say."""


class Terminal(Console):
    """Standard output; a reader that goes away ends the command quietly."""

    def __init__(self) -> None:
        piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
        super().__init__(highlight=False, width=PIPE_WIDTH if piped else None)

    def on_broken_pipe(self) -> None:
        """End without a word: whoever read the output has seen enough."""
        close_output()
        raise SystemExit(0)

    def say(self, text: str, style: str = "") -> None:
        """Print a line as it is: no markup is read, and a pipe gets it unbroken."""
        self.print(Text(text, style=style), soft_wrap=not self.is_terminal)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table; long cells fold."""
        table = Table(*columns, box=None, header_style="bold", padding=(0, 2, 0, 0))
        for row in rows:
            table.add_row(*(Text(cell, overflow="fold") for cell in row))
        self.print(table)


def close_output() -> None:
    """Point standard output at nothing, so that the interpreter's last flush can't fail."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, sys.stdout.fileno())
    os.close(descriptor)


def complain(text: str) -> None:
    """Print an error, each line as it is, to standard error."""
    try:
        sys.stderr.write(text.rstrip("\n") + "\n")
        sys.stderr.flush()
    except OSError:
        pass
