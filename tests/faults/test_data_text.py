"""Text that is no text, or another's: encodings, quotes, packings, and parts of one log."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import DataError
from harness.data import DatasetConfig, Interactions, read
from harness.data.remarks import remarks

LOG = "user_id,item_id,timestamp\n" + "".join(f"u,i{n},{n}\n" for n in range(4))
ATOMIC = "user_id:token\titem_id:token\ttimestamp:float\n"


def load(path: Path, **config: Any) -> Interactions:
    return read(DatasetConfig(path=str(path), **config))


def write(folder: Path, log: bytes, items: bytes | None = None) -> Path:
    (folder / "interactions.csv").write_bytes(log)
    if items is not None:
        (folder / "items.csv").write_bytes(items)
    return folder


def test_another_alphabet_is_not_taken_for_latin1(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1::1::5::1\n")
    (tmp_path / "movies.dat").write_bytes("1::红色外套::Drama\n".encode("gbk"))
    with pytest.raises(DataError, match=r"movies\.dat:1:4: byte 0xba is not utf-8"):
        load(tmp_path)
    assert load(tmp_path, encoding="gbk").titles == ["红色外套"]


def test_what_was_garbled_before_is_said(tmp_path: Path) -> None:
    garbled = "Amélie".encode().decode("cp1252")
    items = f"item_id,title\ni0,{garbled}\ni1,Amélie\ni2,Ok\ni3,\n"
    said = "; ".join(remarks(load(write(tmp_path, LOG.encode(), items.encode()))))
    assert f"1 titles look like UTF-8 read in another encoding, such as '{garbled}'" in said
    assert "1 of 4 items have no title" in said


@pytest.mark.parametrize("kind", ["reviews", "metadata"])
def test_json_lines_are_decoded_strictly(tmp_path: Path, kind: str) -> None:
    review = {"reviewerID": "U", "asin": "B1", "overall": 5.0, "unixReviewTime": 1}
    product = {"asin": "B1", "title": "X"}
    lines = {"reviews": json.dumps(review), "metadata": json.dumps(product)}
    for name, line in lines.items():
        (tmp_path / f"{name}.json").write_text(f"{line}\n")
    wrong = lines[kind].replace('"U"', '"Ü"').replace('"X"', '"Ü"')
    (tmp_path / f"{kind}.json").write_bytes(f"{lines[kind]}\n{wrong}\n".encode("latin-1"))
    with pytest.raises(DataError, match=rf"{kind}\.json:2:\d+: byte 0xdc is not utf-8"):
        load(tmp_path)
    assert load(tmp_path, encoding="latin-1").num_items == 1
    with pytest.raises(DataError, match="JSON lines in utf-16 are not read"):
        load(tmp_path, encoding="utf-16")


def test_a_quote_that_is_not_closed_swallows_no_rows(tmp_path: Path) -> None:
    write(tmp_path, LOG.encode(), b'item_id,title\ni0,"12 inch\ni1,B\ni2,C\ni3,D\n')
    with pytest.raises(DataError, match=r"items\.csv:2: a quote that opens here is not closed"):
        load(tmp_path)
    items = b'item_id,title\ni0,"two\nlines"\ni1,B "c" d\ni2,5" disk\ni3,"a, ""b"""\n'
    data = load(write(tmp_path, LOG.encode(), items))
    assert data.titles == ["two lines", 'B "c" d', '5" disk', 'a, "b"']


def test_carriage_returns_among_other_line_ends_are_counted_as_lines(tmp_path: Path) -> None:
    write(tmp_path, b"user_id,item_id,timestamp\ra,x,1\r\na,y,2\ra,z,soon\n")
    with pytest.raises(DataError, match=r"\(line 4\)"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(LOG.encode())[:-9], "damaged gzip"),
        (b"PK\x03\x04" + LOG.encode(), "a zip archive; unpack it"),
        (b"BZh9" + LOG.encode(), "bzip2"),
        (gzip.compress(LOG.encode() + b"\0"), "6: a NUL character"),
        (b"\0" * 4096, "1: a NUL character"),
    ],
    ids=["cut gzip", "zip", "bzip2", "NUL in gzip", "NUL"],
)
def test_what_is_no_text_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(write(tmp_path, content))


def test_members_of_one_gzip_file_are_one_text(tmp_path: Path) -> None:
    members = [gzip.compress(LOG[:50].encode()), gzip.compress(LOG[50:].encode())]
    (tmp_path / "interactions.csv.gz").write_bytes(b"".join(members))
    assert load(tmp_path).num_events == 4


def test_a_part_of_a_log_names_its_file_and_the_others(tmp_path: Path) -> None:
    for part, rows in (("test", "u\tc\t3\n"), ("train", "u\ta\t1\n"), ("valid", "u\tb\tsoon\n")):
        (tmp_path / f"click.{part}.inter").write_text(ATOMIC + rows)
    with pytest.raises(DataError, match=r"\(line 2 of .*click\.valid\.inter\)"):
        load(tmp_path)
    said = remarks(load(tmp_path / "click.train.inter"))
    assert "click.train.inter alone was read; beside it lie" in said[0]
    (tmp_path / "click.test.inter").write_text("user_id:token\titem_id:token\nu\tc\n")
    with pytest.raises(DataError, match=r"click\.test\.inter: no column for timestamp"):
        load(tmp_path)


@pytest.mark.parametrize("column", ["title", "description", "categories"])
def test_the_hash_is_of_content_and_not_of_files(tmp_path: Path, column: str) -> None:
    head = "item_id,title,description,categories\n"
    items = head + "".join(f"i{n},T{n},D{n},C{n}\n" for n in range(4))
    first = load(write(tmp_path, LOG.encode(), items.encode())).sha256
    changed = items.replace(f",{column[0].upper()}0", ",new")
    assert load(write(tmp_path, LOG.encode(), changed.encode())).sha256 != first
    packed = tmp_path / "elsewhere"
    packed.mkdir()
    (packed / "interactions.csv.gz").write_bytes(gzip.compress(LOG.encode()))
    (packed / "items.csv").write_bytes(items.replace(",", ";").replace("\n", "\r").encode())
    assert load(packed).sha256 == first
