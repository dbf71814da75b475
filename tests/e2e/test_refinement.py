"""A range of strength by the real command: refined, interrupted, resumed on more processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from harness.results import read_results, read_samples

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = ROOT / "scenarios" / "smoke" / "strength_range.yaml"
VARYING = ["seconds", "peak_memory_mb"]

pytestmark = pytest.mark.slow


def _start(verb: str, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", verb, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _harness(verb: str, *arguments: str | Path) -> tuple[str, str]:
    process = _start(verb, *arguments)
    out, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return out, errors


def _numbers(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = read_results(folder)
    rows = rows[~rows.metric.isin(VARYING)].drop(columns=["run"])
    return rows.reset_index(drop=True), read_samples(folder).reset_index(drop=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    _, errors = _harness("run", SCENARIO, "--out", folder)
    assert "refining local dp: noise_multiplier=0.00178, row norm on lumos" in errors
    return folder


def test_the_transition_is_found_told_and_scored(whole: Path):
    record = json.loads((whole / "refinement.json").read_text())["defenses"]["local dp"]
    first, second = record["added"]
    assert (first["low"], first["high"]) == (0.0001, 0.0316)
    assert second["strength"] > first["strength"] and second["high"] == 0.0316
    assert first["before"] > 0.9 > 0.1 > first["after"]
    page = (whole / "report.html").read_text()
    assert "3 strengths of noise z were given" in page and "row norm falls from" in page
    out, _ = _harness("score", whole)
    assert "agree" in out and "DIFFERS" not in out
    out, _ = _harness("compare", whole, whole)
    assert "Traceback" not in out


def test_an_interrupt_between_stages_and_more_processes_change_no_number(
    whole: Path, tmp_path: Path
):
    folder = tmp_path / "run"
    process = _start("run", SCENARIO, "--out", folder)
    deadline = time.monotonic() + 200
    while not (folder / "refinement.json").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    _harness("run", SCENARIO, "--out", folder, "-j", "2")
    assert (folder / "refinement.json").read_bytes() == (whole / "refinement.json").read_bytes()
    for one, other in zip(_numbers(folder), _numbers(whole), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    _, errors = _harness("run", SCENARIO, "--out", folder)
    assert "every cell is done already" in errors


def test_a_saved_scenario_gives_the_same_run(whole: Path, tmp_path: Path):
    _harness("run", whole / "scenario.yaml", "--out", tmp_path / "run", "-j", "4")
    for one, other in zip(_numbers(tmp_path / "run"), _numbers(whole), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
