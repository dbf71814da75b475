"""Numbers computed again from stored values: equal to what was written, or named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli import main
from harness.core.seeds import Seeds
from harness.results import (
    read_results,
    read_rows,
    read_samples,
    sample_blocks,
    write_results,
)
from harness.rows import Row
from harness.run_folder import claim
from harness.scenario import load
from harness.sheet import Sheet, score_seeds
from harness.verifying import verify_results

Write = Callable[..., Path]
DRAWS = 1000
"""What the scenario of the test has by default."""


def sheet(seed: int) -> Sheet:
    """A sheet with every kind of row: hits, real values, some missing, one unit, single figures."""
    rng = Seeds(seed).numpy("values")
    found = Sheet(
        {"run": "r", "cell": f"c{seed}", "system": "fed", "seed": seed}, score_seeds(seed), DRAWS
    )
    users = np.arange(80)
    utility: dict[str, Any] = {"side": "utility", "better": "higher", "chance": 0.1}
    for k in (10, 20):
        found.measure("hr", users, rng.random(80) < 0.3, k=k, protocol="full", **utility)
    found.measure("ndcg", users, np.where(users % 7 == 0, np.nan, rng.random(80)), **utility)
    found.measure("rank", users, rng.integers(1, 5000, 80), attack="p", **utility)
    found.measure("alone", users[:1], np.array([0.25]), **utility)
    found.measure("nobody", users[:0], np.empty(0), reason="nobody left", **utility)
    found.figure("seconds", 3.5, side="cost", better="lower")
    found.figure(
        "attack", np.nan, side="privacy", better="lower", status="not applicable", reason="no view"
    )
    return found


@pytest.fixture
def run(write: Write, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    claim(folder, load(write()))
    sheets = [sheet(0), sheet(1)]
    write_results(
        folder, [r for s in sheets for r in s.rows], [b for s in sheets for b in s.samples]
    )
    return folder


def rewritten(folder: Path, change: Callable[[Row], Row | None]) -> None:
    """Write the tables again, hashes and all, with rows changed or left out."""
    rows = [row for old in read_rows(folder) if (row := change(old)) is not None]
    write_results(folder, rows, sample_blocks(read_samples(folder)))


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out)


def test_every_row_with_samples_comes_out_as_written(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert main(["score", str(run)]) == 0
    shown = capsys.readouterr().out
    # Without users there are no samples to store, and so nothing to compute from.
    assert "10 rows computed again from their samples: 10 agree" in shown
    assert "4 single figures kept, with nothing to check: nobody, seconds" in shown
    assert "2 rows say why there is no number" in shown
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert main(["score", str(run), "--json"]) == 0
    told = document(capsys)
    assert (told["ok"], told["recomputed"], told["disagreements"]) == (True, 10, [])


@pytest.mark.parametrize(
    ("column", "value"), [("value", 0.9), ("low", 0.0), ("high", 0.999), ("n", 79)]
)
def test_a_row_that_its_samples_do_not_give_is_named(
    run: Path, column: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(row: Row) -> Row:
        chosen = (row.cell, row.metric, row.k) == ("c1", "hr", 20)
        return replace(row, **{column: value}) if chosen else row

    rewritten(run, spoil)
    assert verify_results(run) == ()  # the hashes were written anew: only the samples can tell
    assert main(["score", str(run)]) == 3
    shown = capsys.readouterr().out
    assert "10 rows computed again from their samples: 9 agree" in shown
    assert f"DIFFERS c1: hr@20: {column} is {value:.6g}, its samples give" in shown
    assert main(["score", str(run), "--json"]) == 3
    (told,) = document(capsys)["disagreements"]
    assert (told["cell"], told["metric"], told["k"]) == ("c1", "hr", 20)


def test_a_number_that_became_nan_disagrees(run: Path) -> None:
    nan = float("nan")
    rewritten(run, lambda row: replace(row, value=nan) if row.metric == "ndcg" else row)
    assert main(["score", str(run)]) == 3


def test_samples_without_a_row_and_an_interval_without_samples(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewritten(run, lambda row: None if (row.cell, row.metric) == ("c0", "ndcg") else row)
    assert main(["score", str(run)]) == 3
    assert "c0: ndcg: samples without a row" in capsys.readouterr().out
    blocks = [b for b in sample_blocks(read_samples(run)) if (b.cell, b.attack) != ("c1", "p")]
    write_results(run, read_rows(run), blocks)
    assert main(["score", str(run)]) == 3
    assert "c1: rank under p: an interval without stored samples" in capsys.readouterr().out


def test_a_table_changed_by_hand_is_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (run / "results.json").read_text()
    (run / "results.json").write_text(text.replace('"value": 3.5', '"value": 2.5'))
    assert main(["score", str(run)]) == 3
    assert "CHANGED results.json differs" in capsys.readouterr().out


def test_new_tables_with_more_resamples(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "more" / "draws"
    assert main(["score", str(run), "--out", str(out), "--draws", "4000"]) == 0
    old, new = read_results(run), read_results(out)
    assert verify_results(out) == () and len(old) == len(new)
    resampled = old["metric"].isin(["hr", "ndcg", "rank"])
    assert old["value"].equals(new["value"]) or np.allclose(
        old["value"], new["value"], rtol=1e-6, equal_nan=True
    )
    moved = (old["low"] - new["low"])[resampled].abs()
    width = (old["high"] - old["low"])[resampled]
    assert (moved > 0).any() and (moved < 0.2 * width).all()
    assert old[~resampled].equals(new[~resampled])
    assert load(out / "scenario.yaml") == load(run / "scenario.yaml", ["evaluation.bootstrap=4000"])
    # The new tables are a run like any other, and agree with their samples.
    assert main(["score", str(out)]) == 0


def test_what_cannot_be_scored(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(tmp_path / "absent")]) == 3
    assert main(["score", str(run), "--draws", "500"]) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert main(["score", str(run), "--out", str(run)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    (run / "samples.parquet").write_bytes(b"not parquet")
    assert main(["score", str(run)]) == 3
    assert "samples.parquet" in capsys.readouterr().err
