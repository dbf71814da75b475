"""What runs inside a worker process: one cell at a time, with its own threads and caches."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cells import Cell
from harness.core.errors import HarnessError, Interrupted
from harness.core.system import Part, Variant
from harness.inputs import Expected
from harness.sealing import DONE
from harness.stopping import SIGNALS


@dataclass(frozen=True)
class CellReport:
    """How a cell ended.

    Attributes:
        cell: its id.
        timings: stage to seconds.
        error: empty, or why it failed.
        interrupted: it stopped because it was asked to, and can go on later.
    """

    cell: str
    timings: dict[str, float]
    error: str = ""
    interrupted: bool = False


@dataclass(frozen=True)
class Surroundings:
    """What a worker is told when it starts.

    Attributes:
        threads: of torch.
        cache: folder of assets and derived files.
        queue: takes events for the progress display.
        stop: event that asks all workers to stop at the next round.
        memory_bytes: what local training may take in this worker.
    """

    threads: int
    cache: Path
    queue: Any
    stop: Any
    memory_bytes: float


class _Process:
    """This worker's surroundings, set once by :func:`start_worker`."""

    given: Surroundings


def use_large_pages() -> None:
    """Let processes that start from here on ask for large pages: 2 to 8 % of a training's time.

    The C library reads this at the start of a process only; others than glibc do not read it.
    """
    set_by_user = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc.hugetlb" not in set_by_user:
        joined = [*filter(None, [set_by_user]), "glibc.malloc.hugetlb=1"]
        os.environ["GLIBC_TUNABLES"] = ":".join(joined)


def keep_to_installed() -> None:
    """Let processes that start from here on import nothing from the user's current directory.

    A new Python process searches it before it hears from its parent where to look instead, and
    would run a ``random.py`` there.
    """
    os.environ["PYTHONSAFEPATH"] = "1"


def start_worker(given: Surroundings) -> None:
    """Fix the thread count, go offline, and discover the plug-ins."""
    # The parent decides when to stop; a worker must not die in the middle of a file, nor when the
    # terminal that both belong to goes away. Until here, signals were held back.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    # Before any library reads them: no network, no thread pools of the tokenizer, no bars.
    os.environ.update(
        HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_PROGRESS_BARS="1"
    )
    import torch

    from harness.core.registry import discover

    torch.set_num_threads(given.threads)
    discover()
    _Process.given = given


def prepare_cells(cells: Sequence[Cell], part: Part, step: str, name: str) -> CellReport:
    """Fill the caches that cells of one system share, one part of the work.

    Args:
        cells: one for each variant of data and seed.
        part: which share.
        step: method of the system: ``encode`` or ``prepare``.
        name: what this is reported as.
    """
    from harness.case import build_case

    def work() -> dict[str, float]:
        cases = [build_case(cell, _derived(), _say(name)) for cell in cells]
        variants = [
            Variant(case.training.domains, case.training.seeds.child("setup")) for case in cases
        ]
        getattr(cases[0].training.system, step)(variants, cases[0].resources, part)
        return {}

    return _guarded(name, work)


def run_one(cell: Cell, base: dict[str, Any], folder: Path, expected: Expected) -> CellReport:
    """Run a cell and write its tables; the last file written marks it as done."""
    from harness.files import write_atomic
    from harness.results import write_results
    from harness.run import Desk, run_cell
    from harness.sealing import cell_hashes

    def work() -> dict[str, float]:
        memory = _Process.given.memory_bytes
        desk = Desk(_derived(), _say(cell.id), folder / "rounds", _pause, memory, expected)
        result = run_cell(cell, base, desk)
        folder.mkdir(parents=True, exist_ok=True)
        write_results(folder, result.rows, result.samples)
        # Written last: a cell counts as finished only with all its tables on disk.
        done = {
            "timings": result.timings,
            "inputs": result.inputs.document(),
            "files": cell_hashes(folder),
        }
        write_atomic(folder / DONE, json.dumps(done).encode())
        (folder / "error.txt").unlink(missing_ok=True)
        shutil.rmtree(folder / "rounds", ignore_errors=True)
        return result.timings

    return _guarded(cell.id, work, folder)


def _guarded(name: str, work: Any, folder: Path | None = None) -> CellReport:
    try:
        _pause()
        _Process.given.queue.put(("started", name))
        return CellReport(name, work())
    except Interrupted:
        return CellReport(name, {}, interrupted=True)
    except Exception as error:
        known = isinstance(error, HarnessError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        return CellReport(name, {}, reason + _kept(folder, traceback.format_exc()))


def _kept(folder: Path | None, text: str) -> str:
    """Keep a traceback as ``error.txt``; return what to add where even that can't be written."""
    if folder is None:
        return ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        return f" (and {folder / 'error.txt'} can't be written: {error.strerror})"
    return ""


def _derived() -> Path:
    return _Process.given.cache / "derived"


def _say(name: str) -> Any:
    """Return what a task reports its progress to; long work without rounds stops there too."""

    def say(text: str) -> None:
        _Process.given.queue.put(("message", name, text))
        _pause()

    return say


def _pause() -> None:
    """Stop here if that was asked for, or if the process that would take the result is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)
    if _Process.given.stop.is_set():
        raise Interrupted("asked to stop")
