"""Cost of a round as the population and the cohort grow.

    python -m benchmarks.population [--users 1000 10000 100000 1000000] [--cohorts 100 1000 10000]

LUMOS without views, plain averaging, 3,416 items, histories of 11 items from an Arrow file that is
mapped. Every figure comes from a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.federation import rounds_of, with_large_pages
from benchmarks.peers import plain_sasrec as plain
from harness.data.ragged import Ragged

LENGTH = 10
ROUNDS = 3


def write_population(path: Path, users: int) -> None:
    """Write ``users`` histories of equal length."""
    values = plain.histories(users, LENGTH).reshape(-1)
    Ragged(values, np.arange(users + 1) * (LENGTH + 1)).write(path)


def measure(path: Path, cohort: int) -> dict[str, float]:
    """Train a few rounds on a mapped population; return seconds a round and peak memory."""
    torch.set_num_threads(2)
    histories = Ragged.opened(path)
    train = rounds_of(histories, cohort, rounds=ROUNDS, max_length=LENGTH + 1)
    began = time.perf_counter()
    train()
    return {
        "seconds": (time.perf_counter() - began) / ROUNDS,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Print a Markdown table over populations and cohorts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, nargs="+", default=[10**3, 10**4, 10**5, 10**6])
    parser.add_argument("--cohorts", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--measure", nargs=2, metavar=("PATH", "COHORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    with_large_pages()
    if options.measure:
        print(json.dumps(measure(Path(options.measure[0]), int(options.measure[1]))))
        return
    print("| population | cohort | seconds a round | peak memory |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for users in options.users:
            path = Path(folder) / f"{users}.arrow"
            write_population(path, users)
            for cohort in (c for c in options.cohorts if c <= users):
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.population", "--measure", path, str(cohort)],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                result = json.loads(done.stdout)
                print(
                    f"| {users:,} | {cohort:,} | {result['seconds']:.2f} "
                    f"| {result['peak_mib']:,.0f} MiB |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
