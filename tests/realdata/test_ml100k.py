"""MovieLens-100K as fetched: what must hold of undefended LUMOS, its anchors, its attacks."""

from __future__ import annotations

import numpy as np
import pytest

from harness.assets import resolve
from harness.core.errors import AssetError
from harness.plan import expand
from harness.plugins import load_plugins
from harness.run import Desk, run_cell
from harness.scenario import load

pytestmark = [pytest.mark.slow, pytest.mark.realdata]

SCENARIO = """
schema: 1
name: real
seeds: [0]
datasets: {ml-100k: {use: ml-100k}}
systems:
  lumos:
    use: lumos
    dataset: ml-100k
    rounds: 60
    optimizer: sgd
    learning_rate: 2.0
    contrastive_weight: 0.0
    future: false
    rephrased: false
    counterfactual: false
anchors: {popularity: {}, random: {}, central_sasrec: {}}
clients: {malicious: {fraction: 0.2}}
attacks: {promotion: {use: a_hum}, row norm: {use: row_norm}}
evaluation: {k: [20], bootstrap: 500}
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory):
    """Run the five cells in this process; the rows by system, poisoning, attack and metric."""
    try:
        resolve("ml-100k")
    except AssetError as error:
        pytest.skip(f"MovieLens-100K can't be fetched: {error}")
    folder = tmp_path_factory.mktemp("real")
    (folder / "real.yaml").write_text(SCENARIO)
    load_plugins()
    found = {}
    for cell in expand(load(folder / "real.yaml")).cells:
        result = run_cell(cell, {"run": "real"}, Desk(folder, lambda text: None))
        found |= {(r.system, r.poisoning, r.attack, r.metric): r for r in result.rows}
    return found


def _hr(rows, system):
    return rows[system, "none", "none", "hr"]


def test_random_is_at_chance(rows):
    row = _hr(rows, "random")
    assert row.low <= row.chance <= row.high


def test_undefended_lumos_reaches_nine_tenths_of_central_training(rows):
    assert _hr(rows, "lumos").value >= 0.9 * _hr(rows, "central_sasrec").value


def test_undefended_lumos_beats_popularity(rows):
    assert _hr(rows, "lumos").low > _hr(rows, "popularity").value


def test_promotion_works_without_a_defence_and_hardly_costs_utility(rows):
    attacked = rows["lumos", "promotion", "promotion", "er"]
    assert attacked.low > 10 * attacked.chance
    assert rows["lumos", "none", "none", "er"].value < attacked.chance * 3
    kept = rows["lumos", "promotion", "none", "hr"].value / _hr(rows, "lumos").value
    assert kept > 0.8


def test_row_norms_give_the_history_away(rows):
    row = rows["lumos", "none", "row norm", "auc"]
    assert row.low > 0.9 and row.chance == 0.5 and row.n > 50
    assert np.isfinite([row.low, row.high]).all()
