"""The real command on synthetic data: it finishes, resumes, refuses, leaves nothing half-done."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.results import read_results
from harness.verifying import verify_results

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "scenarios" / "smoke" / "poison.yaml"


def _harness(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "smoke"
    done = _harness("run", SMOKE, "--out", folder)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return folder


def test_the_run_folder_is_complete(run_folder):
    for name in ("scenario.yaml", "manifest.json", "results.parquet", "results.json"):
        assert (run_folder / name).stat().st_size > 0
    assert json.loads((run_folder / "manifest.json").read_text())["status"] == "done"
    assert verify_results(run_folder) == ()
    report = (run_folder / "report.html").read_text(encoding="utf-8")
    assert "trimmed mean" in report and "promotion" in report


def test_every_kind_of_row_is_there_and_carries_n_and_chance(run_folder):
    table = read_results(run_folder)
    ok = table[table.status == "ok"]
    assert {"utility", "privacy", "robustness", "cost"} <= set(ok.side)
    assert {"popularity", "random", "lumos"} <= set(ok.system)
    measured = ok[ok.side.isin(["privacy", "robustness"]) & (ok.metric != "observed_rank")]
    assert (measured.n > 0).all()
    assert ok[ok.metric.isin(["hr", "ndcg", "auc", "er"])].chance.notna().all()
    # A pair with no common surface says so instead of being dropped.
    missing = table[table.status == "not applicable"]
    assert missing.reason.str.len().gt(20).all()
    assert "nearest neighbour" in set(missing.attack)


def test_running_a_finished_run_again_does_nothing(run_folder):
    before = (run_folder / "results.parquet").read_bytes()
    again = _harness("run", SMOKE, "--out", run_folder)
    assert again.returncode == 0 and "done already" in again.stderr
    assert (run_folder / "results.parquet").read_bytes() == before


@pytest.mark.slow
def test_an_interrupted_run_recomputes_only_what_is_missing(run_folder, tmp_path):
    copy = tmp_path / "smoke"
    shutil.copytree(run_folder, copy)
    lost = sorted((copy / "cells").iterdir())[0]
    shutil.rmtree(lost)
    again = _harness("run", SMOKE, "--out", copy)
    assert again.returncode == 0 and again.stderr.count("] ok ") == 1
    first, second = read_results(run_folder), read_results(copy)
    keys = ["cell", "attack", "metric", "k", "protocol"]
    measured = first[(first.status == "ok") & (first.side != "cost")].set_index(keys).value
    resumed = second[(second.status == "ok") & (second.side != "cost")].set_index(keys).value
    assert measured.sort_index().equals(resumed.sort_index())


def test_a_typo_is_named_with_its_position_and_nothing_is_written(tmp_path):
    scenario = tmp_path / "typo.yaml"
    scenario.write_text(SMOKE.read_text().replace("rounds: 3", "rouds: 3"))
    done = _harness("run", scenario, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "typo.yaml:" in done.stderr and "did you mean 'rounds'" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("evaluation.k=[100000]", "larger than the catalogue"),
        ("evaluation.candidates=5000", "candidates"),
    ],
)
def test_sizes_the_data_cannot_carry_are_refused_before_training(tmp_path, setting, words):
    done = _harness("run", SMOKE, "-S", setting, "--out", tmp_path / "out")
    assert done.returncode == 2 and words in done.stderr
    assert not (tmp_path / "out" / "results.parquet").exists()
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_all_clients_malicious_is_a_labelled_stress_run(tmp_path):
    only = ["-S", "defenses={}", "-S", "anchors={}", "-S", "clients.malicious.fraction=1.0"]
    done = _harness("run", SMOKE, *only, "--out", tmp_path / "out")
    assert done.returncode == 0 and "stress" in done.stderr
    table = read_results(tmp_path / "out")
    attacked = table[(table.malicious == 1.0) & (table.metric == "hr")]
    assert len(attacked) and attacked.value.isna().all() and (attacked.n == 0).all()


def test_a_missing_scenario_is_one_line(tmp_path):
    done = _harness("run", tmp_path / "absent.yaml")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and "absent.yaml" in done.stderr
