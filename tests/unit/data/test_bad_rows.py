"""Rows and files that are wrong: what is said, what is dropped, what is counted."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import DataError
from harness.data import DatasetConfig, Interactions, read
from harness.data.files import read_bytes
from tests.unit.data.test_loaders import folder, histories, write

HEAD = "user_id,item_id,timestamp,rating\n"


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ("a,x,1,5\na,y,nan,5\na,z,3,5\na,x,inf,5\n", r"2 rows whose timestamp .*\(line 3, 5\)"),
        ("a,x,1,5\na,y,2,\n", r"1 row whose rating .*\(line 3\)"),
        ("a,x,1,5\na,y,soon,5\n", r"timestamp is not a finite number \(line 3\)"),
        ("a,x,1,5\na,3.0,2,5\n", r"item id .*decimal, such as '3.0' \(line 3\)"),
        ("a,x,1,5\n-1,y,2,5\n", r"user id .*negative.*'-1' \(line 3\)"),
        ("a,x,1,5\n,y,2,5\n", r"user id is missing.*\(line 3\)"),
        ("a,x,1,5\na,NaN,2,5\n", r"item id is missing.*'NaN' \(line 3\)"),
        ("a,x,1,5\na,y,2\na,z,3,5,6\n", r"2 rows with another number of fields \(line 3, 4\)"),
        ("a,x,1,5\n\n\na,y,bad,5\n", r"\(line 5\)"),
    ],
)
def test_bad_rows_name_count_and_line_and_may_be_dropped(
    tmp_path: Path, rows: str, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        folder(tmp_path, HEAD + rows)
    assert "on_bad: drop" in str(caught.value) and caught.value.exit_code == 3
    data = folder(tmp_path, HEAD + rows, on_bad="drop")
    bad = sum(1 for line in rows.splitlines() if line) - data.num_events
    assert bad >= 1 and data.report["rows_bad_dropped"] == bad
    assert histories(data)["a"][0] == "x"


def test_only_the_first_lines_are_named(tmp_path: Path) -> None:
    rows = "a,x,1,5\n" + "a,y,nan,5\n" * 100
    with pytest.raises(DataError, match=r"100 rows .*\(line 3, 4, 5, 6, 7, …\)"):
        folder(tmp_path, HEAD + rows)


def test_ids_are_text(tmp_path: Path) -> None:
    rows = f"007,{2**63},1,5\n7,{2**63},2,5\n1_000,1e5x,3,5\n"
    data = folder(tmp_path, HEAD + rows)
    assert data.users == ["007", "7", "1_000"]
    assert data.items == [str(2**63), "1e5x"]


def test_unknown_item_is_an_error_or_dropped(tmp_path: Path) -> None:
    items = "item_id,title\nx,X\n"
    with pytest.raises(DataError, match=r"1 row whose item is not in .*items.csv.gz \(line 3\)"):
        folder(tmp_path, HEAD + "a,x,1,5\na,y,2,5\n", items)
    data = folder(tmp_path, HEAD + "a,x,1,5\na,y,2,5\n", items, on_bad="drop")
    assert data.items == ["x"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("user_id,item_id,rating\n", r"only a header.*'user_id', 'item_id', 'rating'"),
        ("user_id:item_id\na:x\n", r"no column 'user_id'; columns seen: 'user_id:item_id'"),
        ("user_id,user_id\na,x\n", "stands twice"),
        ("user,item\na,x\n", r"columns seen: 'user', 'item'"),
    ],
)
def test_files_of_the_wrong_shape(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        folder(tmp_path, text)


def test_damaged_and_huge_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(b"user_id,item_id\na,x\n" * 1000)
    (tmp_path / "interactions.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged gzip"):
        read(DatasetConfig(path=str(tmp_path)))
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(b"0" * 10_000))
    assert len(read_bytes(bomb, limit=10_000)) == 10_000
    with pytest.raises(DataError, match="more than 9999 bytes"):
        read_bytes(bomb, limit=9_999)


def test_bom_and_crlf_are_accepted_and_utf16_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "interactions.csv"
    path.write_bytes(b"\xef\xbb\xbfuser_id,item_id\r\na,x\r\na,y\r\n")
    assert histories(read(DatasetConfig(path=str(tmp_path)))) == {"a": ["x", "y"]}
    path.write_bytes("user_id,item_id\na,x\n".encode("utf-16"))
    with pytest.raises(DataError, match="UTF-16"):
        read(DatasetConfig(path=str(tmp_path)))


def test_duplicates_are_kept_or_merged_as_declared(tmp_path: Path) -> None:
    rows = HEAD + "a,x,1,5\na,y,1,4\na,x,1,3\na,x,2,5\n"
    kept = folder(tmp_path, rows)
    assert histories(kept) == {"a": ["x", "y", "x", "x"]}
    assert kept.report["duplicate_rows"] == 1 and kept.report["duplicate_rows_merged"] == 0
    merged = folder(tmp_path, rows, duplicates="merge")
    assert histories(merged) == {"a": ["x", "y", "x"]}
    assert merged.ratings is not None and merged.ratings[0].tolist() == [5, 4, 5]
    assert merged.report["duplicate_rows_merged"] == 1
    untimed = "user_id,item_id\na,x\na,x\na,y\na,x\nb,x\n"
    assert histories(folder(tmp_path, untimed, duplicates="merge"))["a"] == ["x", "y", "x"]


def test_milliseconds_among_seconds_are_warned_of(tmp_path: Path) -> None:
    mixed = folder(tmp_path, HEAD + "a,x,1300000000,5\na,y,1300000000000,5\na,z,-5,5\n")
    assert "1 times look like milliseconds and 2 like seconds" in str(mixed.report["warning_times"])
    assert mixed.report["times_before_1970_or_after_2100"] == 1
    assert histories(mixed) == {"a": ["z", "x", "y"]}
    clean = folder(tmp_path, HEAD + "a,x,1300000000,5\na,y,1400000000,5\n")
    assert "warning_times" not in clean.report


def both_forms(tmp_path: Path, **config: Any) -> Interactions:
    return folder(
        tmp_path,
        HEAD + "a,cafe\u0301,1,5\nb,caf\u00e9,2,5\n",
        "item_id,title\ncaf\u00e9,  Ame\u0301lie\t\u200fRTL \U0001f600 <img src=x>\n",
        **config,
    )


def test_unicode_forms_compare_equal(tmp_path: Path) -> None:
    data = both_forms(tmp_path)
    assert data.items == ["caf\u00e9"]
    assert data.titles == ["Am\u00e9lie \u200fRTL \U0001f600 <img src=x>"]
    assert data.report["ids_merged_by_normalisation"] == 1


def test_invalid_bytes_are_an_error_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "interactions.csv"
    path.write_bytes(b"user_id,item_id\na,x\xff\na,y\n")
    with pytest.raises(DataError, match=rf"{path}:2:4: byte 0xff is not utf-8; .* encoding:"):
        read(DatasetConfig(path=str(tmp_path)))
    data = read(DatasetConfig(path=str(tmp_path), encoding="latin-1"))
    assert data.items == ["x\xff", "y"]


def test_long_titles_are_cut_and_counted(tmp_path: Path) -> None:
    data = folder(tmp_path, HEAD + "a,x,1,5\n", f"item_id,title\nx,{'t' * 3_000_000}\n")
    assert len(data.titles[0]) == 1000
    assert data.report["titles_shortened"] == 1


def test_two_items_with_one_title_stay_two(tmp_path: Path) -> None:
    data = folder(tmp_path, HEAD + "a,x,1,5\na,y,2,5\n", "item_id,title\nx,Same\ny,Same\n")
    assert data.num_items == 2 and data.report["items_sharing_a_title"] == 2


@pytest.mark.parametrize("rows", ["a,x,1,5\n", "a,x,1,5\na,x,2,5\n", "a,x,1,5\nb,x,1,5\n"])
def test_degenerate_sets_load(tmp_path: Path, rows: str) -> None:
    data = folder(tmp_path, HEAD + rows)
    assert data.num_items == 1


def test_every_row_bad(tmp_path: Path) -> None:
    write(tmp_path / "interactions.csv.gz", HEAD + "a,x,nan,1\n")
    with pytest.raises(DataError, match="no good row is left of 1"):
        read(DatasetConfig(path=str(tmp_path), on_bad="drop"))


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_header_alone_is_said_with_or_without_a_line_end(tmp_path: Path, end: str) -> None:
    with pytest.raises(DataError, match=r"only a header, no rows; columns seen: 'user_id'"):
        folder(tmp_path, f"user_id,item_id{end}")
