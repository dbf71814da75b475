"""What a verdict rests on, hashed into the manifest, and what of it is no longer as it was written.

The table of results holds the hash of the values per user; the manifest holds the hash of the
table, of the scenario and of the record of refinement, how many rows and values each cell has, and
its own hash. Hashes show an edit by hand; they do not stop someone who makes them again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.core.errors import DataError
from harness.digests import sha256
from harness.verifying import cell_counts, rows_hash, unhashed_samples, verify_results

MANIFEST = "manifest.json"
DONE = "done.json"
"""Last file of a finished cell."""
FILES = ("scenario.yaml", "refinement.json")
"""Files beside the tables that decide what a verdict means."""
FINISHED = frozenset({"done", "complete", "finished"})
"""What a manifest's status may be where every planned cell was run."""
_TABLES = ("results.parquet", "samples.parquet", "results.json")
_SHOWN = 5
OLDER = "written by a version that kept no hash of it"


class Seals(NamedTuple):
    """What can be said of a run folder's files.

    Attributes:
        edits: what was changed since it was written, in words.
        unchecked: what nothing tells about, in words: the run was written by an earlier version,
            or the manifest is missing.
        lost: planned cells, rows and values per user that are not there any more, in words.
    """

    edits: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """All of it."""
        return (*self.edits, *self.unchecked, *self.lost)


def sealed(folder: Path, document: Mapping[str, Any], planned: Sequence[str]) -> bytes:
    """Return a manifest with the hashes of the folder's files, as it is written.

    Args:
        folder: holds the tables.
        document: the manifest without hashes.
        planned: ids of all cells that the run was to have.
    """
    if not (folder / "results.parquet").is_file():
        return json.dumps(dict(document), indent=1).encode() + b"\n"  # a full disk: no tables yet
    rows, values = cell_counts(folder)
    files = {name: _hash(folder / name) for name in FILES if (folder / name).is_file()}
    cells = {cell: [rows[cell], values[cell]] for cell in planned}
    record = {**document, "sealed": {"rows": rows_hash(folder), "files": files, "cells": cells}}
    return json.dumps({**record, "sha256": _own_hash(record)}, indent=1).encode() + b"\n"


def cell_hashes(folder: Path) -> dict[str, str]:
    """Return the hashes of a finished cell's tables, which its last file keeps."""
    return {name: _hash(folder / name) for name in _TABLES if (folder / name).is_file()}


def require_unedited(folder: Path, cells: Sequence[str]) -> None:
    """Refuse to make a run's tables of cells whose own tables were edited.

    Args:
        folder: the run folder, as the user gave it.
        cells: ids of finished cells; those of earlier versions kept no hashes and are passed over.

    Raises:
        DataError: names the files.
    """
    edited: list[str] = []
    for cell in cells:
        place = folder / "cells" / cell
        try:
            kept = json.loads((place / DONE).read_bytes()).get("files")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(kept, dict):
            now = cell_hashes(place)
            edited += [str(place / name) for name in kept if now.get(name) != kept[name]]
    if edited:
        raise DataError(
            f"{_named(edited)}: not as the cell wrote {'it' if len(edited) == 1 else 'them'}; "
            "restore it, or delete the cell's folder to have the cell run again"
        )


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return a run's manifest; None where there is none.

    Raises:
        DataError: it cannot be read, or is no JSON object.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: not a JSON object")
    return found


def verify_run(folder: Path) -> Seals:
    """Say what of a run folder was edited, cannot be checked, or is lost.

    Raises:
        DataError: the table of results is missing or unreadable.
    """
    edits = [*verify_results(folder)]
    unchecked = [f"samples.parquet: {OLDER}"] if unhashed_samples(folder) else []
    try:
        manifest = read_manifest(folder)
    except DataError as error:
        return Seals((*edits, str(error).removeprefix(f"{folder}/")), tuple(unchecked))
    if manifest is None:
        return Seals(tuple(edits), (*unchecked, f"{MANIFEST} is missing"))
    seal = manifest.get("sealed")
    if not isinstance(seal, dict) or "sha256" not in manifest:
        return Seals(
            tuple(edits), (*unchecked, f"{MANIFEST}: {OLDER}"), tuple(_short_of(folder, manifest))
        )
    own = {key: value for key, value in manifest.items() if key != "sha256"}
    if _own_hash(own) != manifest["sha256"]:
        edits.append(f"{MANIFEST} does not have the hash it was written with")
    if seal.get("rows") != rows_hash(folder):
        edits.append(f"results.parquet is not the one that {MANIFEST} was written for")
    edits += _changed_files(folder, seal)
    return Seals(tuple(edits), tuple(unchecked), tuple(_lost(folder, seal)))


def _changed_files(folder: Path, seal: Mapping[str, Any]) -> list[str]:
    known = seal.get("files")
    files: Mapping[str, Any] = known if isinstance(known, dict) else {}
    found: list[str] = []
    for name in FILES:
        there = (folder / name).is_file()
        if name in files and not there:
            found.append(f"{name} is missing")
        elif there and _hash(folder / name) != files.get(name):
            found.append(f"{name} does not have the hash it was written with")
    return found


def _lost(folder: Path, seal: Mapping[str, Any]) -> list[str]:
    """Cells, rows and values that the manifest counts and the tables lack."""
    cells = seal.get("cells")
    if not isinstance(cells, dict) or not cells:
        return []
    rows, values = cell_counts(folder)
    # A cell that an unfinished run had not come to was not there to be lost.
    gone = [cell for cell in cells if _count(cells[cell], 0) and not rows[cell]]
    found = [_gone(gone, len(cells))] if gone else []
    for name, have, place in (("rows", rows, 0), ("values per user", values, 1)):
        found += _fewer(name, {cell: _count(cells[cell], place) for cell in cells}, have, gone)
    return found


def _fewer(
    name: str, written: Mapping[str, int], have: Mapping[str, int], gone: Sequence[str]
) -> list[str]:
    short = [c for c, number in written.items() if have[c] < number and c not in gone]
    if not short:
        return []
    lost, total = (sum(written[c] - have[c] for c in short), sum(written[c] for c in short))
    return [
        f"{lost:,} of {total:,} {name} ({lost / total:.1%}) of {len(short)} "
        f"cell{'s' if len(short) > 1 else ''} are lost: {_named(short)}"
    ]


def _short_of(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Cells that an older manifest counts and the table lacks; it does not know their names."""
    plan = manifest.get("plan")
    planned = plan.get("cells") if isinstance(plan, dict) else None
    rows, _ = cell_counts(folder)
    have = sum(1 for cell in rows if cell)
    finished = manifest.get("status") in FINISHED
    if not finished or not isinstance(planned, int) or have >= planned:
        return []
    lost = planned - have
    return [f"{lost} of {planned} planned cells ({lost / planned:.1%}) have no row"]


def _gone(gone: Sequence[str], planned: int) -> str:
    verb = "has" if len(gone) == 1 else "have"
    share = f"{len(gone) / planned:.1%}"
    return f"{len(gone)} of {planned} planned cells ({share}) {verb} no row: {_named(gone)}"


def _named(cells: Sequence[str]) -> str:
    more = f" and {len(cells) - _SHOWN} more" if len(cells) > _SHOWN else ""
    return ", ".join(cells[:_SHOWN]) + more


def _count(entry: Any, place: int) -> int:
    try:
        return int(entry[place])
    except (TypeError, ValueError, IndexError, KeyError):
        return 0


def _hash(path: Path) -> str:
    """Hash a file; where a scenario's paths start may change, as data are hashed by content."""
    try:
        content = path.read_bytes()
        if path.name == FILES[0] and content.startswith(b"paths_from: "):
            content = content.partition(b"\n")[2]
        return sha256(content)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error


def _own_hash(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode("utf-8", "surrogatepass"))
