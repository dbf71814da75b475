"""Files of data as bytes and as text: gzip undone, encodings never guessed in silence."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from harness.core.errors import DataError

MAX_FILE_BYTES = 8 << 30
"""Most bytes a file may unpack to: a guard against a zip bomb, not a limit on real data."""
MAX_RATIO = 250
"""Text packs to a tenth or a twentieth of its size; a bomb to a thousandth."""
RATIO_FROM = 256 << 20
"""Bytes from which on the ratio counts: a short file of equal lines is no bomb."""
MEMORY_PER_BYTE = 3
"""Text, its columns and the codes of its ids are in memory at once."""
MAX_LAYERS = 3
"""A file that was packed again by a download or a sync is unpacked as often as this."""
_GZIP = b"\x1f\x8b"
_OTHER_PACKINGS = (
    (b"PK\x03\x04", "a zip archive"),
    (b"BZh", "packed by bzip2"),
    (b"\xfd7zXZ\x00", "packed by xz"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"PAR1", "a Parquet file"),
)
# Four bytes above ASCII in a row, or a C1 control: the text of no Western language in Latin-1.
_NOT_WESTERN = re.compile(rb"[\x80-\x9f]|[\xa0-\xff]{4}")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a plain or gzip file, packed once or more often, for reading its content.

    Raises:
        DataError: missing, no file, unreadable, damaged or packed otherwise, also while it is read.
    """
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: a folder or a device, not a file")
        with path.open("rb") as raw:
            stream = _peeled(cast("BinaryIO", raw))
            head = stream.read(6)
            stream.seek(0)
            for mark, what in _OTHER_PACKINGS:
                if head.startswith(mark):
                    raise DataError(f"{path}: {what}; unpack it to text, or pack it by gzip")
            yield stream
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


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """Return the content of a plain or gzip file.

    Args:
        path: the file.
        limit: most bytes, unpacked; by default what memory is free for, and at most 8 GiB.

    Raises:
        DataError: missing, unreadable, damaged, or larger than ``limit`` bytes unpacked.
    """
    most = min(MAX_FILE_BYTES, free_memory() // MEMORY_PER_BYTE) if limit is None else limit
    parts: list[bytes] = []
    size = 0
    with unpacked(path) as stream:
        packed = path.stat().st_size
        while part := stream.read(min(16 << 20, most + 1 - size)):
            parts.append(part)
            size += len(part)
            if size > most:
                raise DataError(f"{path}: unpacks to more than {most} bytes, refused")
            check_ratio(path, packed, size)
    return b"".join(parts)


def check_ratio(path: Path, packed: int, size: int) -> None:
    """Refuse a file that unpacks to far more than text does.

    Raises:
        DataError: it does.
    """
    if size > RATIO_FROM and size > MAX_RATIO * packed:
        raise DataError(f"{path}: unpacks to more than {MAX_RATIO} times its {packed} bytes")


def free_memory() -> int:
    """Return the bytes of memory that can be had; a large number where that is not known."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 1 << 60


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


def as_utf8(
    data: bytes,
    path: Path,
    encoding: str | None = None,
    usual: str = "utf-8",
    first: int = 1,
) -> Text:
    """Return a file's text as UTF-8.

    Args:
        data: content of the file.
        path: for messages.
        encoding: as the user says; None reads UTF-8, or else what the format was written in.
        usual: what the format was written in before UTF-8 was usual, such as ``latin-1``.
        first: line of the file that ``data`` begins with.

    Raises:
        DataError: UTF-16, or bytes that are not in the encoding, with line and byte. The text of
            another alphabet is not taken for Latin-1, in which all bytes mean something.
    """
    if encoding is not None:
        return _decoded(data, path, encoding, first)
    if data.startswith(_UTF16):
        raise DataError(f"{path}: the file is UTF-16; save it as UTF-8, or set encoding: utf-16")
    data = data.removeprefix(codecs.BOM_UTF8)
    if data.isascii():
        return Text(data, "ascii")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        if usual != "utf-8" and not _NOT_WESTERN.search(data):
            return _decoded(data, path, usual, first)
        raise _undecodable(data, path, "utf-8", error, first) from error
    return Text(data, "utf-8")


def _decoded(data: bytes, path: Path, encoding: str, first: int) -> Text:
    try:
        text = data.decode(encoding)
        return Text(text.removeprefix("\ufeff").encode(), encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(data, path, encoding, error, first) from error
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: {encoding} gives half a character at {error.start}") from error


def _undecodable(
    data: bytes, path: Path, encoding: str, error: UnicodeDecodeError, first: int
) -> DataError:
    line = data.count(b"\n", 0, error.start) + first
    column = error.start - data.rfind(b"\n", 0, error.start)
    found = data[error.start : error.start + 1].hex()
    advice = "save it as UTF-8, or give encoding: beside path: (latin-1, cp1252, gbk, …)"
    return DataError(f"{path}:{line}:{column}: byte 0x{found} is not {encoding}; {advice}")


def lines_of(data: bytes, path: Path, first: int = 1) -> bytes:
    """Return text whose lines end in line feeds; some programs end them in carriage returns.

    Args:
        data: the text.
        path: for messages.
        first: line of the file that it begins with.

    Raises:
        DataError: there is a NUL in it, so that it is no text or is damaged.
    """
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if (place := data.find(b"\0")) >= 0:
        line = first + data.count(b"\n", 0, place)
        raise DataError(f"{path}:{line}: a NUL character; the file is no text, or damaged")
    return data


def text_stream(data: bytes) -> io.StringIO:
    """Return UTF-8 bytes as a stream of text that keeps line ends as they are."""
    return io.StringIO(data.decode(), newline="")


def control_characters(text: str) -> int:
    """Return how many characters are C1 controls or U+FFFD: what a wrong encoding leaves behind."""
    return 0 if text.isascii() else sum("\x80" <= c <= "\x9f" or c == "\ufffd" for c in text)
