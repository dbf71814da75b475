"""Every file format, from tiny files whose right answer is written out by hand."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.errors import DataError
from harness.data import DatasetConfig, Interactions, load, read
from harness.data.movielens import MOVIELENS_GENRES


def write(path: Path, text: str, encoding: str = "utf-8") -> None:
    data = text.encode(encoding, "surrogatepass") if encoding == "utf-8" else text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def histories(data: Interactions) -> dict[str, list[str]]:
    """Sequences in the file's own ids."""
    return {
        user: [data.items[i] for i in sequence.tolist()]
        for user, sequence in zip(data.users, data.sequences, strict=True)
    }


def folder(tmp_path: Path, log: str, items: str | None = None, **config: Any) -> Interactions:
    write(tmp_path / "interactions.csv.gz", log)
    if items is not None:
        write(tmp_path / "items.csv.gz", items)
    return read(DatasetConfig(path=str(tmp_path), **config))


def test_folder_sorts_by_time_and_keeps_file_order_in_ties(tmp_path: Path) -> None:
    data = folder(
        tmp_path,
        "user_id,item_id,timestamp,rating\n"
        "b,003,30,1\na,y,20,5\na,x,10,4\nb,3,10,2\na,z,20,3\nb,x,10,1\n",
        'item_id,title,year,categories\nx,The X,1999,A > B\n3,Three,,A\n003,"Three, again",2001,\n'
        "y,Y,1980,C\nz,Z,,\nunused,U,,\n",
    )
    assert histories(data) == {"b": ["3", "x", "003"], "a": ["x", "y", "z"]}
    assert data.items == ["x", "3", "003", "y", "z"]
    assert data.titles == ["The X (1999)", "Three", "Three, again (2001)", "Y (1980)", "Z"]
    assert data.item_attributes is not None and data.item_attributes[0] == ("A", "B")
    assert data.item_text is not None and data.item_text[0] == "The X (1999). A, B"
    assert data.timestamps is not None and data.timestamps[1].tolist() == [10, 20, 20]
    assert data.ratings is not None and data.ratings[1].tolist() == [4, 5, 3]
    assert data.report["rows_read"] == 6
    assert data.report["items_listed_without_events"] == 1
    assert data.report["rows_out_of_order_sorted"] == 2
    assert not data.sequences[0].flags.writeable


def test_order_column_breaks_ties_and_stands_in_for_time(tmp_path: Path) -> None:
    with_both = "user_id,item_id,timestamp,order\na,x,5,2\na,y,5,1\na,z,1,9\n"
    assert histories(folder(tmp_path, with_both)) == {"a": ["z", "y", "x"]}
    alone = "user_id,item_id,order\na,x,2\na,y,0\na,z,1\n"
    assert histories(folder(tmp_path, alone)) == {"a": ["y", "z", "x"]}
    neither = "user_id,item_id\na,x\na,y\n"
    assert histories(folder(tmp_path, neither)) == {"a": ["x", "y"]}


ATOMIC_LOG = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\r\n"
    'u1\tIt\'s a "Test" (1999)\t5\t20\r\nu1\tB (2000)\t3\t10\r\nu2\tB (2000)\t4\t5\r\n'
)


def test_recbole_atomic_files(tmp_path: Path) -> None:
    write(tmp_path / "some.inter", ATOMIC_LOG)
    write(
        tmp_path / "some.item",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\r\n"
        "B (2000)\tB\t2000\tComedy Film-Noir\r\n"
        'It\'s a "Test" (1999)\tIt\'s a "Test"\t1999\tDrama\r\n',
    )
    write(tmp_path / "some.user", "user_id:token\tage:float\tzip_code:token\r\nu1\t1\t02460\r\n")
    data = read(DatasetConfig(path=str(tmp_path)))
    assert data.name == "some"
    assert histories(data)["u1"] == ["B (2000)", 'It\'s a "Test" (1999)']
    assert data.titles == ["B (2000)", 'It\'s a "Test" (1999)']
    assert data.item_attributes == [("Comedy", "Film-Noir"), ("Drama",)]
    assert data.user_attributes is not None
    assert data.user_attributes["zip_code"].tolist() == ["02460", ""]
    assert data.report["users_without_attributes"] == 1


def test_recbole_other_field_names(tmp_path: Path) -> None:
    write(tmp_path / "s.inter", "session:token\tproduct:token\ttime:float\n1\tb\t2\n1\ta\t1\n")
    options = {"path": str(tmp_path), "user_field": "session", "item_field": "product"}
    config = DatasetConfig(use="recbole", options={**options, "time_field": "time"})
    assert histories(read(config)) == {"1": ["a", "b"]}


def test_grouplens_100k(tmp_path: Path) -> None:
    write(tmp_path / "u.data", "1\t10\t3\t200\n1\t9\t4\t100\n2\t9\t1\t50\n")
    flags = ["1" if genre in ("Comedy", "Drama") else "0" for genre in MOVIELENS_GENRES]
    row = "Amélie (2001)|01-Jan-2001||http://x|" + "|".join(flags)
    other = "Heat (1995)|01-Jan-1995||http://y|" + "|".join(["0"] * 19)
    write(tmp_path / "u.item", f"9|{row}\n10|{other}\n", "latin-1")
    write(tmp_path / "u.user", "1|24|M|technician|85711\n2|53|F|other|94043\n")
    data = read(DatasetConfig(path=str(tmp_path)))
    assert histories(data) == {"1": ["9", "10"], "2": ["9"]}
    assert data.titles == ["Amélie (2001)", "Heat (1995)"]
    assert data.item_attributes == [("Comedy", "Drama"), ()]
    assert data.user_attributes is not None and data.user_attributes["gender"].tolist() == [
        "M",
        "F",
    ]


def test_grouplens_1m(tmp_path: Path) -> None:
    write(tmp_path / "ratings.dat", "1::2::5::9\n1::1::5::8\n")
    write(
        tmp_path / "movies.dat",
        "1::Les Misérables (1995)::Drama|Musical\n2::B: x&#8230; (1990)::War\n",
        "latin-1",
    )
    write(tmp_path / "users.dat", "1::F::1::10::48067\n")
    data = read(DatasetConfig(use="ml-1m", options={"path": str(tmp_path)}))
    assert histories(data) == {"1": ["1", "2"]}
    assert data.titles == ["Les Misérables (1995)", "B: x… (1990)"]
    assert data.item_attributes == [("Drama", "Musical"), ("War",)]
    assert data.user_attributes is not None and data.user_attributes["age"].tolist() == ["1"]


def review(user: Any, item: Any, time: Any, **more: Any) -> str:
    return json.dumps(
        {"reviewerID": user, "asin": item, "overall": 5.0, "unixReviewTime": time, **more}
    )


META_2014 = [
    {"asin": "B1", "title": "Soap &amp; 'Co'", "categories": [["Beauty", "Bath"], ["Gifts"]]},
    {"asin": "B9", "title": "not reviewed"},
    {"asin": "B2", "description": "It's a brush", "brand": "Acme"},
]
META_2018 = [
    {"asin": "B1", "title": "Soap &amp; 'Co'", "category": ["Beauty", "Bath"]},
    {"asin": "B2", "title": "var aPageStart = (new Date()).getTime();", "brand": "Acme",
     "description": ["It's a brush"]},
]  # fmt: skip


@pytest.mark.parametrize("literal", [True, False])
@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_amazon(tmp_path: Path, literal: bool, suffix: str) -> None:
    rows = [review("U", "B2", 20, reviewText="é"), review("U", "B1", 10), review("V", "B3", 5)]
    write(tmp_path / f"r{suffix}", "\n".join(rows) + "\n")
    meta = [repr(m) for m in META_2014] if literal else [json.dumps(m) for m in META_2018]
    write(tmp_path / f"m{suffix}", "\n".join(meta))
    options = {"reviews": str(tmp_path / f"r{suffix}"), "metadata": str(tmp_path / f"m{suffix}")}
    data = read(DatasetConfig(use="amazon", options=options))
    assert histories(data) == {"U": ["B1", "B2"], "V": ["B3"]}
    assert data.titles == ["Soap & 'Co'", "", ""]
    assert data.item_attributes is not None and data.item_attributes[0] == ("Beauty", "Bath")
    assert data.item_text is not None and data.item_text[1] == "Acme. It's a brush"
    assert data.report["items_without_title"] == 2
    assert data.report["titles_that_were_page_code"] == (0 if literal else 1)


def test_amazon_metadata_is_never_run(tmp_path: Path) -> None:
    write(tmp_path / "r.json", review("U", "B1", 1))
    target = tmp_path / "ran"
    write(tmp_path / "m.json", f"{{'asin': 'B1', 'title': open({str(target)!r}, 'w')}}\n")
    options = {"reviews": str(tmp_path / "r.json"), "metadata": str(tmp_path / "m.json")}
    data = read(DatasetConfig(use="amazon", options=options))
    assert not target.exists()
    assert data.report["metadata_lines_unreadable"] == 1


def test_amazon_bad_lines_are_named_whichever_parser_met_them(tmp_path: Path) -> None:
    rows = [review("U", "B1", 1), "", "{broken", review("U", "B2", None), review(7, "B2", 3),
            review("U", "B3", "4"), review("\ud800V", "B3", 5)]  # fmt: skip
    write(tmp_path / "r.json", "\n".join(rows))
    config = {"use": "amazon", "options": {"reviews": str(tmp_path / "r.json")}}
    with pytest.raises(DataError, match=r"2 rows .*\(line 3, 5\).*timestamp.*\(line 4\)"):
        read(DatasetConfig.model_validate(config))
    data = read(DatasetConfig.model_validate({**config, "on_bad": "drop"}))
    assert histories(data) == {"U": ["B1", "B3"], "\ufffdV": ["B3"]}
    assert data.report["rows_bad_dropped"] == 3


def test_amazon_both_parsers_agree(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        review(f"U{rng.integers(9)}", f"B{rng.integers(20)}", int(rng.integers(1000)))
        for _ in range(300)
    ]
    write(tmp_path / "fast.json", "\n".join(rows) + "\n")
    # A number in quotes is beyond the fast parser and is read all the same.
    slow = [row.replace('"overall": 5.0', '"overall": "5.0"') for row in rows]
    write(tmp_path / "slow.json", "\n".join(slow) + "\n")
    one, two = (
        read(DatasetConfig(use="amazon", options={"reviews": str(tmp_path / f"{name}.json")}))
        for name in ("fast", "slow")
    )
    assert one.sha256 == two.sha256


def test_synthetic_is_the_same_each_time_and_says_what_it_is() -> None:
    config = DatasetConfig(use="synthetic", options={"num_users": 30, "seed": 3})
    one, two = load(config, 0), load(config, 1)
    assert one.sha256 == two.sha256
    other = DatasetConfig(use="synthetic", options={"num_users": 30, "seed": 4})
    assert load(other, 0).sha256 != one.sha256
    assert "tests only" in str(one.report["synthetic"])
    assert len(set(one.titles)) == one.num_items


def test_synthetic_order_carries_information() -> None:
    data = load(DatasetConfig(use="synthetic", options={"num_users": 200}), 0)
    walks = [[int(data.items[i][1:]) for i in sequence] for sequence in data.sequences]
    pairs = [pair for walk in walks for pair in itertools.pairwise(walk)]
    steps = np.array(pairs).T
    same = float((steps[0] % 8 == steps[1] % 8).mean())
    successor = float(((steps[0] + 8) % 80 == steps[1]).mean())
    # Closed forms: stay + jump back = 0.8 + 0.2 / 8; successor: 0.8 (0.7 + 0.3 / 10) + 0.2 / 80.
    assert abs(same - 0.825) < 0.03
    assert abs(successor - 0.5865) < 0.03


@pytest.mark.parametrize("name", ["folder", "recbole", "grouplens"])
def test_missing_files_are_a_data_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError):
        read(DatasetConfig(use=name, options={"path": str(tmp_path)}))
    (tmp_path / "readme.txt").touch()
    with pytest.raises(DataError, match=r"no known data format.*readme\.txt"):
        read(DatasetConfig(path=str(tmp_path)))
    with pytest.raises(DataError, match="no such folder"):
        read(DatasetConfig(path=str(tmp_path / "absent")))
