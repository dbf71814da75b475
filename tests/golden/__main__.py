"""Take or check digests of what the smoke scenarios and the real cells give."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from harness.results import read_results

ROOT = Path(__file__).resolve().parents[2]
SMOKE = sorted((ROOT / "scenarios" / "smoke").glob("*.yaml"))
SCENARIOS = [*SMOKE, Path(__file__).parent / "real.yaml"]
CELL = ["system", "dataset", "poisoning", "defense", "seed"]
NUMBER = ["attack", "metric", "k", "protocol", "value", "low", "high", "n", "chance", "status"]
CLOCKS = ("seconds", "peak_memory_mb")
"""Metrics that differ from run to run."""


def run(scenario: Path, out: Path) -> None:
    """Run a scenario with the command itself."""
    subprocess.run(
        [sys.executable, "-m", "harness", "run", scenario, "--out", out, "--yes"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )


def digests(run_folder: Path) -> dict[str, str]:
    """Return a hash of every cell's numbers and of the values per user behind them."""
    rows = read_results(run_folder)
    rows = rows[~rows.metric.isin(CLOCKS)]
    samples = pq.read_table(run_folder / "samples.parquet").to_pandas()
    found: dict[str, str] = {}
    for names, cell in rows.groupby(CELL):
        numbers = cell.sort_values(NUMBER)[NUMBER].to_json(orient="values", double_precision=15)
        digest = hashlib.sha256(numbers.encode())
        behind = samples[samples.cell.isin(cell.cell) & ~samples.metric.isin(CLOCKS)]
        behind = behind.drop(columns="cell")
        order = [name for name in ("attack", "metric", "k", "protocol") if name in behind]
        digest.update(behind.sort_values(order, kind="stable").to_json(orient="values").encode())
        found[" | ".join(map(str, names))] = digest.hexdigest()
    return found


def main() -> int:
    """Take or check."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden")
    parser.add_argument("verb", choices=["take", "check"])
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    found: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for scenario in SCENARIOS:
            out = Path(folder) / scenario.stem
            run(scenario, out)
            found[scenario.stem] = digests(out)
    if given.verb == "take":
        given.file.write_text(json.dumps(found, indent=1) + "\n")
        return 0
    kept = json.loads(given.file.read_text())
    moved = [
        f"{name}: {cell}"
        for name in kept.keys() | found.keys()
        for cell in kept.get(name, {}).keys() | found.get(name, {}).keys()
        if kept.get(name, {}).get(cell) != found.get(name, {}).get(cell)
    ]
    sys.stdout.write("\n".join(sorted(moved) or ["nothing moved"]) + "\n")
    return 1 if moved else 0


if __name__ == "__main__":
    sys.exit(main())
