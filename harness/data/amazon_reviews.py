"""Amazon reviews as JSON lines, plain or gzip: fast where every line is whole, exact where not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.json as pa_json

from harness.core.errors import DataError
from harness.data.cleaning import clean_id
from harness.data.events import Coded, EventTable, joined_codes
from harness.data.files import as_utf8, check_ratio, unpacked

BLOCK_BYTES = 16 << 20
MAX_LINE_BYTES = 64 << 20


class Fields(NamedTuple):
    """What a year's release calls the parts of a review."""

    user: str
    item: str
    time: str
    rating: str

    @property
    def schema(self) -> pa.Schema:
        """Types to parse the four fields as."""
        types = (pa.string(), pa.string(), pa.float64(), pa.float64())
        return pa.schema(list(zip(self, types, strict=True)))


FIELDS_2018 = Fields("reviewerID", "asin", "unixReviewTime", "overall")
"""Releases of 2014 and 2018."""
FIELDS_2023 = Fields("user_id", "parent_asin", "timestamp", "rating")
"""Release of 2023, with times in milliseconds."""


def first_object(path: Path) -> dict[str, Any] | None:
    """Return the first line of a file as a JSON object; None if it is none.

    Raises:
        DataError: the file can't be read.
    """
    line = b"\n"
    with unpacked(path) as stream:
        while line and not line.strip():
            line = stream.readline(MAX_LINE_BYTES)
    try:
        value = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def fields_of(path: Path) -> Fields:
    """Return what a reviews file calls its fields, by its first line."""
    first = first_object(path) or {}
    newer = FIELDS_2023.user in first and FIELDS_2023.item in first
    return FIELDS_2023 if newer else FIELDS_2018


def blocks_of(path: Path, encoding: str | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield a plain or gzip file in UTF-8 blocks of whole lines, each with its first line's number.

    Args:
        path: the file.
        encoding: as the user says; None reads UTF-8.

    Raises:
        DataError: it can't be read, a byte is not of the encoding, or a line is beyond measure.
    """
    if encoding is not None and "\n".encode(encoding) != b"\n":
        raise DataError(f"{path}: JSON lines in {encoding} are not read; save them as UTF-8")
    first, rest, size = 1, b"", 0
    with unpacked(path) as stream:
        packed = path.stat().st_size
        while chunk := stream.read(BLOCK_BYTES):
            size += len(chunk)
            check_ratio(path, packed, size)
            block, newline, tail = (rest + chunk).rpartition(b"\n")
            if newline:
                yield first, _text(block, path, encoding, first)
                first += block.count(b"\n") + 1
            rest = tail
            if len(rest) > MAX_LINE_BYTES:
                raise DataError(f"{path}: line {first} is longer than {MAX_LINE_BYTES} bytes")
    if rest:
        yield first, _text(rest, path, encoding, first)


def _text(block: bytes, path: Path, encoding: str | None, first: int) -> bytes:
    """Return whole lines as UTF-8; a carriage return before a line's end is space to JSON."""
    if (place := block.find(b"\0")) >= 0:
        line = first + block.count(b"\n", 0, place)
        raise DataError(f"{path}:{line}: a NUL character; the file is no text, or damaged")
    return as_utf8(block, path, encoding, first=first).data


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


def read_reviews(path: Path, encoding: str | None = None) -> EventTable:
    """Return the log of a reviews file of any release.

    Raises:
        DataError: the file can't be read, or no line is a review.
    """
    fields = fields_of(path)
    blocks = [
        _fast(first, data, fields) or _slow(first, data, fields)
        for first, data in blocks_of(path, encoding)
    ]
    malformed = tuple(line for block in blocks for line in block.malformed)
    if not sum(len(block.line) for block in blocks):
        where = f" (line {malformed[0]} is not)" if malformed else ", the file is empty"
        raise DataError(
            f"{path}: no line is a JSON object with {fields.user} and {fields.item}{where}"
        )
    return EventTable(
        source=str(path),
        user=_joined([block.user for block in blocks]),
        item=_joined([block.item for block in blocks]),
        line=np.concatenate([block.line for block in blocks]),
        timestamp=np.concatenate([block.time for block in blocks]),
        rating=np.concatenate([block.rating for block in blocks]),
        malformed=malformed,
        malformed_words=f"that are no whole JSON object with {fields.user} and {fields.item}",
    )


def _joined(columns: list[pa.DictionaryArray]) -> Coded:
    """Return the blocks' codes under one list of values, by first appearance."""
    return joined_codes(
        [
            Coded(
                column.indices.to_numpy(zero_copy_only=False).astype(np.int64),
                column.dictionary.to_pylist(),
            )
            for column in columns
        ]
    )


def _fast(first: int, data: bytes, fields: Fields) -> _Block | None:
    """Parse a block in which every line is a complete review; ``None`` if one is not."""
    lines = data.count(b"\n") + 1
    try:
        table = pa_json.read_json(
            pa.BufferReader(data),
            read_options=pa_json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pa_json.ParseOptions(
                explicit_schema=fields.schema, unexpected_field_behavior="ignore"
            ),
        ).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    columns = [table.column(name) for name in fields]
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


def _slow(first: int, data: bytes, fields: Fields) -> _Block:
    """Parse a block line by line, to know which lines are wrong."""
    rows: list[tuple[int, str, str, float, float]] = []
    malformed: list[int] = []
    for number, line in enumerate(data.split(b"\n"), first):
        if not line.strip():
            continue
        try:
            review = json.loads(line)
            user, item = review[fields.user], review[fields.item]
            if not isinstance(user, str) or not isinstance(item, str):
                raise TypeError("an id is text")
        except (ValueError, KeyError, TypeError, RecursionError):
            malformed.append(number)
            continue
        time, rating = _number(review.get(fields.time)), _number(review.get(fields.rating))
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
