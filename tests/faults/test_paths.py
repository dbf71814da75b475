"""Relative paths in a scenario mean the same from every directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.core.errors import ScenarioError
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
    (run / "scenario.yaml").write_text(beside.resolved_yaml())
    monkeypatch.chdir("/")
    assert load(run / "scenario.yaml") == beside


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
