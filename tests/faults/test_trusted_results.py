"""Rows 63 to 66 and 74: what a verdict rests on is whole, unedited, and most of it measured."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import main
from harness.core.errors import DataError, HarnessError
from harness.gate import judge_run
from harness.results import Row, SampleBlock, read_rows, read_samples, write_results
from harness.sealing import sealed, verify_run
from reports.comparison_run import read_run

USERS = np.arange(100)
CELLS = [f"c{seed}" for seed in range(3)]
ROW = Row(run="r", cell="c", system="S", metric="hr", side="utility", better="higher", k=10,
          protocol="full", dataset="d", n=100)  # fmt: skip


def _write(folder: Path, missing: int = 0, metric: str = "hr", manifest: bool = True) -> Path:
    """Three seeds in which all but ``missing`` of 100 users have 0.4 to 0.6."""
    rows, blocks = [], []
    for seed, cell in enumerate(CELLS):
        values = np.random.default_rng(seed).uniform(0.4, 0.6, len(USERS))
        values[:missing] = math.nan
        mean = float(np.nanmean(values))
        rows.append(replace(ROW, cell=cell, seed=seed, metric=metric, value=mean, n=100 - missing))
        blocks.append(SampleBlock(cell=cell, metric=metric, k=10, protocol="full", units=USERS,
                                  values=values))  # fmt: skip
    write_results(folder, rows, blocks)
    if manifest:
        (folder / "manifest.json").write_bytes(sealed(folder, {"status": "done"}, CELLS))
    return folder


def _limits(folder: Path, more: str = "", metric: str = "hr") -> Path:
    path = folder / "limits.yaml"
    path.write_text(
        f"schema: 1\nlimits:\n  - {{select: {{metric: {metric}}}, at_least: 0.3{more}}}\n"
    )
    return path


def _rewritten(path: Path, change) -> None:
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def _gate(folder: Path, limits: Path, **more) -> tuple[str, str]:
    outcome = judge_run(folder, limits, **more)
    return outcome.verdict, "; ".join(check.reason for check in outcome.checks)


def test_a_whole_run_passes(tmp_path):
    assert verify_run(_write(tmp_path)).words == ()
    assert _gate(tmp_path, _limits(tmp_path)) == ("pass", "")


@pytest.mark.parametrize(
    ("missing", "verdict"), [(5, "pass"), (6, "inconclusive"), (78, "inconclusive")]
)
def test_users_without_a_value_keep_a_gate_from_passing(tmp_path, missing, verdict):
    found, why = _gate(_write(tmp_path, missing), _limits(tmp_path))
    assert found == verdict
    if verdict != "pass":
        assert f"{3 * missing} of 300 units ({missing / 100:.1%}) have no value" in why
    assert _gate(tmp_path, _limits(tmp_path, ", max_missing: 0.8"))[0] == "pass"
    assert _gate(tmp_path, _limits(tmp_path, ", max_missing: 0"))[0] == "inconclusive"


@pytest.mark.parametrize("metric", ["er", "hit1_valid", "category_overlap"])
def test_what_is_undefined_by_definition_is_not_missing(tmp_path, metric):
    _write(tmp_path, 78, metric)
    assert _gate(tmp_path, _limits(tmp_path, metric=metric))[0] == "pass"


def test_flattened_samples_are_an_edit(tmp_path):
    def flat(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index("value")
        return table.set_column(place, "value", pa.array([0.5] * len(table), pa.float32()))

    _rewritten(_write(tmp_path) / "samples.parquet", flat)
    (edit,) = verify_run(tmp_path).edits
    assert edit == "samples.parquet does not have the hash it was written with"
    with pytest.raises(DataError, match=r"samples\.parquet does not have the hash"):
        judge_run(tmp_path, _limits(tmp_path))


@pytest.mark.parametrize("what", ["cell", "row", "users"])
def test_what_is_lost_passes_no_gate_even_if_edits_are_accepted(tmp_path, what):
    _write(tmp_path)
    name = "samples.parquet" if what == "users" else "results.parquet"
    _rewritten(tmp_path / name, lambda table: table.slice(22 if what == "users" else 1))
    (tmp_path / "results.json").unlink()
    found, why = _gate(tmp_path, _limits(tmp_path), accept_edited=True)
    assert found == "inconclusive"
    assert ("22 of 100 values per user (22.0%)" if what == "users" else
            "1 of 3 planned cells (33.3%) has no row: c0") in why  # fmt: skip


def test_a_run_without_a_manifest_passes_no_gate(tmp_path):
    limits = _limits(tmp_path)
    _write(tmp_path, manifest=False)
    for accept in False, True:
        found, why = _gate(tmp_path, limits, accept_edited=accept)
        assert found == "inconclusive" and "manifest.json is missing" in why


def test_cells_that_a_partial_run_has_not_come_to_are_not_lost(tmp_path):
    _write(tmp_path, manifest=False)
    document = sealed(tmp_path, {"status": "partial"}, [*CELLS, "c3"])
    (tmp_path / "manifest.json").write_bytes(document)
    assert verify_run(tmp_path).words == ()
    assert _gate(tmp_path, _limits(tmp_path))[0] == "inconclusive"
    (tmp_path / "manifest.json").write_text('{"status": "partial", "plan": {"cells": 4}}')
    assert verify_run(tmp_path).lost == ()


def test_an_earlier_versions_run_is_read_with_a_reason(tmp_path):
    _write(tmp_path, manifest=False)
    old = {"status": "done", "plan": {"cells": 3}}
    (tmp_path / "manifest.json").write_text(json.dumps(old))
    found, why = _gate(tmp_path, _limits(tmp_path))
    assert found == "inconclusive" and "kept no hash" in why
    assert _gate(tmp_path, _limits(tmp_path), accept_edited=True)[0] == "pass"
    (tmp_path / "manifest.json").write_text(json.dumps({**old, "plan": {"cells": 4}}))
    found, why = _gate(tmp_path, _limits(tmp_path), accept_edited=True)
    assert found == "inconclusive" and "1 of 4 planned cells (25.0%) have no row" in why


@pytest.mark.parametrize("change", ["status", "sealed", "sha256", "junk"])
def test_an_edited_manifest_is_refused_or_inconclusive(tmp_path, change):
    path = _write(tmp_path) / "manifest.json"
    manifest = json.loads(path.read_text())
    if change == "junk":
        path.write_text("{")
    else:
        manifest[change] = "complete"
        path.write_text(json.dumps(manifest))
    if change == "sealed":
        assert _gate(tmp_path, _limits(tmp_path))[0] == "inconclusive"
    else:
        with pytest.raises(DataError, match=r"manifest\.json"):
            judge_run(tmp_path, _limits(tmp_path))


def test_results_of_another_run_are_an_edit(tmp_path):
    _write(tmp_path / "a")
    manifest = (tmp_path / "a" / "manifest.json").read_bytes()
    _write(tmp_path / "b", missing=3)
    (tmp_path / "b" / "manifest.json").write_bytes(manifest)
    assert (
        "is not the one that manifest.json was written for" in verify_run(tmp_path / "b").edits[0]
    )


def test_a_changed_scenario_is_an_edit(tmp_path):
    (tmp_path / "scenario.yaml").write_text("name: a\n")
    _write(tmp_path)
    (tmp_path / "scenario.yaml").write_text("name: b\n")
    assert verify_run(tmp_path).edits == (
        "scenario.yaml does not have the hash it was written with",
    )
    (tmp_path / "scenario.yaml").unlink()
    assert verify_run(tmp_path).edits == ("scenario.yaml is missing",)


@pytest.mark.parametrize("verb", ["gate", "compare", "report", "score", "retry"])
def test_every_command_refuses_rows_of_another_schema_version(tmp_path, capsys, verb):
    (tmp_path / "scenario.yaml").write_text("schema: 1\n")
    _write(tmp_path)
    _rewritten(
        tmp_path / "results.parquet",
        lambda t: t.set_column(t.schema.get_field_index("schema_version"), "schema_version",
                               pa.array([9] * len(t), pa.int64())),
    )  # fmt: skip
    limits = ["--limits", str(_limits(tmp_path))] if verb == "gate" else []
    other = [str(tmp_path)] if verb == "compare" else []
    code = main([verb, str(tmp_path), *other, *limits])
    error = capsys.readouterr().err
    assert "Traceback" not in error and str(tmp_path) in error
    if verb not in ("score",):  # its scenario is read first
        assert code == 3 and "schema version [9], this program reads 1" in error


COLUMNS = ["value", "seed", "k", "status", "cell", "n", "schema_version", "kind"]
KINDS = ["drop", "text", "null", "double", "truncate", "nonsense"]


@given(column=st.sampled_from(COLUMNS), kind=st.sampled_from(KINDS), file=st.booleans(),
       cut=st.integers(0, 400))  # fmt: skip
def test_damaged_tables_are_errors_of_the_project_or_edits(
    tmp_path_factory, column, kind, file, cut
):
    folder = _write(tmp_path_factory.mktemp("run"))
    path = folder / ("samples.parquet" if file else "results.parquet")
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    if kind == "truncate":
        path.write_bytes(path.read_bytes()[:cut])
    elif kind == "double":
        _rewritten(path, lambda t: pa.concat_tables([t, t]))
    elif place < 0:
        return
    elif kind == "drop":
        pq.write_table(table.drop_columns([column]), path)
    else:
        found = {"text": "x", "null": None, "nonsense": "unheard of"}[kind]
        new = pa.array([found] * len(table), pa.string())
        pq.write_table(table.set_column(place, column, new), path)
    limits = _limits(folder)
    for read in (read_rows, read_samples, read_run, verify_run):
        try:
            read(folder)
        except HarnessError as error:
            assert str(path) in str(error)
    try:
        outcome = judge_run(folder, limits, accept_edited=True)
    except HarnessError:
        return
    assert outcome.verdict != "pass" or (kind, file) == ("double", True)
    assert kind != "double" or file or outcome.verdict == "fail"
