"""Content-addressed storage of what language models produced: a warm run computes nothing again.

Two shapes of content need two stores: arrays (one file each) and many short texts (one SQLite
database). Both are safe to share between processes and are keyed by the content that decides the
result, the model's files included, never by a scenario or a run.
"""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float

from harness.core.errors import AssetError, RunError
from harness.store import read_sealed, write_sealed

_HASH_BLOCK = 1 << 20
_QUERY_BLOCK = 500
_LOCK_WAIT_SECONDS = 120.0
_MODEL_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model", ".bin", ".gguf")


def digest(*parts: object) -> str:
    """Return the BLAKE2b hash (32 hex digits) of ``parts`` written as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _file_digest(path: Path) -> str:
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        while block := stream.read(_HASH_BLOCK):
            state.update(block)
    return state.hexdigest()


def model_identity(model: str | Path) -> str:
    """Return what tells one model from another: a hash over its files, or the hub name.

    The files' content counts, not where they lie, so a copy of a folder shares the cache. A hub
    name stands for itself: what it points to may change upstream, which this can't see.

    Args:
        model: a folder with weights and tokenizer, or a hub name.

    Raises:
        AssetError: the folder holds no model files.
    """
    path = Path(model)
    if not path.is_dir():
        return f"hub:{model}"
    files = sorted(
        file for file in path.rglob("*") if file.is_file() and file.suffix in _MODEL_SUFFIXES
    )
    if not files:
        raise AssetError(f"no model files in {path}: expected weights and a tokenizer")
    return digest(*[(file.relative_to(path).as_posix(), _file_digest(file)) for file in files])


class ArrayStore:
    """Arrays by key, one sealed ``.npy`` file each: a damaged one counts as not there.

    Args:
        folder: where the files lie; made at the first write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.npy.sealed"

    def get(self, key: str) -> Float[np.ndarray, "text dim"] | None:
        """Return the array stored under ``key``, or None."""
        content = read_sealed(self._path(key))
        return None if content is None else np.load(io.BytesIO(content), allow_pickle=False)

    def put(self, key: str, array: Float[np.ndarray, "text dim"]) -> None:
        """Store ``array`` under ``key``; a reader sees the whole file or none."""
        content = io.BytesIO()
        np.save(content, array, allow_pickle=False)
        write_sealed(self._path(key), content.getvalue())


class TextStore:
    """Generated texts by key in one SQLite database, shared by all runs and processes.

    Writers append under SQLite's write-ahead log, each call in one transaction: after a crash a
    batch is there whole or not at all. A second process that generated the same text keeps the
    first one's, so that everyone reads the same bytes from then on. Each text lies beside a hash of
    key and text: one that was altered on disk is dropped, and generated again.

    Args:
        path: the database file; made at the first write.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open a connection for one call, which keeps the store usable across forks."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self._path, timeout=_LOCK_WAIT_SECONDS)) as base:
                base.execute("PRAGMA journal_mode=WAL")
                _make_tables(base)
                yield base
        except sqlite3.DatabaseError as error:
            raise RunError(
                f"the cache of generated texts {self._path} can't be used ({error}); "
                "delete the file to generate anew"
            ) from error

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the texts stored under those of ``keys`` that are there."""
        if not self._path.exists():
            return {}
        found: dict[str, str] = {}
        with self._open() as base:
            for start in range(0, len(keys), _QUERY_BLOCK):
                block = list(keys[start : start + _QUERY_BLOCK])
                marks = ",".join("?" * len(block))
                rows = base.execute(
                    f"SELECT key, value, seal FROM sealed WHERE key IN ({marks})", block
                ).fetchall()
                whole = {key: text for key, text, seal in rows if seal == digest(key, text)}
                found.update(whole)
                altered = [(key,) for key, _, _ in rows if key not in whole]
                if altered:
                    with base:
                        base.executemany("DELETE FROM sealed WHERE key = ?", altered)
        return found

    def put(self, texts: Mapping[str, str]) -> None:
        """Store ``texts`` in one transaction; what is there already stays as it is."""
        with self._open() as base, base:
            base.executemany(
                "INSERT OR IGNORE INTO sealed VALUES (?, ?, ?)",
                [(key, text, digest(key, text)) for key, text in texts.items()],
            )


def _make_tables(base: sqlite3.Connection) -> None:
    """Make the table of texts; texts of an older version, which had no seals, are taken over."""
    tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    if "sealed" in tables:
        return
    with base:
        base.execute(
            "CREATE TABLE IF NOT EXISTS sealed (key TEXT PRIMARY KEY, value TEXT NOT NULL, "
            "seal TEXT NOT NULL) WITHOUT ROWID"
        )
        if "text" in tables:
            base.create_function("seal_of", 2, digest)
            base.execute(
                "INSERT OR IGNORE INTO sealed SELECT key, value, seal_of(key, value) FROM text"
            )
