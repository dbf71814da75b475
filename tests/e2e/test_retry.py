"""The real command: a cell fails, its cause goes away, `retry` mends the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.results import read_results
from harness.sweep import failed_cells

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["systems={}", "attacks={}", "defenses={}", "clients={}"]
"""Anchors alone."""


def _harness(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.slow
def test_a_failed_cell_is_run_again_alone(tmp_path: Path) -> None:
    folder, smoke = tmp_path / "run", ROOT / "scenarios" / "smoke" / "poison.yaml"
    settings = [part for value in SMALL for part in ("-S", value)]
    done = _harness("run", smoke, "--out", folder, *settings)
    assert done.returncode == 0, done.stderr
    before = read_results(folder)
    cell = next(p for p in (folder / "cells").iterdir() if p.name.startswith("random"))
    # The cell is lost, and a folder stands where its table has to go.
    (cell / "done.json").unlink()
    (cell / "results.parquet").unlink()
    (cell / "results.parquet").mkdir()
    failed = _harness("run", smoke, "--out", folder, *settings)
    assert failed.returncode == 4
    (reason,) = failed_cells(folder).values()
    assert "results.parquet" in reason
    still = _harness("retry", folder)
    assert still.returncode == 4 and failed_cells(folder) == {cell.name: reason}
    (cell / "results.parquet").rmdir()
    mended = _harness("retry", folder)
    assert mended.returncode == 0, mended.stderr
    assert f"had failed: {reason}" in mended.stderr
    assert mended.stderr.count("] ok ") == 1 and "report:" in mended.stdout
    after = read_results(folder)
    measured = before["side"] != "cost"
    assert (
        before[measured]
        .reset_index(drop=True)
        .equals(after[after["side"] != "cost"].reset_index(drop=True))
    )
