"""Delimited text files as columns, with the line of every row, however large or broken they are."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from jaxtyping import Float, Int

from harness.core.errors import DataError
from harness.data.events import Coded
from harness.data.files import as_utf8, lines_of, read_bytes

DELIMITERS = (",", "\t", ";", "|")
MAX_COLUMNS = 10_000
_BLANK = re.compile(rb"(?:[ \t\f\v]*\n)+")
_NO_ROWS = ("Empty CSV", "Could not skip initial")
"""What pyarrow says of a file that ends with its header, with and without a line end."""


@dataclass(frozen=True)
class Table:
    """A delimited file as text columns.

    Attributes:
        path: the file.
        columns: name to column; distinct values are coded where asked for.
        line: line of each row, counted from 1 (exact unless quoted fields hold line breaks).
        malformed: lines with another number of fields than the header.
        encoding: the file was read in.
    """

    path: Path
    columns: dict[str, pa.Array]
    line: Int[np.ndarray, " row"]
    malformed: tuple[int, ...]
    encoding: str

    def __len__(self) -> int:
        return len(self.line)

    def first_of(self, names: Sequence[str]) -> str | None:
        """Return the first of ``names`` that is a column."""
        return next((name for name in names if name in self.columns), None)

    def need(self, *names: str) -> str:
        """Return the first of ``names`` that is a column.

        Raises:
            DataError: there is none; the columns seen are listed.
        """
        found = self.first_of(names)
        if found is None:
            seen = ", ".join(repr(name[:80]) for name in list(self.columns)[:12])
            wanted = " or ".join(repr(name) for name in names)
            raise DataError(f"{self.path}: no column {wanted}; columns seen: {seen or 'none'}")
        return found

    def text(self, name: str) -> list[str]:
        """Return a column as Python strings."""
        return self.columns[name].cast(pa.string()).to_pylist()

    def coded(self, name: str) -> Coded:
        """Return a column as codes and distinct values."""
        column = self.columns[name]
        if not isinstance(column, pa.DictionaryArray):
            column = column.dictionary_encode()
        codes = column.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        return Coded(codes, column.dictionary.to_pylist())

    def numbers(self, name: str | None) -> Float[np.ndarray, " row"] | None:
        """Return a column as numbers, NaN where it holds none; ``None`` for no column."""
        if name is None:
            return None
        column = self.columns[name].cast(pa.string())
        try:
            return pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False).copy()
        except pa.ArrowInvalid:
            values = pd.Series(column.to_pylist(), dtype=object)
            return np.asarray(pd.to_numeric(values, errors="coerce"), dtype=np.float64)


def read_table(
    path: Path,
    *,
    delimiter: str = ",",
    quoted: bool = True,
    names: Sequence[str] | None = None,
    coded: Collection[str] = (),
    encoding: str | None = None,
    usual: str = "utf-8",
    typed_header: bool = False,
) -> Table:
    """Read a plain or gzip file of delimited text.

    Args:
        path: the file.
        delimiter: one character, or GroupLens's ``::``; empty takes the one that the header uses.
        quoted: whether fields may stand in double quotes.
        names: columns of a file without header.
        coded: columns to hold as codes, for ids.
        encoding: as the user says; None reads UTF-8.
        usual: what the format's older files are in where they are not UTF-8.
        typed_header: RecBole's ``name:type``.

    Raises:
        DataError: missing, damaged, empty or only a header.
    """
    text = as_utf8(read_bytes(path), path, encoding, usual)
    whole = lines_of(text.data, path)
    blank = _BLANK.match(whole)
    data = whole[blank.end() :] if blank else whole
    before = whole.count(b"\n", 0, len(whole) - len(data))
    if not data.strip():
        raise DataError(f"{path}: the file is empty")
    delimiter = delimiter or _delimiter(data)
    if len(delimiter) > 1:
        data, delimiter = data.replace(delimiter.encode(), b"\x1f"), "\x1f"
    skip = 0
    if names is None:
        names = _header(data, path, delimiter, quoted, typed_header)
        skip = 1
    parse = pa_csv.ParseOptions(
        delimiter=delimiter, quote_char='"' if quoted else False, newlines_in_values=quoted
    )
    columns, malformed = _parse(data, path, names, skip, parse, coded)
    if quoted:
        _check_quotes(data, path, before + 1, columns, delimiter)
    good, bad = _lines(data, skip, malformed, len(next(iter(columns.values()), ())))
    if not len(good) and not bad:
        seen = ", ".join(repr(name[:80]) for name in names[:12])
        raise DataError(f"{path}: only a header, no rows; columns seen: {seen}")
    bad = tuple(line + before for line in bad)
    return Table(path, columns, good + before, bad, text.encoding)


def _check_quotes(
    data: bytes, path: Path, first: int, columns: dict[str, pa.Array], delimiter: str
) -> None:
    """Refuse a field that has swallowed rows, as one does whose quote is not closed.

    Raises:
        DataError: a field holds a line break and, behind it, what looks like a row.
    """
    for column in columns.values():
        values = column.dictionary if isinstance(column, pa.DictionaryArray) else column
        options = pc.MatchSubstringOptions("\n")
        broken = pc.call_function("match_substring", [values], options)
        for value in values.filter(broken).to_pylist():
            rows = str(value).split("\n")[1:]
            if any(row.count(delimiter) >= len(columns) - 1 > 0 for row in rows):
                place = max(data.find(b'"' + str(value)[:40].encode()), 0)
                line = first + data.count(b"\n", 0, place)
                raise DataError(
                    f"{path}:{line}: a quote that opens here is not closed where its field ends; "
                    f"{len(rows)} more lines would belong to the field"
                )


def _first_line(data: bytes) -> str:
    return data[: data.find(b"\n") if b"\n" in data else len(data)].decode().rstrip("\r")


def _delimiter(data: bytes) -> str:
    """Return what separates the names of the header; a comma where nothing does."""
    first = _first_line(data)
    return max(DELIMITERS, key=lambda mark: (first.count(mark), -DELIMITERS.index(mark)))


def _header(data: bytes, path: Path, delimiter: str, quoted: bool, typed: bool) -> list[str]:
    first, quoting = _first_line(data), csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    try:
        names = next(csv.reader(io.StringIO(first), delimiter=delimiter, quoting=quoting), [])
    except csv.Error as error:
        raise DataError(f"{path}:1: the header can't be read: {error}") from error
    names = [name.strip() for name in names]
    return [name.partition(":")[0] for name in names] if typed else names


def _parse(
    data: bytes,
    path: Path,
    names: Sequence[str],
    skip: int,
    parse: pa_csv.ParseOptions,
    coded: Collection[str],
) -> tuple[dict[str, pa.Array], list[int]]:
    """Return the columns, and the numbers of rows with another number of fields."""
    malformed: list[int] = []
    if len(set(names)) != len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise DataError(f"{path}: column {twice[:80]!r} stands twice in the header")
    if len(names) > MAX_COLUMNS:
        raise DataError(f"{path}: the header has {len(names)} columns; at most {MAX_COLUMNS}")

    def note(row: pa_csv.InvalidRow) -> str:
        malformed.append(row.number)
        return "skip"

    parse.invalid_row_handler = note
    id_type = pa.dictionary(pa.int32(), pa.string())
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            read_options=pa_csv.ReadOptions(
                use_threads=False,
                block_size=min(len(data) + 1, 1 << 30),
                column_names=list(names),
                skip_rows=skip,
            ),
            parse_options=parse,
            convert_options=pa_csv.ConvertOptions(
                column_types={n: id_type if n in coded else pa.string() for n in names},
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        if not any(said in str(error) for said in _NO_ROWS):
            raise DataError(f"{path}: {' '.join(str(error).split())[:200]}") from error
        return {name: pa.array([], pa.string()) for name in names}, malformed
    table = table.unify_dictionaries().combine_chunks()
    columns = zip(names, table.itercolumns(), strict=True)
    return {name: _one_chunk(column) for name, column in columns}, malformed


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.array([], column.type) if column.num_chunks == 0 else column.combine_chunks()


def _lines(
    data: bytes, skip: int, malformed: list[int], num_rows: int
) -> tuple[Int[np.ndarray, " row"], tuple[int, ...]]:
    """Return the lines of good and of malformed rows; blank lines are no rows."""
    lines = np.arange(1, skip + num_rows + len(malformed) + 1, dtype=np.int64)
    if b"\n\n" in data:
        filled = [i for i, text in enumerate(data.split(b"\n"), 1) if text]
        if len(filled) == len(lines):
            lines = np.array(filled, dtype=np.int64)
    bad = np.zeros(len(lines), dtype=bool)
    bad[np.array(malformed, dtype=np.int64) - 1] = True
    bad[:skip] = False
    good = lines[~bad][skip:]
    return good, tuple(lines[bad].tolist())
