"""What is wrong with a scenario: every problem with its file, line, column and path."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.core.errors import ScenarioError

Step = str | int
MAX_SHOWN = 100


@dataclass(frozen=True, order=True)
class Mark:
    """Where something stands.

    Attributes:
        file: as shown to the user.
        line: from 1.
        column: from 1.
    """

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        mark: where.
        path: keys from the top, such as ``systems.lumos.rounds``; may be empty.
        message: what is wrong and what is allowed.
    """

    mark: Mark
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.mark}: {self.path + ': ' if self.path else ''}{self.message}"


class InvalidScenario(ScenarioError):
    """A scenario with at least one problem; its text is one line a problem.

    Attributes:
        problems: all that were found, in the order of their positions.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def show_path(path: Sequence[Step]) -> str:
    """Return a path as ``systems.lumos.rounds`` or ``seeds[0]``."""
    shown = ""
    for step in path:
        shown += f"[{step}]" if isinstance(step, int) else f".{step}" if shown else step
    return shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + "…"


def suggest(name: object, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'? (allowed: …)`` for a name that is not among ``known``."""
    names = sorted(set(known))
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (allowed: {', '.join(names)})" if names else hint
