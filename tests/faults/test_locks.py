"""Locks: a clock that steps, no hard links, a lock taken by force, holders dead and foreign."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import pidlock
from harness.core.errors import RunError
from harness.pidlock import held

ROOT = Path(__file__).resolve().parents[2]
HOLD = (
    "import pathlib, sys, time; from harness.pidlock import held; "
    "from harness.core.errors import RunError\n"
    "with held(pathlib.Path(sys.argv[1]), error=RunError, deadline_seconds=0, progress=print):\n"
    "    print('held', flush=True); time.sleep(60)\n"
)


def hold(path: Path, said: list[str] | None = None):
    say = (said if said is not None else []).append
    return held(path, error=RunError, deadline_seconds=-1.0, progress=say)


@pytest.fixture
def holder(tmp_path: Path):
    """Another living process that holds ``x.lock``."""
    path = tmp_path / "x.lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield path, process
        process.kill()


def test_a_step_of_the_clock_frees_no_live_lock(holder) -> None:
    path, process = holder
    facts = json.loads(path.read_text())
    facts["started"] -= 3600.0
    path.write_text(json.dumps(facts))
    with pytest.raises(RunError, match=f"process {process.pid}"), hold(path):
        pass
    assert path.exists()


def test_a_killed_holder_is_replaced_aloud(holder) -> None:
    path, process = holder
    process.kill()
    process.wait()
    said: list[str] = []
    with hold(path, said):
        assert f"stale lock: process {process.pid}" in said[0]
    assert not path.exists()


def test_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*names: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    path = tmp_path / "x.lock"
    with hold(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
        with pytest.raises(RunError, match=f"process {os.getpid()}"), hold(path):
            pass
    assert list(tmp_path.iterdir()) == []
    path.write_text("")
    os.utime(path, (time.time() - 60,) * 2)
    with hold(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_no_locks_of_the_operating_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pidlock, "_flock", lambda descriptor: False)
    monkeypatch.setattr(pidlock, "_locked", lambda path: False)
    path = tmp_path / "x.lock"
    with hold(path):
        facts = json.loads(path.read_text())
        assert facts["flock"] is False and facts["ticks"] > 0
        for change in ({}, {"started": 0.0}, {"boot": "other"}, {"namespace": "other"}):
            path.write_text(json.dumps({**facts, **change}))
            with pytest.raises(RunError), hold(path):
                pass
    path.unlink(missing_ok=True)
    path.write_text(json.dumps({**facts, "ticks": facts["ticks"] - 1}))
    said: list[str] = []
    with hold(path, said):
        assert "stale" in said[0]


def test_a_lock_taken_by_force_is_not_removed_by_its_first_holder(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with hold(path):
        path.write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    assert "elsewhere" in path.read_text()
