"""Hashes of a table of results, by which an edit by hand shows."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pyarrow as pa


def rows_digest(records: list[dict[str, Any]]) -> str:
    """Hash of rows in JSON's types, however a file lays them out."""
    text = json.dumps(records, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode())


def holds_rows(content: bytes, digest: str) -> bool:
    """A ``results.json`` holds the rows of this hash, and says so itself."""
    try:
        document = json.loads(content)
        return rows_digest(document["rows"]) == document["rows_sha256"] == digest
    except (ValueError, KeyError, TypeError):
        return False


def table_digest(table: pa.Table) -> str:
    """Hash of the columns' content, whatever the chunks they come in and the schema's metadata."""
    sink = pa.BufferOutputStream()
    plain = table.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(sink, plain.schema) as stream:
        stream.write_table(plain)
    return sha256(sink.getvalue())


def sha256(content: bytes | pa.Buffer) -> str:
    """SHA-256 of a file's or a buffer's bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
