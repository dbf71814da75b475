"""What cells share before they run, and which is begun first."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.plan import expand
from harness.scenario import load
from harness.sweep import shared_preparations

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"


@pytest.fixture(scope="module")
def cells():
    return expand(load(SCENARIOS / "poison_20pct.yaml")).cells


def test_the_default_scenario_trains_one_language_stage(cells):
    trained = [cell for cell in cells if cell.trains_language]
    assert [(cell.system.use, cell.defense.label, cell.seed) for cell in trained] == [
        ("sf_ubm", "replacement sigma=0.1", 0)
    ]


def test_a_system_is_prepared_once_for_all_its_seeds_and_noise(cells):
    groups = shared_preparations(cells)
    assert sorted((g[0].system.use, sorted(c.seed for c in g)) for g in groups) == [
        ("lumos", [0, 1, 2]),
        ("sf_ubm", [0, 1, 2]),
    ]
