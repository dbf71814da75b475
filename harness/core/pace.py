"""How far a long step is, and how long still, in words."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Tells a reader how a step of known length goes.

    Each report is also a moment at which the work can be stopped: who listens may raise.

    Args:
        what: the step, such as ``encoding item texts``.
        total: its length.
        say: told one line a report.
        clock: seconds from anywhere, monotonic.
    """

    def __init__(
        self,
        what: str,
        total: int,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._total = total
        self._say = say
        self._clock = clock
        self._began = clock()

    def reached(self, done: int) -> None:
        """Report that ``done`` of the step is done; the time left goes by the pace so far."""
        spent = self._clock() - self._began
        left = spent / done * (self._total - done) if done else None
        more = f", {duration(left)} left" if left else ""
        self._say(f"{self._what}: {done:,} of {self._total:,}{more}")


def duration(seconds: float) -> str:
    """Return a time as ``7 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
