"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from harness.core.errors import DataError


def write_atomic(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``: a reader sees the old file or the whole new one, never half.

    Raises:
        DataError: the folder cannot be written to, or the disk is full; names path and size.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise DataError(f"cannot write {path} ({len(content)} bytes): {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise DataError(f"cannot write {path} ({len(content)} bytes): {error.strerror}") from error
