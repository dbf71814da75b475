"""What is going on, told to the person at the terminal: a live bar, or plain lines in a log.

On a terminal, finished lines scroll by above a bar that shows the cells under way and the time
left. Elsewhere every event is one line with the time of day, and nothing is ever redrawn.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.core.pace import duration
from harness.terminal import OutlivingConsole

MESSAGE_SECONDS = 10.0
"""Off a terminal, a cell's messages are printed at most this often."""


class Progress:
    """Progress of a sweep. Events come from one thread; output goes to standard error.

    Args:
        jobs: cells that run at once, for the time left.
        console: where to print; by default standard error, which knows terminals and NO_COLOR.
        clock: seconds from anywhere, monotonic.
    """

    def __init__(
        self,
        jobs: int = 1,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs = max(1, jobs)
        self._console = console or OutlivingConsole(stderr=True, highlight=False)
        self._clock = clock
        self._total = 0
        self._ended: set[str] = set()
        self._queues: list[Any] = []
        self._worked: list[float] = []
        self._running: dict[str, tuple[float, str]] = {}
        self._printed: dict[str, float] = {}
        self._began = clock()
        self._live: Live | None = None
        self._log: Path | None = None
        self._stopping = False

    def keep_in(self, path: Path) -> None:
        """Append every line from now on to ``path``, as JSON with the time in UTC.

        A log that can't be written any more is said once, and the work goes on.
        """
        self._log = path

    def start(self, total_cells: int) -> None:
        """Begin with so many cells to run, after those of earlier calls."""
        if not self._total:
            self._began = self._clock()
        self._total = self._done + total_cells
        if self._console.is_terminal and self._live is None:
            self._live = Live(
                get_renderable=self._bar,
                console=self._console,
                refresh_per_second=2,
                transient=True,
            )
            self._live.start()

    def cell_started(self, cell_id: str) -> None:
        """Note that a cell begins."""
        self._running[cell_id] = (self._clock(), "")
        if self._live is None:
            self.line(f"start {cell_id}")

    def cell_message(self, cell_id: str, text: str) -> None:
        """Note what a cell is doing."""
        now = self._clock()
        began, _ = self._running.get(cell_id, (now, ""))
        self._running[cell_id] = (began, text)
        due = now - self._printed.get(cell_id, -MESSAGE_SECONDS) >= MESSAGE_SECONDS
        if self._live is None and due:
            self._printed[cell_id] = now
            self.line(f"{cell_id}: {text}")

    def cell_done(self, cell_id: str, seconds: float, status: str, reason: str = "") -> None:
        """Note that a cell ended.

        Args:
            cell_id: which.
            seconds: how long it took; cells that were not computed (``status`` is not ``ok``) do
                not count for the time left.
            status: ``ok``, or what else became of it.
            reason: why it failed.
        """
        self.gone(cell_id)
        self._ended.add(cell_id)
        if status == "ok" and seconds > 0:
            self._worked.append(seconds)
        left = self.seconds_left()
        eta = f", {duration(left)} left" if left is not None and self._done < self._total else ""
        how = f": {' '.join(reason.split())}" if reason else f" in {duration(seconds)}"
        self.line(f"[{self._done}/{self._total}] {status} {cell_id}{how}{eta}")

    def preparation_done(self, name: str, reason: str) -> None:
        """Note that a share of a preparation ended, or failed; cells then do it themselves."""
        began, _ = self._running.get(name, (self._clock(), ""))
        self.gone(name)
        how = f"failed {name}: {' '.join(reason.split())}" if reason else f"done {name}"
        self.line(f"{how} in {duration(self._clock() - began)}" if not reason else how)

    def is_running(self, name: str) -> bool:
        """Whether a cell or a preparation is under way."""
        return name in self._running

    def gone(self, name: str) -> None:
        """Forget what is under way under this name."""
        self._running.pop(name, None)
        self._printed.pop(name, None)

    def stopping(self) -> None:
        """Say, once, that the run stops after the current rounds."""
        if not self._stopping:
            self._stopping = True
            self.line("stopping after the current rounds; once more stops now")

    def line(self, text: str) -> None:
        """Print a line of its own."""
        self._keep(text)
        stamp = "" if self._live else f"{datetime.now():%H:%M:%S} "
        try:
            self._console.print(Text(stamp + text), soft_wrap=True)
        except (OSError, ValueError):
            # The terminal is gone, or the disk that the output goes to is full; the work goes on.
            self._console = Console(quiet=True)

    def _keep(self, text: str) -> None:
        """Append a line to the log; a log that can't be written is said once and stops no run."""
        if self._log is None:
            return
        entry = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "text": text}
        # Half a surrogate pair, from a file name that is not UTF-8, has no bytes.
        line = json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace")
        try:
            with self._log.open("ab") as log:
                log.write(line + b"\n")
        except OSError as error:
            path, self._log = self._log, None
            self.line(f"warning: {path} can't be written from here on: {error.strerror or error}")

    def queue(self, context: BaseContext) -> Any:
        """Return a queue through which workers send ``("started", id)``, ``("message", id, text)``.

        A simple queue writes at once and from no thread of its own, so that a worker can end
        although nobody reads any more.
        """
        self._queues.append(context.SimpleQueue())
        return self._queues[-1]

    def drain(self) -> None:
        """Take in what the workers have sent."""
        for queue in self._queues:
            while not queue.empty():
                kind, cell_id, *text = queue.get()
                if kind == "started":
                    self.cell_started(cell_id)
                else:
                    self.cell_message(cell_id, " ".join(text))

    def finish(self) -> None:
        """Stop; may be called more than once."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def _done(self) -> int:
        return len(self._ended)

    def seconds_left(self) -> float | None:
        """Return the expected time left: mean of the computed cells over the cells at once."""
        if not self._worked:
            return None
        mean = sum(self._worked) / len(self._worked)
        now = self._clock()
        spent = sum(min(mean, now - began) for began, _ in list(self._running.values()))
        left = (self._total - self._done) * mean - spent
        return max(0.0, left / min(self._jobs, max(1, self._total - self._done)))

    def _bar(self) -> Text:
        left = self.seconds_left()
        width = max(4, min(30, self._console.width - 36))
        filled = round(width * self._done / self._total) if self._total else 0
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append("█" * filled, style="green").append("░" * (width - filled), style="dim")
        text.append(f" {self._done}/{self._total} cells, {duration(self._clock() - self._began)}")
        text.append(f", {duration(left)} left" if left is not None else ", time left unknown")
        for cell_id, (began, message) in list(self._running.items()):
            said = f": {message}" if message else ""
            text.append(f"\n  {duration(self._clock() - began)} {cell_id}{said}", style="dim")
        return text
