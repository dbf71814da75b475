"""Amazon product reviews of 2014 and 2018: JSON lines of reviews and of metadata, plain or gzip.

He and McAuley, WWW 2016 (2014 files; their metadata are Python literals, not JSON) and Ni, Li and
McAuley, EMNLP 2019 (2018 files). Reviews: ``reviewerID``, ``asin``, ``overall``,
``unixReviewTime``. Metadata: ``asin``, ``title``, ``brand``, ``categories`` or ``category``,
``description``. The metadata lack some products; those keep an empty title and are counted.
"""

from __future__ import annotations

import ast
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.json as pa_json

from harness.core.errors import DataError
from harness.core.params import Params
from harness.data.assemble import assemble
from harness.data.catalogue import Catalogue, make_catalogue
from harness.data.cleaning import clean_id, unescaped
from harness.data.events import Coded, EventTable, RowPolicy
from harness.data.interactions import Interactions
from harness.data.registry import LOADERS

BLOCK_BYTES = 16 << 20
MAX_LINE_BYTES = 64 << 20
_REVIEW = pa.schema(
    [
        ("reviewerID", pa.string()),
        ("asin", pa.string()),
        ("unixReviewTime", pa.float64()),
        ("overall", pa.float64()),
    ]
)
_ASIN = re.compile(r"""["']asin["']\s*:\s*["']([^"']+)["']""")
# 2018 titles sometimes hold the page's style sheet or script instead of a title.
_PAGE_CODE = re.compile(r"getTime|</?(script|style|span)|function\s*\(", re.IGNORECASE)


class AmazonOptions(Params):
    """Options for raw Amazon files.

    Attributes:
        reviews: reviews file (``.json`` or ``.json.gz``, one object per line).
        metadata: metadata file of the same category; without it items have no titles.
    """

    reviews: str
    metadata: str | None = None


@LOADERS.register("amazon", AmazonOptions)
def read_amazon(options: AmazonOptions, policy: RowPolicy) -> Interactions:
    """Read one category.

    Raises:
        DataError: a file is missing, damaged or holds no such objects.
    """
    path = Path(options.reviews).expanduser()
    events = _reviews(path)
    catalogue = None
    if options.metadata is not None:
        catalogue = _metadata(Path(options.metadata).expanduser(), set(events.item.values))
    name = re.sub(r"(\.json|\.gz|\.jsonl)+$", "", path.name)
    return assemble(name, events, catalogue, policy)


def _blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield a plain or gzip file in blocks of whole lines, each with its first line's number."""
    first, rest = 1, b""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            while chunk := stream.read(BLOCK_BYTES):
                block, newline, tail = (rest + chunk).rpartition(b"\n")
                if newline:
                    yield first, block
                    first += block.count(b"\n") + 1
                rest = tail
                if len(rest) > MAX_LINE_BYTES:
                    raise DataError(f"{path}: line {first} is longer than {MAX_LINE_BYTES} bytes")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    if rest:
        yield first, rest


def _number(value: Any) -> float:
    """Return a JSON number (or one in quotes) as float, NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return float("nan")
    try:
        return float(value)
    except (ValueError, OverflowError):
        return float("nan")


class _Block(NamedTuple):
    """Reviews of one block of lines; ``malformed`` lines are no review at all."""

    line: np.ndarray
    user: pa.DictionaryArray
    item: pa.DictionaryArray
    time: np.ndarray
    rating: np.ndarray
    malformed: list[int]


def _reviews(path: Path) -> EventTable:
    blocks = [_fast(first, data) or _slow(first, data) for first, data in _blocks(path)]
    malformed = tuple(line for block in blocks for line in block.malformed)
    if not sum(len(block.line) for block in blocks):
        where = f" (line {malformed[0]} is not)" if malformed else ", the file is empty"
        raise DataError(f"{path}: no line is a JSON object with reviewerID and asin{where}")
    return EventTable(
        source=path.name,
        user=_joined([block.user for block in blocks]),
        item=_joined([block.item for block in blocks]),
        line=np.concatenate([block.line for block in blocks]),
        timestamp=np.concatenate([block.time for block in blocks]),
        rating=np.concatenate([block.rating for block in blocks]),
        malformed=malformed,
    )


def _joined(columns: list[pa.DictionaryArray]) -> Coded:
    """Return the blocks' codes under one list of values, by first appearance."""
    place: dict[str, int] = {}
    codes: list[np.ndarray] = []
    for column in columns:
        moved = [place.setdefault(v, len(place)) for v in column.dictionary.to_pylist()]
        indices = column.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        codes.append(np.array(moved, dtype=np.int64)[indices])
    return Coded(np.concatenate(codes), list(place))


def _fast(first: int, data: bytes) -> _Block | None:
    """Parse a block in which every line is a complete review; ``None`` if one is not."""
    lines = data.count(b"\n") + 1
    try:
        table = pa_json.read_json(
            pa.BufferReader(data),
            read_options=pa_json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pa_json.ParseOptions(
                explicit_schema=_REVIEW, unexpected_field_behavior="ignore"
            ),
        ).combine_chunks()
    except pa.ArrowInvalid:
        return None
    columns = [table.column(name) for name in _REVIEW.names]
    if table.num_rows != lines or any(column.null_count for column in columns):
        return None
    user, item, time, rating = (column.combine_chunks() for column in columns)
    return _Block(
        np.arange(first, first + lines),
        user.dictionary_encode(),
        item.dictionary_encode(),
        time.to_numpy(zero_copy_only=False),
        rating.to_numpy(zero_copy_only=False),
        [],
    )


def _slow(first: int, data: bytes) -> _Block:
    """Parse a block line by line, to know which lines are wrong."""
    rows: list[tuple[int, str, str, float, float]] = []
    malformed: list[int] = []
    for number, line in enumerate(data.split(b"\n"), first):
        if not line.strip():
            continue
        try:
            review = json.loads(line)
            user, item = review["reviewerID"], review["asin"]
            if not isinstance(user, str) or not isinstance(item, str):
                raise TypeError("an id is text")
        except (ValueError, KeyError, TypeError, RecursionError):
            malformed.append(number)
            continue
        time, rating = _number(review.get("unixReviewTime")), _number(review.get("overall"))
        rows.append((number, clean_id(user), clean_id(item), time, rating))
    lines, users, items, times, ratings = zip(*rows, strict=True) if rows else ((),) * 5
    return _Block(
        np.array(lines, dtype=np.int64),
        pa.array(users, pa.string()).dictionary_encode(),
        pa.array(items, pa.string()).dictionary_encode(),
        np.array(times, dtype=np.float64),
        np.array(ratings, dtype=np.float64),
        malformed,
    )


def _metadata(path: Path, wanted: set[str]) -> Catalogue:
    """Read the products that occur in the reviews; of a product listed twice the first row."""
    ids: list[str] = []
    titles: list[str] = []
    kinds: list[tuple[str, ...]] = []
    brands: list[str] = []
    descriptions: list[str] = []
    unreadable = code = 0
    for line in _text_lines(path):
        found = _ASIN.search(line)
        if found is None or found[1] not in wanted:
            continue
        product = _product(line)
        if product is None:
            unreadable += 1
            continue
        title = _text(product.get("title"))
        if _PAGE_CODE.search(title):
            title, code = "", code + 1
        ids.append(found[1])
        titles.append(title)
        kinds.append(_categories(product))
        brands.append(_text(product.get("brand")))
        descriptions.append(_text(product.get("description")))
    catalogue = make_catalogue(
        path.name,
        ids,
        titles,
        attributes=kinds,
        details=[brands, descriptions],
        complete=False,
    )
    catalogue.notes.update(metadata_lines_unreadable=unreadable, titles_that_were_page_code=code)
    return catalogue


def _text_lines(path: Path) -> Iterator[str]:
    for _, block in _blocks(path):
        for line in block.split(b"\n"):
            yield line.decode(errors="replace")


def _product(line: str) -> dict[str, Any] | None:
    """Parse JSON (2018) or a Python literal (2014); code is never run."""
    try:
        product = json.loads(line)
    except (ValueError, RecursionError):
        try:
            product = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    return product if isinstance(product, dict) else None


def _text(value: Any) -> str:
    """Return text, or a list of texts joined, with entities such as ``&amp;`` resolved."""
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    return unescaped(value) if isinstance(value, str) else ""


def _categories(product: dict[str, Any]) -> tuple[str, ...]:
    """Return the path of categories; 2014 nests paths, of which the first counts."""
    value = product.get("category") or product.get("categories") or []
    if value and isinstance(value[0], list):
        value = value[0]
    texts = (_text(part) for part in value) if isinstance(value, list) else ()
    return tuple(text for text in texts if text and not _PAGE_CODE.search(text))
