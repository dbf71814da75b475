"""What cells share before they run, and which is begun first."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.plan import expand
from harness.preparations import STEPS, preparation_tasks, shared_preparations, variants_of
from harness.scenario import load

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


def test_what_is_prepared_is_known_by_system_noise_and_seed(cells):
    lumos, text = shared_preparations(cells)
    assert len(variants_of(lumos)) == 3 and not variants_of(lumos) & variants_of(text)
    # Another strength of a defence needs nothing new.
    dp = [cell for cell in cells if cell.defense.label == "dp-fedavg epsilon=8"]
    (group,) = shared_preparations(dp)
    assert variants_of(group) <= variants_of(lumos)


def test_only_what_writes_texts_is_prepared():
    silent = [f"systems.lumos.{view}=false" for view in ("future", "rephrased", "counterfactual")]
    for overrides, tasks in (((), {"lumos", "sf-ubm"}), (silent, {"sf-ubm"})):
        plan = expand(load(SCENARIOS / "poison_20pct.yaml", overrides))
        groups = shared_preparations(plan.cells)
        found = {task.key for step in STEPS for task in preparation_tasks(groups, step)}
        assert {key.split(" on ")[0].split()[-1] for key in found} == tasks


def test_a_training_of_no_round_is_said():
    said = expand(load(SCENARIOS / "clean.yaml", ["systems.lumos.rounds=0"])).warnings
    assert "lumos: rounds: 0 trains nothing: the model stays as drawn" in said
    assert not any("rounds" in text for text in expand(load(SCENARIOS / "clean.yaml")).warnings)
