"""Files of data as bytes and as text: gzip undone, encodings never guessed in silence."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from harness.core.errors import DataError

MAX_FILE_BYTES = 8 << 30
"""Most bytes a file may unpack to: a guard against a zip bomb, not a limit on real data."""
MAX_LAYERS = 3
"""A file that was packed again by a download or a sync is unpacked as often as this."""
_GZIP = b"\x1f\x8b"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a plain or gzip file, packed once or more often, for reading its content.

    Raises:
        DataError: missing, unreadable or damaged, also while it is read.
    """
    try:
        with path.open("rb") as raw:
            yield _peeled(cast("BinaryIO", raw))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error


def _peeled(stream: BinaryIO) -> BinaryIO:
    for _ in range(MAX_LAYERS):
        packed = stream.read(2) == _GZIP
        stream.seek(0)
        if not packed:
            break
        stream = cast("BinaryIO", gzip.GzipFile(fileobj=stream, mode="rb"))
    return stream


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """Return the content of a plain or gzip file.

    Raises:
        DataError: missing, unreadable, damaged, or larger than ``limit`` bytes unpacked.
    """
    with unpacked(path) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise DataError(f"{path}: unpacks to more than {limit} bytes, refused")
    return data


def one_of(*candidates: Path) -> Path | None:
    """Return the candidate that is there; None if there is none.

    Raises:
        DataError: several are there and do not hold the same.
    """
    there = [path for path in candidates if path.is_file()]
    for other in there[1:]:
        if read_bytes(other) != read_bytes(there[0]):
            raise DataError(
                f"{there[0]} and {other.name} are both there and differ; remove the one that is "
                "out of date"
            )
    return there[0] if there else None


class Text(NamedTuple):
    """A file's text.

    Attributes:
        data: as UTF-8, without a byte order mark.
        encoding: it was read in.
    """

    data: bytes
    encoding: str


def is_encoding(name: str) -> bool:
    """Return whether Python knows a text encoding of this name."""
    try:
        codecs.lookup(name)
        "".encode(name)
    except (LookupError, TypeError, ValueError):
        return False
    return True


def as_utf8(data: bytes, path: Path, encoding: str | None = None, usual: str = "utf-8") -> Text:
    """Return a file's text as UTF-8.

    Args:
        data: content of the file.
        path: for messages.
        encoding: as the user says; None reads UTF-8, or else what the format was written in.
        usual: what the format was written in before UTF-8 was usual, such as ``latin-1``.

    Raises:
        DataError: UTF-16, or bytes that are not in the encoding, with line and byte.
    """
    if encoding is not None:
        return _decoded(data, path, encoding)
    if data.startswith(_UTF16):
        raise DataError(f"{path}: the file is UTF-16; save it as UTF-8, or set encoding: utf-16")
    data = data.removeprefix(codecs.BOM_UTF8)
    if data.isascii():
        return Text(data, "ascii")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        if usual != "utf-8":
            return _decoded(data, path, usual)
        raise _undecodable(data, path, "utf-8", error) from error
    return Text(data, "utf-8")


def _decoded(data: bytes, path: Path, encoding: str) -> Text:
    try:
        text = data.decode(encoding)
        return Text(text.removeprefix("\ufeff").encode(), encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(data, path, encoding, error) from error
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: {encoding} gives half a character at {error.start}") from error


def _undecodable(data: bytes, path: Path, encoding: str, error: UnicodeDecodeError) -> DataError:
    line = data.count(b"\n", 0, error.start) + 1
    column = error.start - data.rfind(b"\n", 0, error.start)
    found = data[error.start : error.start + 1].hex()
    advice = "save it as UTF-8, or give encoding: beside path: (latin-1, cp1252, gbk, …)"
    return DataError(f"{path}:{line}:{column}: byte 0x{found} is not {encoding}; {advice}")


def lines_of(data: bytes) -> bytes:
    """Return text whose lines end in line feeds; some programs end them in carriage returns."""
    return data.replace(b"\r", b"\n") if b"\r" in data and b"\n" not in data else data


def text_stream(data: bytes) -> io.StringIO:
    """Return UTF-8 bytes as a stream of text that keeps line ends as they are."""
    return io.StringIO(data.decode(), newline="")


def control_characters(text: str) -> int:
    """Return how many characters are C1 controls or U+FFFD: what a wrong encoding leaves behind."""
    return 0 if text.isascii() else sum("\x80" <= c <= "\x9f" or c == "\ufffd" for c in text)
