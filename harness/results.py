"""The table of results: one tidy row per measured number, in Parquet and in JSON.

A number that could not be measured is NaN in a row, null in JSON, and its row says why. Reports,
comparisons and gates read nothing of the harness but this file; it never imports torch.

The statistics that a reader of rows needs (paired over seeds and users) are offered here as well:
:class:`Interval`, :func:`over_seeds`, :func:`paired_difference`, :func:`paired_ratio`, and, for
many rows at once, :func:`paired_differences_jointly` and :func:`student_t`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.core.errors import DataError
from harness.digests import rows_digest, sha256, table_digest
from harness.files import write_atomic
from harness.metrics.interval import (
    Interval,
    over_seeds,
    paired_difference,
    paired_ratio,
)
from harness.metrics.joint import Pairs, paired_differences_jointly, student_t
from harness.rows import SCHEMA_VERSION, Row, SampleBlock

if TYPE_CHECKING:
    import pandas as pd  # half of the time to start; only who asks for a frame pays for it

__all__ = [
    "SCHEMA_VERSION",
    "Interval",
    "Pairs",
    "Row",
    "SampleBlock",
    "over_seeds",
    "paired_difference",
    "paired_differences_jointly",
    "paired_ratio",
    "read_results",
    "read_rows",
    "read_samples",
    "read_table",
    "sample_batches",
    "sample_blocks",
    "student_t",
    "write_results",
]

DIGEST_KEY = b"rows_sha256"
# Hashes of the same content as it lies in the two files, which take a tenth of the time to check.
TABLE_KEY, JSON_KEY = b"table_sha256", b"json_sha256"
# Of the file with the values per user; a verdict's interval rests on them.
SAMPLES_KEY = b"samples_sha256"
_BATCH = 2**17

COLUMNS = ("schema_version", *(f.name for f in fields(Row) if f.name != "schema_version"))
_DTYPES = {
    f.name: {"str": "string", "float": "float64", "int": "int64"}.get(str(f.type), "string")
    for f in fields(Row)
}
_ARROW = {"string": pa.string(), "float64": pa.float64(), "int64": pa.int64()}
_SCHEMA = pa.schema([(name, _ARROW[_DTYPES[name]]) for name in COLUMNS])
_SAMPLE_SCHEMA = pa.schema(
    [
        ("cell", pa.dictionary(pa.int32(), pa.string())),
        ("attack", pa.dictionary(pa.int32(), pa.string())),
        ("metric", pa.dictionary(pa.int32(), pa.string())),
        ("k", pa.int32()),
        ("protocol", pa.dictionary(pa.int32(), pa.string())),
        ("unit", pa.int64()),
        ("value", pa.float32()),
    ]
)


def write_results(folder: Path, rows: Sequence[Row], samples: Sequence[SampleBlock] = ()) -> None:
    """Write ``results.parquet``, ``results.json`` and ``samples.parquet``, each atomically.

    Lone surrogates in a text, which no file can hold, are replaced by ``?``.
    """
    table = pa.table(
        {name: [_storable(getattr(row, name)) for row in rows] for name in COLUMNS}, schema=_SCHEMA
    )
    records = json_records(table.to_pydict())
    digest = rows_digest(records)
    document = {
        "schema_version": SCHEMA_VERSION,
        "null": "not measured or not applicable; for value, low and high see null_because",
        "rows_sha256": digest,
        "rows": records,
    }
    text = json.dumps(document, allow_nan=False, ensure_ascii=False, indent=1).encode() + b"\n"
    values = _parquet_bytes(_sample_table(samples))
    hashes = {
        DIGEST_KEY: digest,
        TABLE_KEY: table_digest(table),
        JSON_KEY: sha256(text),
        SAMPLES_KEY: sha256(values),
    }
    table = table.replace_schema_metadata({key: h.encode() for key, h in hashes.items()})
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "samples.parquet", values)
    write_atomic(folder / "results.parquet", _parquet_bytes(table))
    write_atomic(folder / "results.json", text)


def read_table(folder: Path) -> pa.Table:
    """Return the rows of a run folder as an Arrow table with the columns' own types.

    Raises:
        DataError: the file is missing, unreadable, lacks columns, holds values of another type or
            nothing where a value is needed, or is of another schema version.
    """
    path = folder / "results.parquet"
    table = typed(_read(path, COLUMNS).select(list(COLUMNS)), _SCHEMA, path)
    versions = sorted(table["schema_version"].unique().to_pylist())
    if versions not in ([], [SCHEMA_VERSION]):
        raise DataError(
            f"{path}: rows of schema version {versions}, this program reads {SCHEMA_VERSION}; "
            "use the version of the program that wrote them"
        )
    return table


def typed(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    """Return a table with the types of a schema; NaN alone may be missing.

    Raises:
        DataError: a column holds something else; names it.
    """
    columns: list[pa.ChunkedArray] = []
    for wanted in schema:
        column = table[wanted.name]
        try:
            found = column if column.type == wanted.type else column.cast(wanted.type)
        except pa.ArrowException as error:
            raise DataError(
                f"{path}: column {wanted.name} holds {column.type}, not {wanted.type}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        if found.null_count and not pa.types.is_floating(wanted.type):
            raise DataError(f"{path}: column {wanted.name} lacks {found.null_count} values")
        columns.append(found)
    return pa.table(columns, schema=schema)


def read_results(folder: Path) -> pd.DataFrame:
    """Return the rows of a run folder, one column per field of :class:`Row`.

    Raises:
        DataError: as :func:`read_table`.
    """
    return read_table(folder).to_pandas()


def read_rows(folder: Path) -> list[Row]:
    """Return the rows of a run folder as they were written.

    Raises:
        DataError: as :func:`read_results`, or a row breaks the schema.
    """
    records = read_results(folder).to_dict("records")
    try:
        return [Row(**{str(name): value for name, value in r.items()}) for r in records]
    except ValueError as error:
        raise DataError(f"{folder / 'results.parquet'}: {error}") from error


def read_samples(folder: Path) -> pd.DataFrame:
    """Return the values per unit of a run folder; an empty frame where none were stored.

    Raises:
        DataError: the file is there but unreadable or lacks columns.
    """
    path = folder / "samples.parquet"
    if not path.exists():
        return _sample_table(()).to_pandas()
    names = _SAMPLE_SCHEMA.names
    return typed(_read(path, names).select(names), _SAMPLE_SCHEMA, path).to_pandas()


def sample_batches(folder: Path) -> Iterator[pa.RecordBatch]:
    """Yield what :func:`read_samples` returns in pieces, in a third of the memory and time.

    Raises:
        DataError: as :func:`read_samples`.
    """
    path = folder / "samples.parquet"
    if path.exists():
        names = _SAMPLE_SCHEMA.names
        with opened(path, names) as file:
            for batch in file.iter_batches(_BATCH, columns=names):
                if batch.schema.equals(_SAMPLE_SCHEMA):
                    yield batch  # as it was written: nothing to convert
                    continue
                table = pa.Table.from_batches([batch]).select(names)
                yield from typed(table, _SAMPLE_SCHEMA, path).to_batches()


def sample_blocks(table: pd.DataFrame) -> list[SampleBlock]:
    """Return the blocks that a frame of samples was written from."""
    keys = ["cell", "attack", "metric", "k", "protocol"]
    return [
        SampleBlock(
            **group[keys].astype({"k": int}).iloc[0].to_dict(),
            units=group["unit"].to_numpy(),
            values=group["value"].to_numpy(),
        )
        for _, group in table.groupby(keys, sort=False, observed=True)
    ]


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    with opened(path, columns) as file:
        return file.read()


@contextmanager
def opened(path: Path, columns: Sequence[str]) -> Iterator[pq.ParquetFile]:
    """Open a file that must have some columns; what is wrong with it is a :class:`DataError`."""
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                raise DataError(f"{path}: columns missing: {', '.join(missing)}")
            yield file
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; has the run finished?") from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}") from error


def _parquet_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def _sample_table(samples: Sequence[SampleBlock]) -> pa.Table:
    sizes = [len(s.units) for s in samples]
    values = np.concatenate([s.values for s in samples] or [np.empty(0)])
    units = np.concatenate([s.units for s in samples] or [np.empty(0)])
    columns = {
        "cell": _repeated([s.cell for s in samples], sizes),
        "attack": _repeated([s.attack for s in samples], sizes),
        "metric": _repeated([s.metric for s in samples], sizes),
        "k": np.repeat([s.k for s in samples], sizes).astype(np.int32),
        "protocol": _repeated([s.protocol for s in samples], sizes),
        "unit": units.astype(np.int64),
        "value": values.astype(np.float32),
    }
    return pa.table(columns, schema=_SAMPLE_SCHEMA)


def _repeated(texts: Sequence[str], sizes: Sequence[int]) -> pa.DictionaryArray:
    """Each text as often as its block has units, stored once."""
    distinct = {text: code for code, text in enumerate(dict.fromkeys(texts))}
    codes = np.repeat([distinct[text] for text in texts], sizes).astype(np.int32)
    names = pa.array([_storable(text) for text in distinct], pa.string())
    return pa.DictionaryArray.from_arrays(codes, names)


def _storable(value: object) -> object:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def json_records(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Rows as JSON holds them: null for NaN and infinity, with the cause where one is known."""
    records = []
    for index in range(len(columns["metric"])):
        record: dict[str, Any] = {}
        causes: dict[str, str] = {}
        for name in COLUMNS:
            value = columns[name][index]
            if isinstance(value, float) and not math.isfinite(value):
                record[name] = None
                if math.isinf(value):
                    causes[name] = "infinite"
                elif name in ("value", "low", "high"):
                    causes[name] = columns["reason"][index] or f"n = {columns['n'][index]}"
            else:
                record[name] = value
        if causes:
            record["null_because"] = causes
        records.append(record)
    return records
