"""Item vectors: neighbours, cosines, claims and k-means against scikit-learn and plain products.

    python -m benchmarks.vectors [--items 100000] [--queries 1024] [--turns 3] [--threads 1]

Work: 100,000 × 768 vectors in single precision (clusters around 2,000 centres, one row in a hundred
a copy of another), compared with a part of them; time is linear in the queries. All sides take
turns in one run, the first turn is warm-up, and each ratio is the median over the turns. Peak
memory is that of a process of its own, beyond the vectors it has opened.

Sides. ``plain product``: a loop over blocks of 256 queries, ``block @ table.T`` and ``topk``.
``scikit-learn``: ``NearestNeighbors(algorithm="brute")``, Euclidean on unit vectors (the same
order, and its fast path) and by cosine. ``whole table``: the product of everything at once and
its ranks, as the scorer did before claims came in blocks. k-means: 90 clusters, at most 10
iterations, scikit-learn's with its defaults.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from harness.core.clusters import k_means
from harness.core.cosine import cosines
from harness.core.neighbors import Metric, nearest
from harness.core.scores import ROW_TILE, row_blocks
from harness.core.seeds import Seeds
from harness.metrics.ranking import target_rank

DIM, CLUSTERS, ITERATIONS = 768, 90, 10


class Vectors(NamedTuple):
    """What is worked on.

    Attributes:
        table: unit vectors of the items.
        queries: the first of them with noise of 0.1 a coordinate.
    """

    table: torch.Tensor
    queries: torch.Tensor


def write(folder: Path, items: int, queries: int) -> None:
    """Write the vectors to disk, so that every process opens the same ones."""
    stream = np.random.default_rng(0)
    centres = stream.standard_normal((2000, DIM), dtype=np.float32)
    table = centres[stream.integers(0, len(centres), items)]
    table += stream.standard_normal(table.shape, dtype=np.float32)
    copies = stream.integers(0, items, items // 100)
    table[copies] = table[stream.integers(0, items, len(copies))]
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    noise = stream.standard_normal((queries, DIM), dtype=np.float32)
    np.save(folder / "table.npy", table)
    np.save(folder / "queries.npy", table[:queries] + np.float32(0.1) * noise)


def opened(folder: Path) -> Vectors:
    """Read the vectors into memory."""
    loaded = (np.load(folder / f"{name}.npy") for name in ("table", "queries"))
    return Vectors(*(torch.from_numpy(array) for array in loaded))


def ours(k: int, metric: Metric) -> Callable[[Vectors], object]:
    """Nearest neighbours of the harness, each item's own place left out."""

    def run(work: Vectors) -> object:
        own = torch.arange(len(work.queries))
        return nearest(work.queries, work.table, k, exclude=own, metric=metric)

    return run


def plain_neighbours(k: int) -> Callable[[Vectors], object]:
    """A chunked product and the k largest of each row."""

    def run(work: Vectors) -> object:
        return [(part @ work.table.T).topk(k) for part in work.queries.split(ROW_TILE)]

    return run


def sklearn_neighbours(k: int, metric: str) -> Callable[[Vectors], object]:
    """Brute-force search of scikit-learn."""

    def run(work: Vectors) -> object:
        search = NearestNeighbors(n_neighbors=k, algorithm="brute", metric=metric)
        return search.fit(work.table.numpy()).kneighbors(work.queries.numpy())

    return run


def cosine_blocks(work: Vectors) -> None:
    """All cosines, block by block."""
    for _ in row_blocks(cosines(work.queries, work.table), torch.arange(len(work.queries))):
        pass


def plain_blocks(work: Vectors) -> None:
    """The same by a plain chunked product of unit vectors."""
    unit = torch.nn.functional.normalize(work.table, dim=1)
    for part in work.queries.split(ROW_TILE):
        _ = torch.nn.functional.normalize(part, dim=1) @ unit.T


def claims(work: Vectors) -> None:
    """Rank the true item of every upload as the scorer does."""
    rows = torch.arange(len(work.queries))
    for part, block in row_blocks(cosines(work.queries, work.table), rows):
        target_rank(block.numpy(), rows[part].numpy(), tie="average")


def whole_claims(work: Vectors) -> None:
    """The same with the uploads × items table in memory."""
    normalise = torch.nn.functional.normalize
    scores = (normalise(work.queries, dim=1) @ normalise(work.table, dim=1).T).numpy()
    target_rank(scores, np.arange(len(scores)), tie="average")


def our_clusters(work: Vectors) -> None:
    """k-means of the harness."""
    k_means(work.table, CLUSTERS, max_iterations=ITERATIONS, tolerance=0.0, seeds=Seeds(0))


def sklearn_clusters(work: Vectors) -> None:
    """k-means of scikit-learn as it comes."""
    seed = np.random.RandomState(Seeds(0).numpy("k-means").bit_generator)
    KMeans(CLUSTERS, max_iter=ITERATIONS, tol=0.0, random_state=seed).fit(work.table.numpy())


TASKS: dict[str, dict[str, Callable[[Vectors], object]]] = {
    "nearest, k = 1, cosine": {
        "harness": ours(1, "cosine"),
        "plain product": plain_neighbours(1),
        "scikit-learn, Euclidean": sklearn_neighbours(1, "euclidean"),
        "scikit-learn, cosine": sklearn_neighbours(1, "cosine"),
    },
    "nearest, k = 10, Euclidean": {
        "harness": ours(10, "l2"),
        "plain product": plain_neighbours(10),
        "scikit-learn, Euclidean": sklearn_neighbours(10, "euclidean"),
    },
    "cosines": {"harness": cosine_blocks, "plain product": plain_blocks},
    "item claims": {"harness": claims, "whole table": whole_claims},
    "k-means": {"harness": our_clusters, "scikit-learn": sklearn_clusters},
}


def measured_peak(folder: Path, task: str, side: str) -> float:
    """Return the MiB that one side needs beyond the vectors, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.vectors", "--peak", str(folder), task, side]
    command += ["--threads", str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def peak(folder: Path, task: str, side: str) -> float:
    """Do the work twice, the first time on few items, so that libraries are loaded before."""
    work = opened(folder)
    TASKS[task][side](Vectors(work.table[:1000].clone(), work.queries[:100].clone()))
    # Linux starts to count the greatest resident size of this process anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    TASKS[task][side](work)
    return resident("VmHWM") - before


def resident(name: str) -> float:
    """Return a line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def take_turns(task: str, work: Vectors, turns: int) -> dict[str, list[float]]:
    """Return each side's seconds, turn by turn; the first turn is warm-up."""
    seconds: dict[str, list[float]] = {side: [] for side in TASKS[task]}
    for turn in range(turns + 1):
        for side, run in TASKS[task].items():
            began = time.perf_counter()
            run(work)
            if turn:
                seconds[side].append(time.perf_counter() - began)
    return seconds


def report(folder: Path, turns: int, tasks: list[str]) -> None:
    """Print a Markdown table."""
    work = opened(folder)
    print("| work | side | seconds | harness ÷ side | peak beyond the vectors |")
    print("|---|---|---|---|---|")
    for task in tasks:
        seconds = take_turns(task, work, turns)
        for side, values in seconds.items():
            ratios = [a / b for a, b in zip(seconds["harness"], values, strict=True)]
            print(
                f"| {task} | {side} | {median(values):.1f} | {median(ratios):.2f} "
                f"| {measured_peak(folder, task, side):,.0f} MiB |",
                flush=True,
            )


def main() -> None:
    """Write the vectors, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1024)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with threadpool_limits(options.threads):
        if options.peak:
            print(json.dumps(peak(Path(options.peak[0]), *options.peak[1:])))
            return
        with tempfile.TemporaryDirectory() as name:
            write(Path(name), options.items, options.queries)
            report(Path(name), options.turns, options.tasks)


if __name__ == "__main__":
    main()
