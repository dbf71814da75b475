"""Row 58 on a disk that is really full: a file system in memory, with little room left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from harness.results import read_results
from harness.verifying import verify_results

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "scenarios" / "smoke" / "poison.yaml"
VARYING = ["seconds", "peak_memory_mb"]
# The file system lives as long as this script; what is asked after it is copied out first.
SCRIPT = """
mount -t tmpfs -o size=16m tmpfs {disk} || exit 77
dd if=/dev/zero of={disk}/filler bs=1k count={filled} 2>/dev/null
{run}; echo "first: $?"
rm {disk}/filler
{run} || exit 1
cp -r {disk}/run {kept}
"""


def _shell(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _numbers(folder: Path) -> pd.DataFrame:
    rows = read_results(folder)
    return rows[~rows.metric.isin(VARYING)].drop(columns=["run"]).reset_index(drop=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on a disk with room."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    command = [sys.executable, "-m", "harness", "run", str(SMOKE), "--out", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("room", [240, 2300])
def test_row_58_a_full_disk_costs_no_number(room: int, whole: Path, tmp_path: Path) -> None:
    if shutil.which("unshare") is None or _shell("mount -t tmpfs tmpfs /mnt").returncode:
        pytest.skip("no file system can be mounted here")
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    run = f"{sys.executable} -m harness run {SMOKE} --out {disk}/run"
    filled = 16 * 1024 - room
    done = _shell(SCRIPT.format(disk=disk, filled=filled, run=run, kept=kept))
    assert done.returncode == 0, done.stderr
    # While the run's own files are written, or only while the report is.
    assert f"first: {3 if room < 1000 else 4}" in done.stdout, done.stdout[-2000:]
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr
    assert "No space left on device" in done.stderr
    pd.testing.assert_frame_equal(_numbers(kept), _numbers(whole), check_exact=True)
    assert verify_results(kept) == ()
    assert (kept / "report.html").stat().st_size
