"""Rows and limits of small made-up runs, whose intervals are known, for tests of the gate."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from harness.limits import read_limits
from harness.results import Row, SampleBlock
from reports.evidence import Evidence
from reports.gates.judging import judge_limits

NO_SAMPLES = pd.DataFrame(columns=["cell", "attack", "metric", "k", "protocol", "unit", "value"])


def attack_row(defense, seed, value, **changes):
    """One seed's AUC of an attack without values per user: Student's t over the seeds."""
    plain = dict(
        run="r", cell=f"{defense}/{seed}", system="S", metric="auc", side="privacy", seed=seed,
        better="lower", attack="rows", defense=defense, defense_family=defense, value=value,
        low=value - 0.01, high=value + 0.01, n=100, chance=0.5,
    )  # fmt: skip
    return Row(**(plain | changes))


def over_seeds(defense, values, **changes):
    return [attack_row(defense, seed, value, **changes) for seed, value in enumerate(values)]


def utility(defense, seed, hits, **changes):
    """One seed's HR@10 with its values per user."""
    plain = dict(
        run="r", cell=f"{defense}/{seed}", system="S", metric="hr", side="utility", k=10,
        better="higher", protocol="full", seed=seed, defense=defense, defense_family=defense,
        value=float(np.mean(hits)), n=len(hits), chance=0.01,
    )  # fmt: skip
    row = Row(**(plain | changes))
    block = SampleBlock(
        cell=row.cell, metric="hr", k=10, protocol="full", units=np.arange(len(hits)),
        values=np.asarray(hits, dtype=float),
    )  # fmt: skip
    return row, block


def frame(blocks):
    columns = ("cell", "attack", "metric", "k", "protocol")
    parts = [
        pd.DataFrame({c: getattr(b, c) for c in columns} | {"unit": b.units, "value": b.values})
        for b in blocks
    ]
    return pd.concat(parts)


def limits_file(folder: Path, *limits: str) -> Path:
    """A limits file; each limit as ``SELECT; QUANTITY; BOUND``."""
    lines = ["schema: 1", "limits:"]
    for limit in limits:
        select, quantity, bound = (part.strip() for part in limit.split(";"))
        lines.append(f"  - {{select: {{{select}}}, quantity: {quantity}, {bound}}}")
    path = folder / "limits.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def judged(folder, rows, *limits, samples=NO_SAMPLES, **more):
    """The outcome of limits on rows."""
    read = read_limits(limits_file(folder, *limits))
    return judge_limits(read, Evidence(rows, samples), run="r", **more)


def t_interval(values):
    """Student's t over three seeds, by hand: 4.302653 standard errors either way."""
    assert len(values) == 3
    half = 4.302652729911275 * np.std(values, ddof=1) / math.sqrt(3)
    return float(np.mean(values)) - half, float(np.mean(values)) + half
