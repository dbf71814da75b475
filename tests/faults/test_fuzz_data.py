"""Whatever files of data hold: they are read, or refused with a line; nothing else comes out."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.errors import HarnessError
from harness.data import DatasetConfig, load, read
from harness.data.catalogue import MOVIELENS_GENRES
from harness.data.remarks import remarks

SETTINGS = settings(
    max_examples=130,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
ROWS = [
    (f"u{u}", f"i{(u + t) % 7}", 5, 1_600_000_000 + u * 100 + t) for u in range(4) for t in range(4)
]
FLAGS = "|".join("0" for _ in MOVIELENS_GENRES)
REVIEWS = [dict(reviewerID=u, asin=i, overall=5.0, unixReviewTime=t) for u, i, _, t in ROWS]
PRODUCTS = [dict(asin=f"i{i}", title=f"Ball {i}", category=["A", "B"]) for i in range(7)]
FORMATS: dict[str, dict[str, str]] = {
    "folder": {
        "interactions.csv": "user_id,item_id,rating,timestamp\n"
        + "".join(f"{u},{i},{r},{t}\n" for u, i, r, t in ROWS),
        "items.csv": "item_id,title,year,categories,brand\n"
        + "".join(f'i{i},"Thing, {i}",1999,A|B,é\n' for i in range(7)),
        "users.csv": "user_id,age\n" + "".join(f"u{u},{u}\n" for u in range(4)),
    },
    "recbole": {
        "click.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        + "".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in ROWS),
        "click.item": "item_id:token\ttitle:token_seq\tclass:token_seq\n"
        + "".join(f"i{i}\tThing {i}\tDrama War\n" for i in range(7)),
        "click.user": "user_id:token\tage:float\n" + "".join(f"u{u}\t{u}\n" for u in range(4)),
    },
    "100k": {
        "u.data": "".join(f"{u[1:]}\t{i[1:]}\t{r}\t{t}\n" for u, i, r, t in ROWS),
        "u.item": "".join(f"{i}|Film {i} (1999)|01-Jan-1999||url|{FLAGS}\n" for i in range(7)),
        "u.user": "".join(f"{u}|24|M|writer|12345\n" for u in range(4)),
    },
    "1m": {
        "ratings.dat": "".join(f"{u[1:]}::{i[1:]}::{r}::{t}\n" for u, i, r, t in ROWS),
        "movies.dat": "".join(f"{i}::Film {i} (1999)::Drama|War\n" for i in range(7)),
        "users.dat": "".join(f"{u}::F::1::10::48067\n" for u in range(4)),
    },
    "amazon": {
        "reviews.json": "".join(json.dumps(row) + "\n" for row in REVIEWS),
        "meta.json": "".join(json.dumps(row) + "\n" for row in PRODUCTS),
    },
    "amazon literals": {
        "reviews.json": "".join(json.dumps(row) + "\n" for row in REVIEWS),
        "meta.json": "".join(repr(row) + "\n" for row in PRODUCTS),
    },
}
FIELDS = st.one_of(
    st.sampled_from(
        [
            *(
                "",
                " ",
                "nan",
                "inf",
                "-inf",
                "-1",
                "3.0",
                "003",
                "1e308",
                "1e999",
                str(2**63),
                "9" * 400,
            ),
            *(
                "soon",
                "null",
                "None",
                "true",
                "0x10",
                "1_000",
                "１２",
                "\0",
                "\x1f",
                "\ud800",
                "\ufeff",
            ),
            *(
                '"',
                '""',
                '"a',
                'a"b',
                "'",
                ",",
                "\t",
                "::",
                "|",
                "\r",
                "\n",
                "\n\n",
                "\\",
                "x" * 70_000,
            ),
            *(
                "{",
                "}",
                "[" * 3000,
                "{'a':" * 300,
                "\\ud800",
                "\\u0000",
                "&#xD800;",
                "&#99999999999;",
            ),
            *(
                "é",
                "e\u0301",
                "‮",
                "😀",
                "<script>",
                "=HYPERLINK()",
                "1e5",
                "-0.0",
                "1-1",
                "(" * 300,
            ),
        ]
    ),
    st.text(max_size=5),
    st.integers().map(str),
    st.floats().map(str),
)
ENCODINGS = st.sampled_from(
    [None, None, None, "latin-1", "utf-16", "gbk", "utf-7", "idna", "cp037"]
)
BYTES = st.sampled_from(
    [b"\0", b"\xff", b"\xed\xa0\x80", b"\r", b"\n", b'"', b"\x1f\x8b", b"\xff\xfe", b"::"]
)


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")


def _field_changed(draw: Any, text: str) -> str:
    """Replace, remove or add one field of one line, as a field or as a piece of JSON."""
    lines = text.split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    marks = [mark for mark in ("::", "\t", "|", ", ", ",") if mark in lines[at]] or [","]
    fields = lines[at].split(marks[0])
    place, value = draw(st.integers(0, len(fields) - 1)), draw(FIELDS)
    if marks[0] == ", " and ": " in fields[place]:
        name = fields[place].split(": ")[0]
        value = f"{name}: {draw(st.sampled_from([value, json.dumps(value)]))}"
    new = draw(st.sampled_from([[value], [value], [], [value, fields[place]]]))
    fields[place : place + 1] = new
    lines[at] = marks[0].join(fields)
    return "\n".join(lines)


@st.composite
def contents(draw: Any, text: str) -> bytes:
    """One file: as it should be, or with fields, lines or bytes changed, or another."""
    kind = draw(st.sampled_from(["whole", "fields", "fields", "fields", "lines", "bytes", "junk"]))
    if kind == "junk":
        return draw(st.one_of(st.binary(max_size=60), st.just(b""), FIELDS.map(_as_bytes)))
    if kind == "fields":
        for _ in range(draw(st.integers(1, 3))):
            text = _field_changed(draw, text)
    if kind == "lines":
        lines = text.split("\n")
        at, to = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        lines[at:at] = draw(st.sampled_from([lines[to : to + 1], [""], ["#"], lines[:2] * 3]))
        text = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\r"])).join(lines)
    raw = _as_bytes(text)
    if kind == "bytes":
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, len(raw)))
            new = draw(st.one_of(BYTES, st.binary(max_size=3)))
            raw = raw[:at] + new + raw[at + draw(st.integers(0, 3)) :]
        raw = raw[: draw(st.one_of(st.just(len(raw)), st.integers(0, len(raw))))]
    return raw


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Path]]:
    """Yield new folders, one for each input."""
    root = tmp_path_factory.mktemp("fuzz")
    yield (root / str(number) for number in count())


def _write(draw: Any, place: Path, files: dict[str, str]) -> None:
    """Write a format's files: plain, packed, damaged, missing, or folders in their place."""
    place.mkdir()
    changed = draw(st.lists(st.sampled_from(sorted(files)), max_size=2))
    for name, text in files.items():
        raw = draw(contents(text)) if name in changed else _as_bytes(text)
        how = draw(
            st.sampled_from(["plain"] * 8 + ["gz", "gz", "cut gz", "folder", "none", "loop"])
        )
        if name not in changed:
            how = "plain"
        if how in ("gz", "cut gz"):
            raw = gzip.compress(raw)
            name += ".gz" if draw(st.booleans()) else ""
        if how == "cut gz":
            at = draw(st.integers(0, len(raw)))
            raw = raw[:at] + draw(st.binary(max_size=2))
        if how == "folder":
            (place / name).mkdir()
        elif how == "loop":
            (place / name).symlink_to(place / name)
        elif how != "none":
            (place / name).write_bytes(raw)


def judge(config: dict[str, Any]) -> None:
    """Read and reduce; what is accepted must be whole, what is not is the project's own error."""
    try:
        data = read(DatasetConfig.model_validate(config))
    except HarnessError as error:
        assert str(error) and "\n" not in str(error).strip()
        assert str(error).encode(errors="surrogateescape")
        return
    assert data.num_events > 0 and len(data.items) == len(data.titles) == data.num_items
    assert all(
        sequence.min() >= 0 and sequence.max() < data.num_items for sequence in data.sequences
    )
    for values in (data.timestamps, data.ratings):
        assert values is None or all(np.isfinite(value).all() for value in values)
    texts = [*data.users, *data.items, *data.titles, *(data.item_text or ())]
    assert all(text.encode() is not None for text in texts)
    assert data.sha256 and list(remarks(data)) is not None
    try:
        load(DatasetConfig.model_validate({**config, "k_core": 2, "max_users": 3}), 0)
    except HarnessError as error:
        assert str(error)


def _drawn(data: Any, places: Iterator[Path], form: str) -> None:
    place = next(places)
    _write(data.draw, place, FORMATS[form])
    config: dict[str, Any] = {
        "path": str(place),
        "on_bad": data.draw(st.sampled_from(["error", "drop", "drop"])),
        "duplicates": data.draw(st.sampled_from(["keep", "merge"])),
        "encoding": data.draw(ENCODINGS),
    }
    if data.draw(st.booleans()):
        name = {"100k": "ml-100k", "1m": "grouplens"}.get(form, form.split()[0])
        config |= {"use": name, "options": {"path": config.pop("path")}}
    try:
        judge(config)
    finally:
        shutil.rmtree(place)


@SETTINGS
@given(data=st.data())
def test_folders_of_csv(places: Iterator[Path], data: Any) -> None:
    _drawn(data, places, "folder")


@SETTINGS
@given(data=st.data())
def test_recbole(places: Iterator[Path], data: Any) -> None:
    _drawn(data, places, "recbole")


@SETTINGS
@given(data=st.data())
def test_grouplens(places: Iterator[Path], data: Any) -> None:
    _drawn(data, places, data.draw(st.sampled_from(["100k", "1m"])))


@SETTINGS
@given(data=st.data())
def test_amazon(places: Iterator[Path], data: Any) -> None:
    _drawn(data, places, data.draw(st.sampled_from(["amazon", "amazon literals"])))


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_mutated_is_read_whole(form: str, tmp_path: Path) -> None:
    for name, text in FORMATS[form].items():
        (tmp_path / name).write_bytes(_as_bytes(text))
    data = read(DatasetConfig(path=str(tmp_path)))
    assert (data.num_users, data.num_items, data.num_events) == (4, 7, 16)
    assert all(data.titles)
