"""Workers that are killed, signals that were ignored at the start, and readers that go away."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import time
from pathlib import Path

import pytest
import typer
from rich.console import Console

import harness.commands.working
from harness.commands.working import work
from harness.core.errors import DataError, ScenarioError
from harness.pool import Task, Workers
from harness.progress import Progress
from harness.run_folder import claim
from harness.scenario import Scenario, load
from harness.stopping import Stopping
from harness.sweep import CONTEXT
from harness.terminal import OutlivingConsole
from harness.worker import CellReport, Surroundings

SCENARIO = (
    "schema: 1\nname: n\nseeds: [{seed}]\ndatasets: {{d: {{use: ml-100k}}}}\n"
    "systems: {{s: {{use: lumos, dataset: d}}}}\n"
)


def scenario(folder: Path, seed: int) -> Scenario:
    path = folder / f"s{seed}.yaml"
    path.write_text(SCENARIO.format(seed=seed))
    return load(path)


def progress() -> tuple[Progress, io.StringIO]:
    stream = io.StringIO()
    return Progress(1, Console(file=stream, force_terminal=False, width=200)), stream


def _begin(key: str) -> None:
    from harness.worker import _Process

    _Process.given.queue.put(("started", key))


def well(key: str) -> CellReport:
    _begin(key)
    return CellReport(key, {})


def killed_once(key: str, mark: Path) -> CellReport:
    """Die as by the kernel's out-of-memory killer, the first time."""
    _begin(key)
    if not mark.exists():
        mark.touch()
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
    return CellReport(key, {})


def killed(key: str) -> CellReport:
    _begin(key)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def heard(key: str) -> CellReport:
    """Report which signals this worker ignores or holds back."""
    ignored = [s.name for s in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(s) == 1]
    held = sorted(s.name for s in signal.pthread_sigmask(signal.SIG_BLOCK, []))
    return CellReport(key, {}, " ".join([*ignored, "|", *held]))


@pytest.mark.slow
def test_a_killed_worker_costs_one_try_and_no_other_cell(tmp_path: Path) -> None:
    shown, stream = progress()
    stop = Stopping(CONTEXT.Event())

    def given(jobs: int) -> Surroundings:
        return Surroundings(1, tmp_path, shown.queue(CONTEXT), stop.event, 1e9)

    workers = Workers(CONTEXT, given, shown, stop)
    tasks = [
        Task("heard", heard, ("heard",)),
        Task("once", killed_once, ("once", tmp_path / "mark")),
        Task("twice", killed, ("twice",)),
        Task("well", well, ("well",)),
    ]
    reports = {report.cell: report.error for report in workers.run(tasks, 2)}
    assert reports.pop("heard") == "SIGINT SIGHUP |"
    assert reports == {
        "once": "",
        "twice": "its worker process was killed, signal 9 (SIGKILL; out of memory?), twice",
        "well": "",
    }
    assert "killed, signal 9 (SIGKILL; out of memory?) during once" in stream.getvalue()
    assert "once more with 1 at a time" in stream.getvalue()


def test_a_signal_that_was_ignored_at_the_start_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = Stopping(CONTEXT.Event())
    try:
        with stop.on_signals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked()
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.asked()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_progress_outlives_its_reader() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        shown = Progress(1, OutlivingConsole(file=stream))
        shown.line("one")
        shown.line("two")


def test_a_terminal_that_is_gone_stops_no_work() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, "Input/output error")

    shown = Progress(1, Console(file=Gone()))
    shown.line("one")
    shown.line("two")


def test_a_log_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    shown, stream = progress()
    shown.keep_in(tmp_path / "missing" / "log.jsonl")
    shown.line("one")
    shown.line("two")
    lines = [line[9:] for line in stream.getvalue().splitlines()]
    assert [line for line in lines if "log.jsonl" not in line] == ["one", "two"]
    assert sum("can't be written from here on: No such file" in line for line in lines) == 1


def test_why_a_cell_failed_is_shown_and_kept(tmp_path: Path) -> None:
    shown, stream = progress()
    shown.keep_in(tmp_path / "log.jsonl")
    shown.start(2)
    shown.cell_done("a", 0.0, "failed", "12 of 12 updates\nwere rejected \udcff")
    assert "[1/2] failed a: 12 of 12 updates were rejected" in stream.getvalue()
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert "12 of 12 updates were rejected" in json.loads(line)["text"]


@pytest.mark.parametrize("status", [0, 4])
def test_a_report_that_fails_costs_no_results(
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(folder: Path) -> Path:
        raise DataError("cannot write report.html (9 bytes): No space left on device")

    monkeypatch.setattr(harness.commands.working, "write_report", full)

    def train(progress: Progress) -> int:
        (tmp_path / "run" / "results.parquet").touch()
        return status

    with pytest.raises(typer.Exit) as ended:
        work(tmp_path / "run", train, jobs=1, force_unlock=False)
    assert ended.value.exit_code == 4
    error = capsys.readouterr().err
    assert "the report can't be written: cannot write report.html" in error
    assert f"python -m harness report {tmp_path / 'run'}" in error


def test_a_start_that_trained_nothing_makes_room(tmp_path: Path) -> None:
    folder, said = tmp_path / "run", list[str]()
    claim(folder, scenario(tmp_path, 0))
    other = scenario(tmp_path, 5)
    (folder / "cells" / "a").mkdir(parents=True)
    (folder / "cells" / "a" / "error.txt").touch()
    claim(folder, other, said.append)
    assert "nothing was trained" in said[0]
    assert load(folder / "scenario.yaml") == other
    assert not (folder / "cells").exists()
    (folder / "cells" / "a" / "rounds").mkdir(parents=True)
    (folder / "cells" / "a" / "rounds" / "r").touch()
    with pytest.raises(ScenarioError, match="holds another scenario; it differs in seeds"):
        claim(folder, scenario(tmp_path, 0))
