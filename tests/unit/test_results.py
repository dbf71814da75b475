import json
import math
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from harness import results, verifying
from harness.core.errors import DataError
from harness.results import Row, SampleBlock


def row(**changes):
    plain = {
        "run": "r", "cell": "c1", "system": "LUMOS", "metric": "hr", "side": "utility",
        "better": "higher", "k": 10, "protocol": "full", "value": 0.25, "low": 0.2, "high": 0.3,
        "n": 400,
    }  # fmt: skip
    return Row(**(plain | changes))


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [row(), row(seed=2**62, value=math.nan, n=0, reason="nobody eligible", epsilon=math.inf)]
    results.write_results(tmp_path, rows)
    frame = results.read_results(tmp_path)
    assert list(frame.columns) == list(results.COLUMNS) and len(frame) == 2
    for name in results.COLUMNS:
        for original, stored in zip(rows, frame[name], strict=True):
            value = getattr(original, name)
            assert stored == value or (math.isnan(stored) and math.isnan(value)), name


def test_json_is_strict_and_says_why_a_value_is_null(tmp_path):
    rows = [row(value=math.nan, low=math.nan, n=1, reason="no valid answer", epsilon=math.inf)]
    results.write_results(tmp_path, rows)

    def refuse(text):
        raise AssertionError(f"not JSON: {text}")

    text = (tmp_path / "results.json").read_text()
    record = json.loads(text, parse_constant=refuse)["rows"][0]
    assert record["value"] is None and record["epsilon"] is None and record["high"] == 0.3
    assert record["null_because"]["value"] == "no valid answer"
    assert record["null_because"]["epsilon"] == "infinite"
    assert json.loads(text)["schema_version"] == results.SCHEMA_VERSION


def test_samples_keep_units_and_values(tmp_path):
    blocks = [
        SampleBlock(cell="a", metric="hr", k=10, protocol="full", units=np.array([4, 7]),
                    values=np.array([1.0, np.nan])),
        SampleBlock(cell="b", metric="auc", attack="rows", units=np.array([4]),
                    values=np.array([0.75])),
    ]  # fmt: skip
    results.write_results(tmp_path, [row()], blocks)
    frame = results.read_samples(tmp_path)
    assert frame["unit"].tolist() == [4, 7, 4] and frame["value"].dtype == np.float32
    assert frame["cell"].tolist() == ["a", "a", "b"] and math.isnan(frame["value"][1])
    assert frame["attack"].tolist() == ["none", "none", "rows"]
    assert results.read_samples(tmp_path / "elsewhere").empty


def test_same_rows_same_bytes(tmp_path):
    for name in ("one", "two"):
        results.write_results(tmp_path / name, [row(), row(seed=1)])
    for file in ("results.parquet", "results.json", "samples.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "skipped"}, "needs a reason"),
        ({"status": "done"}, "status must be one of"),
        ({"better": "up"}, "better must be one of"),
        ({"value": math.inf}, "infinite"),
    ],
)
def test_impossible_rows_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        row(**changes)


def test_edits_by_hand_are_seen(tmp_path):
    results.write_results(tmp_path, [row()])
    assert verifying.verify_results(tmp_path) == ()
    path = tmp_path / "results.json"
    path.write_text(path.read_text().replace('"value": 0.25', '"value": 0.95'))
    assert "results.json differs" in verifying.verify_results(tmp_path)[0]
    path = tmp_path / "results.parquet"
    table = pq.read_table(path)
    index = table.schema.get_field_index("value")
    edited = table.set_column(index, "value", [[0.95]])
    pq.write_table(edited.replace_schema_metadata(table.schema.metadata), path)
    assert "results.parquet does not have the hash" in verifying.verify_results(tmp_path)[0]


def test_another_layout_of_the_same_rows_is_no_edit(tmp_path):
    results.write_results(tmp_path, [row(), row(seed=1, value=math.nan, n=0, reason="nobody")])
    path = tmp_path / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4))
    path = tmp_path / "results.parquet"
    table = pq.read_table(path)
    stored = {k: v for k, v in table.schema.metadata.items() if k != b"table_sha256"}
    pq.write_table(table.replace_schema_metadata(stored), path, row_group_size=1)
    assert verifying.verify_results(tmp_path) == ()


def test_untouched_files_are_recognised_without_parsing_them(tmp_path, monkeypatch):
    results.write_results(tmp_path, [row(), row(seed=1)])
    monkeypatch.setattr(verifying, "rows_digest", None)
    monkeypatch.setattr(verifying, "holds_rows", None)
    assert verifying.verify_results(tmp_path) == ()


def test_samples_come_in_batches_and_lacking_columns_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "_BATCH", 2)
    block = SampleBlock(cell="a", metric="hr", units=np.arange(5), values=np.arange(5.0))
    results.write_results(tmp_path, [row()], [block])
    batches = list(results.sample_batches(tmp_path))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert [v for b in batches for v in b["value"].to_pylist()] == [0, 1, 2, 3, 4]
    assert list(results.sample_batches(tmp_path / "elsewhere")) == []
    table = pq.read_table(tmp_path / "samples.parquet")
    pq.write_table(table.drop_columns(["unit", "k"]), tmp_path / "samples.parquet")
    with pytest.raises(DataError, match=r"samples.parquet: columns missing: k, unit"):
        list(results.sample_batches(tmp_path))


def test_what_cannot_be_read_is_a_clear_error(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        results.read_results(tmp_path)
    (tmp_path / "results.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        results.read_results(tmp_path)
    results.write_results(tmp_path, [row(schema_version=99)])
    with pytest.raises(DataError, match="schema version"):
        results.read_results(tmp_path)


def test_a_lone_surrogate_in_a_label_does_not_stop_the_writing(tmp_path):
    results.write_results(tmp_path, [row(system="caf\udce9")])
    assert results.read_results(tmp_path)["system"][0] == "caf?"


def test_reading_results_needs_no_torch():
    code = "import harness.results, reports.html, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
