"""What a scenario runs beside a defence, to tell what its price is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.registry import DEFENSES
from harness.plan import expand
from harness.plugins import build
from harness.scenario import load

SCENARIO = """
schema: 1
name: parts
seeds: [0, 1]
datasets: {movies: {use: synthetic}}
systems: {lumos: {use: lumos, dataset: movies, rounds: 4}}
clients: {malicious: {fraction: 0.2}}
attacks: {flip: {use: sign_flip}, norms: {use: row_norm}}
anchors: false
defenses:
  dp: {use: dp_fedavg, epsilon: [8.0, 1000.0], clip_norm: [1.0, 3.0], server_optimizer: adam}
  trim: {use: trimmed_mean}
"""
COMPANIONS = {
    "dp: without clip and noise",
    "dp: without noise clip_norm=1",
    "dp: without noise clip_norm=3",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "parts.yaml"
    file.write_text(SCENARIO)
    return file


def test_each_effect_is_taken_away_once_and_what_a_sweep_varies_in_it_makes_no_arm(path: Path):
    plan = expand(load(path))
    found = {c.defense.label: c for c in plan.cells if ":" in c.defense.label}
    assert found.keys() == COMPANIONS
    for label, cell in found.items():
        assert cell.poisoning is None and not cell.inference and not cell.malicious
        (part,) = cell.defense.parts
        assert part.params["noise_multiplier"] == 0.0 and part.params["epsilon"] is None
        assert part.params["server_optimizer"] == "adam", "the rule stays as it is"
        assert (part.params["clip_norm"] is None) == ("clip and" in label)
        build(DEFENSES, part)
    assert sum(":" in c.defense.label for c in plan.cells) == len(COMPANIONS) * 2


@pytest.mark.parametrize("change", ["defenses.dp.decompose=false", "defenses.dp.under=[flip]"])
def test_they_can_be_left_out_and_need_a_training_without_attack(path: Path, change: str):
    assert not [c for c in expand(load(path, [change])).cells if ":" in c.defense.label]


def test_the_resolved_scenario_runs_the_same(path: Path, tmp_path: Path):
    scenario = load(path, ["defenses.dp.decompose=false"])
    again = tmp_path / "again.yaml"
    again.write_text(scenario.resolved_yaml())
    assert load(again) == scenario
    assert [c.id for c in expand(load(again)).cells] == [c.id for c in expand(scenario).cells]


def test_nobody_s_own_arm_can_be_taken_for_one(path: Path):
    path.write_text(SCENARIO.replace("  trim:", "  'dp: without noise':"))
    with pytest.raises(Exception, match="dp: without noise"):
        load(path)
