"""Whether the tables of a run folder are as they were written: hashes of rows, file and samples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa

from harness.digests import holds_rows, rows_digest, sha256, table_digest
from harness.results import (
    COLUMNS,
    DIGEST_KEY,
    JSON_KEY,
    SAMPLES_KEY,
    TABLE_KEY,
    json_records,
    opened,
)


def verify_results(folder: Path) -> tuple[str, ...]:
    """Say in words what was changed by hand since the results were written; empty if nothing.

    Raises:
        DataError: the table is missing or unreadable.
    """
    problems = []
    with opened(folder / "results.parquet", COLUMNS) as file:
        table = file.read()
    hashes = {key: value.decode() for key, value in (table.schema.metadata or {}).items()}
    stored = hashes.get(DIGEST_KEY, "")
    # A quick hash that agrees proves that nothing changed; one that does not proves nothing, as
    # another writer may lay the same rows out differently: then the rows themselves are hashed.
    if table_digest(table) != hashes.get(TABLE_KEY) and (
        rows_digest(json_records(table.to_pydict())) != stored
    ):
        problems.append("results.parquet does not have the hash it was written with")
    path = folder / "results.json"
    if path.exists():
        content = path.read_bytes()
        if sha256(content) != hashes.get(JSON_KEY) and not holds_rows(content, stored):
            problems.append("results.json differs from results.parquet")
    path, samples = folder / "samples.parquet", hashes.get(SAMPLES_KEY)
    if samples is not None and not path.exists():
        problems.append("samples.parquet is missing")
    elif samples is not None and sha256(path.read_bytes()) != samples:
        problems.append("samples.parquet does not have the hash it was written with")
    return tuple(problems)


def rows_hash(folder: Path) -> str:
    """The hash that a table of results says its rows have; empty where it says none."""
    return _metadata(folder).get(DIGEST_KEY, b"").decode()


def unhashed_samples(folder: Path) -> bool:
    """Whether the table of results keeps no hash of the values per user beside it."""
    return SAMPLES_KEY not in _metadata(folder)


def _metadata(folder: Path) -> dict[bytes, bytes]:
    with opened(folder / "results.parquet", COLUMNS) as file:
        return file.schema_arrow.metadata or {}


def cell_counts(folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Return how many rows, and how many values per user, each cell of a run folder has.

    Raises:
        DataError: a file is unreadable.
    """
    with opened(folder / "results.parquet", ("cell",)) as file:
        rows = _counted(file.read(["cell"]))
    path = folder / "samples.parquet"
    if not path.exists():
        return rows, Counter()
    with opened(path, ("cell",)) as file:
        return rows, _counted(file.read(["cell"]))


def _counted(table: pa.Table) -> Counter[str]:
    counts = table["cell"].value_counts().to_pylist()
    return Counter({str(entry["values"]): int(entry["counts"]) for entry in counts})
