"""Rows 52, 69, 70 and 75 of the table of faults: exceptions, locales, no home, no network."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

import harness.run
from harness.plan import expand
from harness.results import read_results, read_samples
from harness.scenario import load
from harness.sweep import CONTEXT
from harness.worker import DONE, Surroundings, _Process, run_one

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "scenarios" / "smoke" / "poison.yaml"
FEW = ("-S", "attacks={}", "-S", "defenses={}", "-S", "clients={}", "-S", "systems={}")
"""Anchors alone."""
VARYING = ["seconds", "peak_memory_mb"]
"""Metrics that no two runs share."""


def ran(
    arguments: Sequence[str | Path], environment: dict[str, str], before: Sequence[str] = ()
) -> str:
    """Run the command in another environment and return its errors."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [*before, sys.executable, "-m", "harness", *map(str, arguments)],
        cwd=ROOT,
        env={**kept, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def numbers(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = read_results(folder)
    rows = pd.DataFrame(rows[~rows.metric.isin(VARYING)]).drop(columns=["run"])
    return rows.reset_index(drop=True), read_samples(folder).reset_index(drop=True)


@pytest.mark.slow
def test_row_69_time_zone_locale_and_hash_seed_change_no_number(tmp_path: Path) -> None:
    # Where tr_TR is not installed, the C library takes C instead.
    settings = [
        {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"},
        {"TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "1"},
        {"TZ": "nowhere", "LC_ALL": "C", "PYTHONHASHSEED": "2"},
    ]
    found = []
    for place, environment in enumerate(settings):
        folder = tmp_path / f"{place}"
        ran(("run", SMOKE, "--out", folder, *FEW), environment)
        found.append(numbers(folder))
    assert len(found[0][0])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            pd.testing.assert_frame_equal(a, b, check_exact=True)


def alone() -> tuple[str, ...]:
    """Return what starts a command without any network; skip where that is not allowed."""
    command = ("unshare", "--map-root-user", "--net")
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command, "true"], check=False).returncode
    ):
        pytest.skip("this machine lets no user leave the network (unshare --net)")
    return command


@pytest.mark.slow
def test_row_70_no_network_and_no_home_are_enough(tmp_path: Path) -> None:
    # No user, root included, can make that folder.
    home, folder = "/dev/null/home", tmp_path / "run"
    environment = {"HOME": home, "TMPDIR": str(tmp_path)}
    errors = ran(("run", SMOKE, "--out", folder, *FEW), environment, before=alone())
    assert "Traceback" not in errors
    assert len(read_results(folder))


def test_row_75_workers_are_spawned_never_forked() -> None:
    assert CONTEXT.get_start_method() == "spawn"
    # No other module makes processes in another way.
    sources = [p.read_text(encoding="utf-8") for p in (ROOT / "harness").rglob("*.py")]
    text = "\n".join(sources)
    assert "os.fork" not in text and 'get_context("fork' not in text
    assert text.count("get_context(") == 1


def test_row_52_an_exception_is_the_cells_and_its_traceback_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a client divided by nothing")

    given = Surroundings(1, tmp_path, queue.Queue(), threading.Event(), 1e9)  # type: ignore[arg-type]
    monkeypatch.setattr(_Process, "given", given, raising=False)
    monkeypatch.setattr(harness.run, "run_cell", broken)
    cell = expand(load(SMOKE)).cells[0]
    folder = tmp_path / "cells" / cell.id
    report = run_one(cell, {}, folder, None)  # type: ignore[arg-type]
    assert report.error == "ZeroDivisionError: a client divided by nothing"
    kept = (folder / "error.txt").read_text(encoding="utf-8")
    assert "Traceback" in kept and "in broken" in kept
    assert not (folder / DONE).exists()
