"""Files of data as people have them: encodings, line ends, packing, splits, and what is said."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from harness.core.errors import DataError, ScenarioError
from harness.core.registry import SYSTEMS
from harness.data import DatasetConfig, Interactions, read
from harness.data.remarks import remarks
from harness.plan import expand
from harness.plugins import load_plugins
from harness.prepared import check_against_data, require_texts
from harness.scenario import load

LOG = "user_id,item_id,timestamp\n" + "".join(
    f"u{u},i{(u + t) % 9},{1_600_000_000 + u * 100 + t}\n" for u in range(6) for t in range(6)
)
NAMES = ["红色外套", "蓝色毛衣", "Amélie", "Ærø"]
ITEMS = "item_id,title\n" + "".join(f"i{i},{NAMES[i % 4]} {i}\n" for i in range(9))


def folder(place: Path, log: bytes = LOG.encode(), items: bytes | None = ITEMS.encode()) -> Path:
    place.mkdir(exist_ok=True)
    (place / "interactions.csv").write_bytes(log)
    if items is not None:
        (place / "items.csv").write_bytes(items)
    return place


def of(path: Path, **config: object) -> Interactions:
    return read(DatasetConfig.model_validate({"path": str(path), **config}))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk"])
def test_titles_are_the_same_in_every_encoding_that_is_named(tmp_path: Path, encoding: str) -> None:
    items = ITEMS.replace("Amélie", "A").replace("Ærø", "B")
    whole = of(folder(tmp_path / "utf8", items=items.encode()))
    given = {} if encoding.startswith("utf-8") else {"encoding": encoding}
    log = LOG.encode(encoding) if given else LOG.encode()
    other = of(folder(tmp_path / "other", log, items.encode(encoding)), **given)
    assert other.titles == whole.titles and "红色外套 0" in other.titles
    assert other.sha256 == whole.sha256


@pytest.mark.parametrize("encoding", ["gbk", "latin-1"])
def test_an_encoding_that_is_not_named_is_an_error_with_its_place(
    tmp_path: Path, encoding: str
) -> None:
    title = "Amélie" if encoding == "latin-1" else "红色外套"
    items = f"item_id,title\ni0,plain\ni1,{title}\n".encode(encoding)
    place = folder(tmp_path / "data", items=items)
    with pytest.raises(DataError, match=r"items.csv:3:\d+: byte 0x.. is not utf-8; .*encoding:"):
        of(place)


def test_grouplens_titles_are_read_in_both_encodings(tmp_path: Path) -> None:
    row = "1|Amélie (2001)|01-Jan-2001||url|" + "|".join("0" * 19) + "\n"
    log = "".join(f"{u}\t1\t5\t{t}\n" for u in range(3) for t in range(4))
    titles: list[str] = []
    for encoding in ("utf-8", "latin-1"):
        place = tmp_path / encoding
        place.mkdir()
        (place / "u.data").write_text(log)
        (place / "u.item").write_bytes(row.encode(encoding))
        data = of(place)
        titles += data.titles
        assert any("latin-1" in said for said in remarks(data)) == (encoding == "latin-1")
    assert titles == ["Amélie (2001)"] * 2


def test_no_text_encoding_of_that_name(tmp_path: Path) -> None:
    for name in ("base64", "nonsense"):
        with pytest.raises(ValueError, match="no text encoding is called"):
            DatasetConfig(path=str(tmp_path), encoding=name)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("before", ["", "\n\n"])
def test_line_ends_delimiters_and_blank_lines_change_nothing(
    tmp_path: Path, end: str, delimiter: str, before: str
) -> None:
    whole = of(folder(tmp_path / "plain"))
    text = before + LOG.replace(",", delimiter).replace("\n", end)
    other = of(folder(tmp_path / "other", text.encode()))
    assert other.sha256 == whole.sha256


def test_a_bad_row_is_named_by_its_line_after_blank_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 5\b"):
        of(folder(tmp_path / "data", b"\n\nuser_id,item_id,timestamp\na,i1,1\na,i2,x\n", None))


def test_a_stale_copy_beside_a_file_is_an_error(tmp_path: Path) -> None:
    place = folder(tmp_path / "data")
    (place / "interactions.csv.gz").write_bytes(gzip.compress(LOG.encode()))
    assert of(place).num_users == 6
    (place / "interactions.csv.gz").write_bytes(gzip.compress(LOG.encode()[:200]))
    with pytest.raises(DataError, match="are both there and differ"):
        of(place)


def test_what_was_packed_twice_is_unpacked_twice(tmp_path: Path) -> None:
    whole = of(folder(tmp_path / "plain"))
    place = folder(tmp_path / "packed")
    (place / "items.csv").write_bytes(gzip.compress(gzip.compress(ITEMS.encode())))
    assert of(place).sha256 == whole.sha256


def atomic(place: Path, *parts: str) -> Path:
    place.mkdir(exist_ok=True)
    head, *rows = LOG.replace(",", "\t").splitlines()
    head = "user_id:token\titem_id:token\ttimestamp:float"
    for index, part in enumerate(parts):
        own = rows[index :: len(parts)]
        (place / f"click{part}.inter").write_text("\n".join([head, *own]) + "\n")
    (place / "click.item").write_text(
        "item_id:token\ttitle:token_seq\n" + "".join(f"i{i}\tThing {i}\n" for i in range(9))
    )
    return place


def test_recbole_split_files_are_one_log(tmp_path: Path) -> None:
    whole = of(atomic(tmp_path / "whole", ""))
    split = of(atomic(tmp_path / "split", ".train", ".valid", ".test"))
    assert split.num_events == whole.num_events == 36
    assert sorted(split.users) == sorted(whole.users)
    assert "3 files of a log that was split beforehand were joined" in remarks(split)
    one = of(tmp_path / "split" / "click.train.inter")
    assert one.num_events == 12
    assert one.titles[0] == "Thing 0"


def test_recbole_two_logs_in_one_folder_are_told_apart_by_path(tmp_path: Path) -> None:
    place = atomic(tmp_path / "two", "", "2")
    with pytest.raises(DataError, match=r"found click.inter, click2.inter; name one in path:"):
        of(place)
    assert of(place / "click2.inter").num_events == 18


def review(user: int, time: int, year: int) -> str:
    if year == 2023:
        row = {"user_id": f"A{user}", "parent_asin": f"B{time % 7}", "asin": "X", "rating": 5.0}
        return json.dumps({**row, "timestamp": 1_600_000_000_000 + time})
    row = {"reviewerID": f"A{user}", "asin": f"B{time % 7}", "overall": 5.0}
    return json.dumps({**row, "unixReviewTime": 1_400_000_000 + time})


@pytest.mark.parametrize("year", [2018, 2023])
def test_a_folder_of_amazon_json_lines(tmp_path: Path, year: int) -> None:
    lines = [review(u, u + t, year) for u in range(5) for t in range(5)]
    (tmp_path / "reviews_Sports.json").write_text("\n".join(lines) + "\n")
    key = "parent_asin" if year == 2023 else "asin"
    meta = "".join(json.dumps({key: f"B{i}", "title": f"Ball {i}"}) + "\n" for i in range(9))
    (tmp_path / "meta_Sports.json.gz").write_bytes(gzip.compress(gzip.compress(meta.encode())))
    data = of(tmp_path)
    assert (data.num_users, data.num_events) == (5, 25)
    assert all(title.startswith("Ball") for title in data.titles)


def test_a_json_line_cut_in_half_is_named(tmp_path: Path) -> None:
    lines = [review(u, u + t, 2018) for u in range(5) for t in range(5)]
    lines[3] = lines[3][:20]
    (tmp_path / "reviews.json").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"line 4\b"):
        of(tmp_path)
    kept = of(tmp_path, on_bad="drop")
    assert kept.num_events == 24
    assert any(said.startswith("1 rows of 25 were wrong") for said in remarks(kept))


def test_a_folder_of_something_else_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(DataError, match=r"NAME.inter, .*JSON lines; .*photo.jpg"):
        of(tmp_path)
    with pytest.raises(DataError, match="no known data format"):
        of(tmp_path / "photo.jpg")
    with pytest.raises(DataError, match="no such folder or file of data"):
        of(tmp_path / "missing")


def test_mixed_units_and_dropped_rows_are_said(tmp_path: Path) -> None:
    rows = LOG.splitlines()
    rows[1:9] = [row + "000" for row in rows[1:9]]
    rows[20] = "u3,,1600000000"
    data = of(folder(tmp_path / "data", ("\n".join(rows) + "\n").encode()), on_bad="drop")
    said = "; ".join(remarks(data))
    assert "8 times look like milliseconds and 27 like seconds" in said
    assert "1 rows of 36 were wrong and left out" in said


def test_nothing_is_said_of_data_without_anything_to_say(tmp_path: Path) -> None:
    assert remarks(of(folder(tmp_path / "data"))) == ()


SCENARIO = """schema: 1
name: s
seeds: [0]
datasets: {{mine: {{path: {path}}}}}
systems:
  lumos: {{use: lumos, dataset: mine, future: {views}, rephrased: false, counterfactual: false}}
evaluation: {{k: [5], candidates: {candidates}}}
"""


def cell_of(tmp_path: Path, path: Path, views: str = "false", candidates: int = 5) -> object:
    file = tmp_path / "s.yaml"
    file.write_text(SCENARIO.format(path=path, views=views, candidates=candidates))
    cells = expand(load(file)).cells
    return next(cell for cell in cells if cell.system.label == "lumos")


def test_items_are_counted_for_candidates_not_events(tmp_path: Path) -> None:
    log = "user_id,item_id,timestamp\n" + "".join(
        f"u{u},i{(u + t % 10) % 60},{t}\n" for u in range(60) for t in range(100)
    )
    place = folder(tmp_path / "songs", log.encode(), None)
    check_against_data(cell_of(tmp_path, place, candidates=51))  # type: ignore[arg-type]
    with pytest.raises(ScenarioError, match="60 items for a user who has had 10 of them"):
        check_against_data(cell_of(tmp_path, place, candidates=52))  # type: ignore[arg-type]


def test_a_system_that_reads_texts_is_not_run_without_any(tmp_path: Path) -> None:
    place = folder(tmp_path / "data", items=None)
    check_against_data(cell_of(tmp_path, place, candidates=4))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"lumos reads the texts of items, and 9 of the 9 items"):
        check_against_data(cell_of(tmp_path, place, "true", 4))  # type: ignore[arg-type]


def test_which_systems_read_texts() -> None:
    load_plugins()
    reading = {name for name, plugin in SYSTEMS if plugin().reads_text()}
    assert reading == {"lumos", "sf_ubm"}
    require_texts(SYSTEMS.get("popularity")(), (), "popularity")


def test_shared_texts_are_said(tmp_path: Path) -> None:
    items = "item_id,title\n" + "".join(f"i{i},Same title\n" for i in range(9))
    said = "; ".join(remarks(of(folder(tmp_path / "data", items=items.encode()))))
    assert "9 of 9 items share their text with another" in said
