"""What runs inside a worker process: one cell at a time, with its own threads and caches."""

from __future__ import annotations

import json
import os
import signal
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cells import Cell
from harness.core.errors import HarnessError
from harness.core.system import Part


@dataclass(frozen=True)
class CellReport:
    """How a cell ended.

    Attributes:
        cell: its id.
        timings: stage to seconds.
        error: empty, or why it failed.
    """

    cell: str
    timings: dict[str, float]
    error: str = ""


class _Process:
    """This worker's surroundings, set once by :func:`start_worker`."""

    cache: Path
    queue: Any


def start_worker(threads: int, cache: str, queue: Any) -> None:
    """Fix the thread count, go offline, and discover the plug-ins."""
    # The parent decides when to stop; a worker must not die in the middle of a file.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Before any library reads them: no network, no thread pools of the tokenizer, no bars.
    os.environ.update(
        HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_PROGRESS_BARS="1"
    )
    import torch

    from harness.core.registry import discover

    torch.set_num_threads(threads)
    discover()
    _Process.cache, _Process.queue = Path(cache), queue


def prepare_cell(cell: Cell, part: Part) -> CellReport:
    """Fill the caches that this cell shares with others, one part of the work."""
    from harness.case import build_case

    def work() -> dict[str, float]:
        case = build_case(cell, _Process.cache / "derived", _say(cell))
        training = case.training
        training.system.prepare(
            training.domains, case.resources, training.seeds.child("setup"), part
        )
        return {}

    return _guarded(cell, work)


def run_one(cell: Cell, base: dict[str, Any], folder: Path) -> CellReport:
    """Run a cell and write its tables; the last file written marks it as done."""
    from harness.results import write_atomic, write_results
    from harness.run import run_cell

    def work() -> dict[str, float]:
        result = run_cell(cell, base, _Process.cache / "derived", _say(cell))
        folder.mkdir(parents=True, exist_ok=True)
        write_results(folder, result.rows, result.samples)
        # Written last: a cell counts as finished only with all its tables on disk.
        done = json.dumps({"timings": result.timings})
        write_atomic(folder / "done.json", done.encode())
        return result.timings

    return _guarded(cell, work, folder)


def _guarded(cell: Cell, work: Any, folder: Path | None = None) -> CellReport:
    _Process.queue.put(("started", cell.id))
    try:
        return CellReport(cell.id, work())
    except HarnessError as error:
        return CellReport(cell.id, {}, str(error))
    except Exception as error:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        return CellReport(cell.id, {}, f"{type(error).__name__}: {error}")


def _say(cell: Cell) -> Any:
    return lambda text: _Process.queue.put(("message", cell.id, text))
