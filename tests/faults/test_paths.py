"""Relative paths in a scenario mean the same from every directory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness import sealing
from harness.core.errors import ScenarioError
from harness.plan import expand
from harness.run_folder import claim
from harness.scenario import load, scenario_hash

BASE = """
schema: 1
name: n
seeds: [0]
datasets: {mine: {path: %s}}
systems: {s: {use: lumos, dataset: mine, encoder: %s}}
"""


def path_of(scenario) -> str:
    return scenario.datasets["mine"]["path"]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "study"
    (folder / "data").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (folder / "s.yaml").write_text(BASE % ("data", "minilm-l6"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def test_a_path_starts_at_its_file(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_elsewhere = load("../study/s.yaml")
    assert path_of(from_elsewhere) == str(study / "data")
    monkeypatch.chdir(study)
    beside = load("s.yaml")
    assert beside == from_elsewhere
    assert scenario_hash(beside) == scenario_hash(from_elsewhere)
    run = study / "runs" / "n"
    run.mkdir(parents=True)
    (run / "scenario.yaml").write_text(beside.resolved_yaml(run))
    monkeypatch.chdir("/")
    assert load(run / "scenario.yaml") == beside


def keys(file: Path) -> list[tuple[str, str]]:
    return [(cell.id, cell.training) for cell in expand(load(file)).cells]


def test_a_study_elsewhere_is_the_same_study(study: Path, tmp_path: Path) -> None:
    (study / "enc").mkdir()
    (study / "s.yaml").write_text(BASE % ("data", "./enc"))
    other = tmp_path / "deep" / "copy"
    shutil.copytree(study, other)
    assert path_of(load(study / "s.yaml")) != path_of(load(other / "s.yaml"))
    assert scenario_hash(load(study / "s.yaml")) == scenario_hash(load(other / "s.yaml"))
    assert keys(study / "s.yaml") == keys(other / "s.yaml")
    (other / "s.yaml").write_text(BASE % ("../data", "./enc"))
    before, after = keys(study / "s.yaml")[0], keys(other / "s.yaml")[0]
    assert before[0] != after[0] and before[1] != after[1]
    assert scenario_hash(load(study / "s.yaml")) != scenario_hash(load(other / "s.yaml"))


def test_a_path_given_in_full_is_part_of_who_it_is(study: Path) -> None:
    relative = keys(study / "s.yaml")
    (study / "s.yaml").write_text(BASE % (study / "data", "minilm-l6"))
    assert keys(study / "s.yaml") != relative


@pytest.mark.parametrize("run", ["study/runs/n", "study-runs/n"])
def test_a_run_moves_with_its_study(study: Path, tmp_path: Path, run: str) -> None:
    (study / "enc").mkdir()
    (study / "s.yaml").write_text(BASE % ("data", "./enc"))
    both = tmp_path / "both"
    both.mkdir()
    study.rename(both / "study")
    scenario = load(both / "study" / "s.yaml")
    claim(both / run, scenario)
    kept = load(both / run / "scenario.yaml")
    assert kept == scenario and scenario_hash(kept) == scenario_hash(scenario)
    moved = both.rename(tmp_path / "moved")
    kept = load(moved / run / "scenario.yaml")
    assert kept == load(moved / "study" / "s.yaml")
    assert path_of(kept) == str(moved / "study" / "data")
    assert kept.systems["s"].params["encoder"] == str(moved / "study" / "enc")
    (moved / run / "cells" / "c" / "rounds" / "1").mkdir(parents=True)
    claim(moved / run, load(moved / "study" / "s.yaml"))
    assert keys(moved / run / "scenario.yaml") == keys(moved / "study" / "s.yaml")


def test_a_run_left_behind_follows_the_study_that_claims_it(study: Path, tmp_path: Path) -> None:
    run = tmp_path / "far" / "away" / "n"
    claim(run, load(study / "s.yaml"))
    (run / "cells" / "c" / "rounds" / "1").mkdir(parents=True)
    moved = study.rename(tmp_path / "elsewhere" / "study")
    claim(run, load(moved / "s.yaml"))
    assert path_of(load(run / "scenario.yaml")) == str(moved / "data")


def test_a_seal_leaves_out_where_paths_start_and_nothing_else(tmp_path: Path) -> None:
    def seal(text: str) -> str:
        (tmp_path / "scenario.yaml").write_text(text)
        return sealing._hash(tmp_path / "scenario.yaml")

    assert seal('paths_from: ".."\nname: a\n') == seal('paths_from: "/x"\nname: a\n')
    assert seal('paths_from: ".."\nname: a\n') != seal('paths_from: ".."\nname: b\n')
    assert seal('name: a\npaths_from: ".."\n') != seal('name: a\npaths_from: "/x"\n')


def test_each_file_of_a_chain_has_its_own_folder(study: Path) -> None:
    (study / "below").mkdir()
    (study / "below" / "t.yaml").write_text("extends: ../s.yaml\nname: other\n")
    assert path_of(load(study / "below" / "t.yaml")) == str(study / "data")
    (study / "below" / "u.yaml").write_text("extends: ../s.yaml\ndatasets: {mine: {path: data}}\n")
    assert path_of(load(study / "below" / "u.yaml")) == str(study / "below" / "data")


def test_what_is_typed_starts_where_it_is_typed(study: Path) -> None:
    here = os.getcwd()
    typed = load(study / "s.yaml", ["datasets.mine.path=data"])
    assert path_of(typed) == os.path.join(here, "data")
    home = load(study / "s.yaml", ["datasets.mine.path=~/data"])
    assert path_of(home) == os.path.expanduser("~/data")
    assert path_of(load(study / "s.yaml", ["datasets.mine.path=/x/y"])) == "/x/y"


def test_a_model_is_a_path_where_there_is_one(study: Path) -> None:
    def encoder() -> str:
        return load(study / "s.yaml").systems["s"].params["encoder"]

    assert encoder() == "minilm-l6"
    (study / "minilm-l6").mkdir()
    assert encoder() == "minilm-l6", "the name of an asset"
    (study / "s.yaml").write_text(BASE % ("data", "their/encoder"))
    assert encoder() == "their/encoder", "a hub name"
    (study / "their" / "encoder").mkdir(parents=True)
    assert encoder() == str(study / "their" / "encoder")
    (study / "s.yaml").write_text(BASE % ("data", "./mine"))
    assert encoder() == str(study / "mine")


def test_a_folder_whose_name_is_not_utf_8_is_refused_before_anything_runs(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    (folder / "s.yaml").write_text(BASE % ("data", "minilm-l6"))
    with pytest.raises(ScenarioError, match="not UTF-8"):
        load(folder / "s.yaml")
