"""Tensors on disk whose name carries the hash of their content.

A file is written beside its place, synced and renamed, so a reader finds it whole or not at all.
What a disk or a hand did to it later shows when its hash is compared with its name. The format is
safetensors: reading one runs no code.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from harness.core.errors import RunError

_SUFFIX = ".safetensors"
_DIGITS = 16


class Damaged(RunError):
    """A stored file is not what was written."""


def write_tensors(
    folder: Path, stem: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> Path:
    """Write tensors and JSON facts under ``stem``; return the file.

    Args:
        folder: made if missing.
        stem: first part of the file's name.
        tensors: by name.
        facts: JSON values; NaN is refused.

    Raises:
        RunError: the folder can't be written (read-only, disk full); older files are untouched.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(plain, {"facts": json.dumps(facts, allow_nan=False)})
    path = folder / f"{stem}-{hashlib.sha256(content).hexdigest()[:_DIGITS]}{_SUFFIX}"
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.is_dir():
            discard(path)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RunError(
            f"{path}: {error.strerror or error} ({len(content):,} bytes were to be written)"
        ) from error
    return path


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and facts of a file.

    Raises:
        Damaged: the file is gone, cut short, altered, or no safetensors file.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise Damaged(f"{path}: not a file")
        content = path.read_bytes()
    except OSError as error:
        raise Damaged(f"{path}: {error.strerror or error}") from error
    if not path.stem.endswith("-" + hashlib.sha256(content).hexdigest()[:_DIGITS]):
        raise Damaged(f"{path}: its content is not what its name says")
    # After the hash: a header length of 2**60 in a damaged file must not be believed.
    length = int.from_bytes(content[:8], "little")
    try:
        facts = json.loads(content[8 : 8 + length])["__metadata__"]["facts"]
        parsed: Any = json.loads(facts, parse_constant=_no_number)
        tensors = load(content)
    except (KeyError, TypeError, ValueError, RecursionError, SafetensorError) as error:
        raise Damaged(f"{path}: no file of tensors and facts ({type(error).__name__})") from error
    if not isinstance(parsed, dict):
        raise Damaged(f"{path}: its facts are no mapping")
    return tensors, cast("dict[str, Any]", parsed)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def discard(path: Path) -> None:
    """Remove a file that is not to be used; a folder in its place is moved aside, never deleted.

    Raises:
        RunError: it can't be removed.
    """
    try:
        if not path.is_dir() or path.is_symlink():
            path.unlink(missing_ok=True)
            return
        aside, count = path.with_name(f"aside-{path.name}"), 0
        while aside.exists():
            count += 1
            aside = path.with_name(f"aside-{count}-{path.name}")
        path.rename(aside)
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}") from error


def write_sealed(path: Path, content: bytes) -> None:
    """Write derived content with its hash at its end; a reader sees the whole file or none.

    Raises:
        OSError: it can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content + hashlib.sha256(content).digest())
            stream.flush()
            os.fsync(stream.fileno())
        if path.is_dir():
            discard(path)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_sealed(path: Path) -> bytes | None:
    """Return what `write_sealed` wrote, or None: not there, cut short or altered.

    Derived content is made again where there is none, so a damaged file costs time only.
    """
    if not path.is_file():
        return None
    try:
        content = path.read_bytes()
    except OSError:
        return None
    seal = hashlib.sha256().digest_size
    inner = content[:-seal]
    whole = len(content) >= seal and hashlib.sha256(inner).digest() == content[-seal:]
    return inner if whole else None


def stored(folder: Path, stem: str) -> list[Path]:
    """Return the files whose stem begins with ``stem``, sorted by name."""
    return sorted(folder.glob(f"{stem}*{_SUFFIX}"))
