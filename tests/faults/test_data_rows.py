"""Rows 26 to 42 of the table of faults: what is wrong in data, and what is said of it."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cells import canonical
from harness.core.errors import DataError, ScenarioError
from harness.data import DatasetConfig, Interactions, leave_one_out, load, read
from harness.data.files import MAX_RATIO, check_ratio
from harness.data.remarks import remarks
from harness.data.split import Split, check_leakage
from harness.plan import expand
from harness.prepared import check_against_data, prepared_data
from harness.scenario import load as load_scenario

HEAD = "user_id,item_id,timestamp,rating\n"
GOOD = "".join(f"{u},i{n},{n},5\n" for u in "ab" for n in range(4))


def folder(path: Path, log: str, items: str | None = None, **config: Any) -> Interactions:
    (path / "interactions.csv").write_text(log, encoding="utf-8")
    if items is not None:
        (path / "items.csv").write_text(items, encoding="utf-8")
    return read(DatasetConfig(path=str(path), **config))


def said(data: Interactions) -> str:
    return "; ".join(remarks(data))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", ""])
def test_row_26_numbers_that_are_not_finite(tmp_path: Path, value: str) -> None:
    rows = HEAD + GOOD + f"a,i1,{value},5\n"
    with pytest.raises(DataError, match=r"1 row whose timestamp is not a finite number \(line 10"):
        folder(tmp_path, rows)
    assert "1 rows of 9 were wrong and left out (on_bad: drop)" in said(
        folder(tmp_path, rows, on_bad="drop")
    )


def test_row_27_users_with_too_few_events_are_counted(tmp_path: Path) -> None:
    folder(tmp_path, HEAD + GOOD + "c,i0,1,5\nd,i0,1,5\nd,i1,2,5\n")
    data = load(DatasetConfig(path=str(tmp_path)), 0)
    assert data.users == ["a", "b"] and "min_length left out 2 users, 3 events" in said(data)
    folder(tmp_path, HEAD + "c,i0,1,5\n")
    with pytest.raises(DataError, match="no event is left after min_length"):
        load(DatasetConfig(path=str(tmp_path)), 0)


def test_row_27_every_rule_counts_what_it_leaves_out(tmp_path: Path) -> None:
    rows = HEAD + GOOD.replace("b,i3,3,5", "b,rare,3,5") + "b,i2,9,1\nb,i1,10,5\n"
    folder(tmp_path, rows)
    config = DatasetConfig(path=str(tmp_path), min_rating=2, k_core=2, max_users=1, keep_last=3)
    words = said(load(config, 0))
    for rule in (
        "min_rating left out 1 events",
        "k_core left",
        "max_users left out 1 users",
        "keep_last left",
    ):
        assert rule in words


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "empty"), (HEAD, "only a header.*'user_id'"), ("user#item\na#x\n", "'user#item'")],
)
def test_row_28_empty_header_only_wrong_delimiter(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        folder(tmp_path, text)


def test_row_29_unknown_and_cold_items(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"items? is not in .*items\.csv \(line 5, 9\)"):
        folder(tmp_path, HEAD + GOOD, "item_id,title\ni0,A\ni1,B\ni2,C\n")
    (tmp_path / "items.csv").unlink()
    data = folder(tmp_path, HEAD + GOOD.replace("a,i3", "a,cold"))
    assert "2 users are tested on an item that is in no training history" in said(data)


@pytest.mark.parametrize("item", ["-1", "3.0", "nan", "", "None"])
def test_row_30_ids_that_a_table_program_made(tmp_path: Path, item: str) -> None:
    with pytest.raises(DataError, match=r"item id is missing, negative or decimal.*\(line 10\)"):
        folder(tmp_path, HEAD + GOOD + f"a,{item},9,5\n")


def test_row_30_ids_stay_text(tmp_path: Path) -> None:
    data = folder(tmp_path, HEAD + f"a,003,1,5\na,3,2,5\na,{2**63},3,5\n")
    assert data.items == ["003", "3", str(2**63)]


def test_row_31_equal_times_keep_the_order_of_the_file(tmp_path: Path) -> None:
    data = folder(tmp_path, HEAD + "a,z,1,5\na,y,1,5\na,x,0,5\n")
    assert [data.items[i] for i in data.sequences[0]] == ["x", "z", "y"]


def test_row_32_times_of_two_units_or_of_no_plausible_year(tmp_path: Path) -> None:
    rows = "a,x,1600000000,5\na,y,1600000001000,5\na,z,-5,5\na,w,99999999999,5\n"
    words = said(folder(tmp_path, HEAD + rows))
    assert "1 times look like milliseconds and 3 like seconds" in words
    assert "2 times lie before 1970 or after 2100" in words


def test_row_33_doubled_events(tmp_path: Path) -> None:
    rows = HEAD + GOOD + "a,i0,0,5\n"
    assert "1 events have the user, item and time of an earlier one; kept" in said(
        folder(tmp_path, rows)
    )
    assert "an earlier one; merged" in said(folder(tmp_path, rows, duplicates="merge"))


def test_row_34_a_test_event_in_training_is_found(tmp_path: Path) -> None:
    data = folder(tmp_path, HEAD + GOOD)
    right = leave_one_out(data)
    pairs = zip(right.train, right.test, strict=True)
    leaking = [np.append(history, test) for history, test in pairs]
    wrong = Split(right.users, leaking, right.validation, right.test, 0, 0)
    with pytest.raises(DataError, match=r"leakage.*first user 'a'"):
        check_leakage(data, wrong)


def test_row_35_titles_in_any_script(tmp_path: Path) -> None:
    titles = ["Ame\u0301lie", "Am\u00e9lie", "\u202eRTL", "\u200bzero", "\U0001f600"]
    log = HEAD + "".join(f"a,i{n},{n},5\n" for n in range(5))
    items = "item_id,title\n" + "".join(f"i{n},{t}\n" for n, t in enumerate(titles))
    data = folder(tmp_path, log, items)
    assert data.titles[0] == data.titles[1] and data.titles[4] == "\U0001f600"
    assert "2 of 5 items share their text" in said(data)


def test_row_38_a_title_of_ten_megabytes_and_a_user_of_a_million_events(tmp_path: Path) -> None:
    log = HEAD + "".join(f"a,i{n % 5},{n},5\n" for n in range(1_000_000))
    titles = ["t" * 10_000_000, *"TTTT"]
    items = "item_id,title\n" + "".join(f"i{n},{t}\n" for n, t in enumerate(titles))
    data = folder(tmp_path, log, items)
    assert data.num_events == 1_000_000 and len(data.titles[0]) == 1000
    assert "1 titles were shortened" in said(data)


def test_row_38_more_than_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.data.files.free_memory", lambda: 300)
    with pytest.raises(DataError, match="more than 100 bytes, refused"):
        folder(tmp_path, HEAD + GOOD)


def test_row_39_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.data.files.RATIO_FROM", 1 << 20)
    bomb = gzip.compress(HEAD.encode() + b"0" * (8 << 20))
    for name in ("interactions.csv.gz", "reviews.json.gz"):
        (tmp_path / name).write_bytes(bomb)
    with pytest.raises(DataError, match=f"more than {MAX_RATIO} times its"):
        read(DatasetConfig(use="folder", options={"path": str(tmp_path)}))
    options = {"reviews": str(tmp_path / "reviews.json.gz")}
    with pytest.raises(DataError, match=f"more than {MAX_RATIO} times its"):
        read(DatasetConfig(use="amazon", options=options))
    check_ratio(tmp_path, packed=1 << 20, size=20 << 20)


def test_row_39_devices_and_loops_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    os.symlink(tmp_path / "loop.json", tmp_path / "loop.json")
    for name in ("pipe.json", "loop.json"):
        with pytest.raises(DataError, match=name):
            read(DatasetConfig(use="amazon", options={"reviews": str(tmp_path / name)}))


def test_row_41_a_folder_that_cannot_be_written_is_enough(tmp_path: Path) -> None:
    folder(tmp_path, HEAD + GOOD)
    tmp_path.chmod(0o555)
    try:
        before = sorted(tmp_path.iterdir())
        read(DatasetConfig(path=str(tmp_path)))
        assert sorted(tmp_path.iterdir()) == before
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize(
    "rows",
    [GOOD[: len(GOOD) // 2], "".join(f"{u},x,{n},5\n" for u in "ab" for n in range(3)), GOOD],
    ids=["one user", "one item", "users identical"],
)
def test_row_42_sets_without_variety_are_prepared(tmp_path: Path, rows: str) -> None:
    folder(tmp_path, HEAD + rows)
    config = DatasetConfig(path=str(tmp_path)).model_dump(mode="json")
    prepared = prepared_data(canonical(config))
    assert len(prepared.test) == prepared.domains[0].num_users >= 1


def test_row_29_a_target_that_is_no_item_is_found_before_training(tmp_path: Path) -> None:
    items = "item_id,title\n" + "".join(f"i{n},T{n}\n" for n in range(7))
    folder(tmp_path, HEAD + GOOD + "c,i4,1,5\nc,i5,2,5\nc,i6,3,5\n", items)
    path = tmp_path / "s.yaml"
    path.write_text(
        f"""schema: 1
name: s
seeds: [0]
datasets: {{mine: {{path: {tmp_path}}}}}
systems: {{lumos: {{use: lumos, dataset: mine}}}}
clients: {{malicious: {{fraction: 0.5}}}}
attacks: {{flip: {{use: sign_flip}}}}
targets: {{choice: items, items: [T9]}}
evaluation: {{k: [1], candidates: 2}}
"""
    )
    plan = expand(load_scenario(path, ()))
    with pytest.raises(ScenarioError, match=r"targets\.items: 'T9' is not in data set"):
        check_against_data(plan.cells[0])
