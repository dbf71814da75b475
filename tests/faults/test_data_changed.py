"""Row 40: data or models that change between two commands, or while a sweep runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.case import model_references
from harness.cells import Cell
from harness.core.errors import DataError
from harness.core.registry import discover
from harness.files import write_atomic
from harness.inputs import Expected, Inputs, data_paths, local_models, recorded, require_same
from harness.plan import expand
from harness.prepared import check_against_data, prepared_data
from harness.results import write_results
from harness.rows import Row
from harness.run import Desk, run_cell
from harness.scenario import load

ELSEWHERE = "give another folder with --out"


def _log(folder: Path, shift: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    rows = ["user_id,item_id,timestamp"]
    rows += [f"u{u},i{(u + t * (1 + shift)) % 23},{1000 + t}" for u in range(30) for t in range(6)]
    (folder / "interactions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    """A popularity cell on a small log of one's own."""
    discover()
    _log(tmp_path / "data")
    (tmp_path / "s.yaml").write_text(
        "schema: 1\nname: small\nseeds: [0]\n"
        f"datasets:\n  mine: {{path: {json.dumps(str(tmp_path / 'data'))}}}\n"
        "anchors:\n  popularity: {}\n"
        "evaluation: {k: [5], candidates: 5, bootstrap: 100}\n",
        encoding="utf-8",
    )
    return expand(load(tmp_path / "s.yaml")).cells[0]


def _finished(folder: Path, cell: Cell, data: str, models: dict[str, str] | None = None) -> None:
    """A finished cell; without models as an earlier version left it, with its table alone."""
    place = folder / "cells" / cell.id
    row = Row(run="r", cell=cell.id, system="p", metric="hr", side="utility", better="higher",
              data_hash=data)  # fmt: skip
    write_results(place, [row])
    done = {} if models is None else {"inputs": Inputs(data, models).document()}
    write_atomic(place / "done.json", json.dumps(done).encode())


def test_a_file_that_changes_is_read_again_in_the_same_process(cell: Cell, tmp_path: Path) -> None:
    before = prepared_data(json.dumps(cell.dataset))
    assert prepared_data(json.dumps(cell.dataset)) is before
    _log(tmp_path / "data", shift=1)
    after = prepared_data(json.dumps(cell.dataset))
    assert after.data_hash != before.data_hash
    _log(tmp_path / "data")
    assert prepared_data(json.dumps(cell.dataset)).data_hash == before.data_hash


def test_a_cell_is_not_run_on_data_that_changed_since_the_run_began(
    cell: Cell, tmp_path: Path
) -> None:
    expected = Expected({"mine": check_against_data(cell).data_hash})
    desk = Desk(tmp_path / "cache", lambda _: None, expected=expected)
    result = run_cell(cell, {"run": "r"}, desk)
    assert result.inputs == Inputs(expected.data["mine"], {})
    _log(tmp_path / "data", shift=1)
    now = check_against_data(cell).data_hash
    with pytest.raises(DataError, match="data set 'mine' has changed while the run goes on") as e:
        run_cell(cell, {"run": "r"}, desk)
    assert expected.data["mine"][:12] in str(e.value) and now[:12] in str(e.value)


@pytest.mark.parametrize("models", [None, {}], ids=["earlier version", "this version"])
def test_finished_cells_of_other_data_are_refused_with_both_hashes(
    cell: Cell, tmp_path: Path, models: dict[str, str] | None
) -> None:
    _finished(tmp_path / "run", cell, "a" * 64, models)
    require_same(tmp_path / "run", [cell], Expected({"mine": "a" * 64}), ELSEWHERE)
    with pytest.raises(DataError) as error:
        require_same(tmp_path / "run", [cell], Expected({"mine": "b" * 64}), ELSEWHERE)
    text = str(error.value)
    assert text.count("\n") == 0 and text.startswith(f"{tmp_path / 'run'}: data set 'mine'")
    assert "a" * 12 in text and "b" * 12 in text and cell.id in text and ELSEWHERE in text


def test_a_table_that_is_mixed_already_is_refused(cell: Cell, tmp_path: Path) -> None:
    other = cell.model_copy(update={"id": "other"})
    _finished(tmp_path, cell, "a" * 64, {})
    _finished(tmp_path, other, "b" * 64, {})
    for now in "a", "b":
        with pytest.raises(DataError, match="1 cell was done"):
            require_same(tmp_path, [cell, other], Expected({"mine": now * 64}), ELSEWHERE)


def test_a_local_model_counts_by_its_content(cell: Cell, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    ref = str(model)
    first = local_models([ref, "smollm2-135m", "some/hub-name"])
    assert list(first) == [ref]
    _finished(tmp_path / "run", cell, "a" * 64, first)
    require_same(tmp_path / "run", [cell], Expected({"mine": "a" * 64}, first), ELSEWHERE)
    (model / "config.json").write_text("[1]")
    now = local_models([ref])
    assert now != first
    with pytest.raises(DataError, match=r"model .* has changed"):
        require_same(tmp_path / "run", [cell], Expected({"mine": "a" * 64}, now), ELSEWHERE)
    with pytest.raises(DataError, match=r"model .* while the run goes on"):
        Expected({"mine": "a" * 64}, first).require(cell, Inputs("a" * 64, now))


def test_a_copy_with_another_time_is_the_same_model(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    first = local_models([str(model)])
    os.utime(model / "config.json", (1, 1))
    assert local_models([str(model)]) == first


def test_what_a_cell_needs_of_files_is_found(cell: Cell, tmp_path: Path) -> None:
    assert model_references(cell) == set()
    assert data_paths(cell.dataset) == [tmp_path / "data"]
    nested = {"domains": {"target": {"options": {"reviews": str(tmp_path / "s.yaml")}}}}
    # A log has an item file beside it, whose change counts as well.
    assert data_paths(nested) == [tmp_path]
    assert data_paths({"use": str(tmp_path), "options": {"size": "x" * 5000}}) == []


def test_a_cell_that_does_not_tell_is_not_guessed_at(cell: Cell, tmp_path: Path) -> None:
    assert recorded(tmp_path / "nowhere") is None
    (tmp_path / "done.json").write_text('{"inputs": [1]}')
    assert recorded(tmp_path) is None
