"""Kills, signals and numbers of processes: the results are the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from harness.core.seeds import Seeds
from harness.results import read_results, read_samples

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "scenarios" / "smoke" / "poison.yaml"
KILLS = 50
VARYING = ["seconds", "peak_memory_mb"]
"""Metrics that no two runs share."""


def _command(folder: Path, *more: str) -> list[str]:
    # Many short rounds, so that a kill at a random time falls between and into rounds.
    rounds = ["-S", "systems.lumos.rounds=40"]
    return [
        sys.executable,
        "-m",
        "harness",
        "run",
        str(SMOKE),
        "--out",
        str(folder),
        *rounds,
        *more,
    ]


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def _start(folder: Path, *more: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        _command(folder, *more),
        cwd=ROOT,
        env=_environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_hear,
    )


def _hear() -> None:
    """Hear an interrupt, also where a shell's background, in which the tests run, ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _run(folder: Path, *more: str, **environment: str) -> None:
    process = _start(folder, *more, **environment)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def _numbers(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = read_results(folder)
    rows = rows[~rows.metric.isin(VARYING)].drop(columns=["run"])
    return rows.reset_index(drop=True), read_samples(folder).reset_index(drop=True)


def _assert_same(one: Path, two: Path) -> None:
    for a, b in zip(_numbers(one), _numbers(two), strict=True):
        pd.testing.assert_frame_equal(a, b, check_exact=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    _run(folder)
    return folder


def _wait_for_rounds(folder: Path) -> None:
    deadline = time.monotonic() + 120
    while not list(folder.glob("cells/*/rounds/round-*")):
        assert time.monotonic() < deadline, "no round was ever kept"
        time.sleep(0.02)


@pytest.mark.slow
def test_one_signal_ends_after_the_round_and_says_how_to_go_on(whole, tmp_path):
    process = _start(tmp_path / "run")
    _wait_for_rounds(tmp_path / "run")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "go on with: python -m harness run" in errors
    assert "Traceback" not in errors
    _run(tmp_path / "run")
    _assert_same(tmp_path / "run", whole)
    assert not list((tmp_path / "run").glob("cells/*/rounds"))


@pytest.mark.slow
def test_a_second_signal_stops_at_once(tmp_path):
    process = _start(tmp_path / "run")
    _wait_for_rounds(tmp_path / "run")
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began < 30
    assert "Traceback" not in errors and "leaked" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["2", "4"])
def test_the_number_of_processes_changes_no_byte(jobs, whole, tmp_path):
    _run(tmp_path / "run", "-j", jobs, PYTHONHASHSEED=jobs)
    _assert_same(tmp_path / "run", whole)


@pytest.mark.slow
def test_fifty_kills_at_random_moments_change_no_byte(whole, tmp_path):
    stream, folder, kills = Seeds(0).numpy("kills"), tmp_path / "run", 0
    while kills < KILLS:
        process = _start(folder)
        time.sleep(stream.uniform(0.5, 9.0))
        if process.poll() is not None:
            # Finished: begin anew until there were fifty kills.
            errors = process.communicate()[1]
            assert process.returncode == 0, errors
            _assert_same(folder, whole)
            folder = tmp_path / f"run-{kills}"
            continue
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        kills += 1
    _run(folder)
    _assert_same(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_its_processes_leaves_no_noise(number, tmp_path):
    """As a terminal sends an interrupt, and a batch system a request to end."""
    process = _start(tmp_path / "run", "-j", "2")
    _wait_for_rounds(tmp_path / "run")
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "go on with: python -m harness run" in errors
    assert "Traceback" not in errors and "leaked" not in errors and "Error" not in errors
