"""Worker processes, and what becomes of the work given to them: it ends, stops, or is killed."""

from __future__ import annotations

import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.progress import Progress
from harness.stopping import SIGNALS, Stopping
from harness.worker import CellReport, start_worker

_TERM_SECONDS = 0.3
"""A signal to the whole group may end a worker before this process has heard of it."""


@dataclass(frozen=True)
class Task:
    """A piece of work for one worker.

    Attributes:
        key: what the worker reports it under: a cell's id, or the name of a preparation.
        call: runs in the worker and returns a `CellReport`.
        arguments: of ``call``.
    """

    key: str
    call: Callable[..., CellReport]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Workers:
    """Runs tasks in worker processes.

    Attributes:
        context: how processes are started.
        given: what a worker is told when it starts, by the number of workers.
        progress: shows what the workers send.
        stop: whether somebody asked to stop.
    """

    context: Any
    given: Callable[[int], Any]
    progress: Progress
    stop: Stopping

    def run(self, tasks: Sequence[Task], jobs: int) -> Iterator[CellReport]:
        """Yield reports as tasks end.

        When a worker is killed (out of memory, say), what was under way is tried once more with
        half as many workers; what is killed then has failed.

        Args:
            tasks: begun in this order.
            jobs: worker processes.

        Raises:
            KeyboardInterrupt: it was asked to stop, and the running tasks have.
        """
        kills, left = Counter[str](), list(tasks)
        while left:
            lost: list[Task] = []
            why = yield from self._once(left, jobs, lost)
            # Tasks that end together come in no order of their own.
            lost.sort(key=left.index)
            # Without a task under way, a worker died while it started.
            struck = [t for t in lost if self.progress.is_running(t.key)] or lost
            kills.update(task.key for task in struck)
            left = [task for task in lost if kills[task.key] < 2]
            for task in lost:
                self.progress.gone(task.key)
                if kills[task.key] > 1:
                    yield CellReport(task.key, {}, f"its worker process was {why}, twice")
            if left:
                jobs = max(1, jobs // 2)
                named = ", ".join(task.key for task in struck[:4])
                self.progress.line(
                    f"a worker process was {why} during {named}; once more with {jobs} at a time"
                )

    def _once(
        self, tasks: Sequence[Task], jobs: int, lost: list[Task]
    ) -> Generator[CellReport, None, str]:
        """Run tasks in one pool; return why a worker died, and enter into ``lost`` what it cost."""
        started: dict[int, Any] = {}
        with ProcessPoolExecutor(jobs, self.context, start_worker, (self.given(jobs),)) as pool:
            for future, task in self._ended(pool, tasks, jobs, started):
                report = _report(future, task)
                if report is None:
                    lost.append(task)
                elif not report.interrupted:
                    yield report
        if lost:
            time.sleep(_TERM_SECONDS)
            if self.stop.asked():
                raise KeyboardInterrupt
        return _death(list(started.values()))

    def _ended(
        self, pool: ProcessPoolExecutor, tasks: Sequence[Task], jobs: int, started: dict[int, Any]
    ) -> Iterator[tuple[Future[CellReport], Task]]:
        """Yield what ends; once asked to stop, wait for the running tasks only.

        A pool is given one task more than it has workers. More would have to be cancelled, and a
        pool that breaks while it holds a cancelled task ends in a traceback of its own.

        Raises:
            KeyboardInterrupt: it was asked to stop, and the running tasks have.
        """
        todo = deque(tasks)
        running: dict[Future[CellReport], Task] = {}
        try:
            while todo or running:
                while todo and len(running) <= jobs:
                    task = todo.popleft()
                    running[_begin(pool, task, started)] = task
                ended, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                self.progress.drain()
                if self.stop.asked():
                    self.progress.stopping()
                    todo.clear()
                yield from ((future, running.pop(future)) for future in ended)
            if self.stop.asked():
                raise KeyboardInterrupt
        except BaseException:
            _terminate(pool)
            raise


def _begin(pool: ProcessPoolExecutor, task: Task, started: dict[int, Any]) -> Future[CellReport]:
    """Hand a task to the pool; what a broken pool can't take has failed as if it had."""
    try:
        with _signals_held():
            return pool.submit(task.call, *task.arguments)
    except BrokenProcessPool as error:
        future: Future[CellReport] = Future()
        future.set_exception(error)
        return future
    finally:
        started.update(getattr(pool, "_processes", None) or {})


def _report(future: Future[CellReport], task: Task) -> CellReport | None:
    """Return how a task ended; None if its worker did not live to say."""
    try:
        return future.result()
    except BrokenProcessPool:
        return None
    except Exception as error:
        # What a worker can't send back: the report itself, or the task.
        text = "".join(traceback.format_exception_only(error)).strip()
        return CellReport(task.key, {}, text)


def _death(processes: Sequence[Any]) -> str:
    """Return how the first of the processes died; the pool then ends the others with SIGTERM."""
    codes = [process.exitcode for process in processes if process.exitcode]
    code = next((code for code in codes if code != -signal.SIGTERM), codes[0] if codes else 0)
    if code >= 0:
        return f"ended with code {code}" if code else "lost"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else ""
    reason = "; out of memory?" if -code == signal.SIGKILL else ""
    return f"killed, signal {-code}{f' ({name}{reason})' if name else ''}"


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold signals back while workers are born, who are to hear none: the mask is handed down."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _terminate(pool: ProcessPoolExecutor) -> None:
    """End the workers at once; finished cells are on disk already."""
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
