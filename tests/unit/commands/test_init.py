"""Scenarios to start from: each is valid as written, and nothing is ever overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.commands.init import Pack
from harness.packs import PACKS, SCHEMA_FILE

SCENARIOS = Path(__file__).resolve().parents[3] / "scenarios"


@pytest.mark.parametrize("name", PACKS)
def test_each_pack_is_the_projects_scenario_and_valid(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "new"), "--pack", name]) == 0
    path = tmp_path / "new" / PACKS[name]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == sorted([path.name, SCHEMA_FILE])
    assert str(path) in capsys.readouterr().out
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[0] == f"# yaml-language-server: $schema={SCHEMA_FILE}"
    assert text.endswith((SCENARIOS / PACKS[name]).read_text(encoding="utf-8"))
    assert json.loads((path.parent / SCHEMA_FILE).read_text(encoding="utf-8"))["properties"]
    assert main(["validate", str(path)]) == 0
    assert "valid" in capsys.readouterr().out


def test_the_choices_are_the_packs() -> None:
    assert [pack.value for pack in Pack] == list(PACKS)


def test_all_packs_at_once_and_again(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path)]) == 0
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(written) == {*PACKS.values(), SCHEMA_FILE}
    # What is there already as it would be written is left alone.
    assert main(["init", str(tmp_path)]) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == written


def test_a_file_with_content_is_refused_by_name_and_nothing_else_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / PACKS["noisy"]
    mine.write_text("mine\n")
    (tmp_path / PACKS["clean"]).symlink_to(tmp_path / "nowhere")
    assert main(["init", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert str(mine) in error and str(tmp_path / PACKS["clean"]) in error
    assert "Traceback" not in error and len(error.splitlines()) == 1
    assert mine.read_text() == "mine\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([PACKS["clean"], mine.name])


def test_an_empty_file_is_filled(tmp_path: Path) -> None:
    path = tmp_path / PACKS["poison"]
    path.touch()
    assert main(["init", str(tmp_path), "--pack", "poison"]) == 0
    assert path.stat().st_size > 0


def test_an_unknown_pack_and_a_folder_that_is_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path), "--pack", "nois"]) == 2
    assert "'noisy'" in capsys.readouterr().err
    (tmp_path / "file").write_text("x")
    assert main(["init", str(tmp_path / "file")]) == 4
    assert "file: File exists" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "x"
