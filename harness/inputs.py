"""What a cell's numbers come from besides its scenario, by content: its data and its local models.

A scenario names data and models; what lies under a name can change between two commands, and while
one runs. Finished cells keep what they were made from, every cell that starts is held against what
the run started with, and cells of other data or models never share a table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from harness.asset_table import ASSETS
from harness.cells import Cell
from harness.core.errors import DataError
from harness.language.cache import model_identity
from harness.sealing import DONE

Stamp = tuple[tuple[str, int, int], ...]
"""Name, size and time of change (ns) of every file: what is cheap to ask before a cell starts."""
_SHOWN = 3


class Inputs(NamedTuple):
    """What one cell is made from.

    Attributes:
        data: SHA-256 of the prepared data; empty where it was not recorded.
        models: hash of every model that is a local folder or file, by the name the scenario gives.
    """

    data: str
    models: Mapping[str, str]

    def document(self) -> dict[str, Any]:
        """In JSON's types."""
        return {"data": self.data, "models": dict(self.models)}


class Difference(NamedTuple):
    """One input of a cell that is not what the run expects.

    Attributes:
        what: the data set or model, as the scenario calls it.
        expected: short hash.
        found: short hash.
    """

    what: str
    expected: str
    found: str


@dataclass(frozen=True)
class Expected:
    """What the data sets and models of a run were when it started.

    Attributes:
        data: hash of each data set, by label.
        models: hash of each local model, by the name that the scenario gives.
    """

    data: Mapping[str, str]
    models: Mapping[str, str] = field(default_factory=dict[str, str])

    def differences(self, cell: Cell, found: Inputs) -> list[Difference]:
        """What of a cell is not as expected; what was not recorded is not compared."""
        label = cell.dataset_label
        pairs = [(f"data set {label!r}", [self.data.get(label, found.data)], found.data)]
        # A model that lay elsewhere, in a study that was moved, must be one of today's.
        todays = sorted(set(self.models.values()))
        pairs += [
            (f"model {ref!r}", [self.models[ref]] if ref in self.models else todays, given)
            for ref, given in found.models.items()
        ]
        return [
            Difference(what, " or ".join(map(_short, allowed)), _short(given))
            for what, allowed, given in pairs
            if given and allowed and given not in allowed
        ]

    def require(self, cell: Cell, found: Inputs) -> None:
        """Refuse to work on a cell whose data or models changed since the run started.

        Raises:
            DataError: names what changed, with both hashes.
        """
        changed = [
            f"{d.what} has changed while the run goes on (hash {d.expected} at its start, "
            f"{d.found} now)"
            for d in self.differences(cell, found)
        ]
        if changed:
            raise DataError(
                f"{'; '.join(changed)}. One table does not mix them: restore what was there and "
                "run again, or give another folder with --out"
            )


def local_models(references: Iterable[str]) -> dict[str, str]:
    """Return the hash of every model that lies in a local folder or file, by its reference.

    Pinned assets are checked when they are fetched, and a hub name stands for itself.

    Raises:
        AssetError: a folder holds no model files.
    """
    found: dict[str, str] = {}
    for ref in sorted(set(references)):
        path = Path(ref).expanduser()
        if ref not in ASSETS and path.exists():
            found[ref] = _model_hash(path, stamp_of([path], deep=True))
    return found


@lru_cache(maxsize=32)
def _model_hash(path: Path, stamp: Stamp) -> str:
    """Hash a model once for as long as none of its files changes in size or time."""
    del stamp
    if path.is_file():
        from harness.wheel import sha256_of

        return sha256_of(path)
    return model_identity(path)


def stamp_of(paths: Sequence[Path], *, deep: bool = False) -> Stamp:
    """Return name, size and time of change of files and of the files in folders.

    Args:
        paths: what is missing is left out, so that its loss shows as a change.
        deep: look into folders of folders as well.
    """
    return tuple(sorted(_stamps(paths, deep)))


def _stamps(paths: Sequence[Path], deep: bool) -> Iterator[tuple[str, int, int]]:
    for path in paths:
        inside = (path.rglob("*") if deep else path.glob("*")) if path.is_dir() else (path,)
        for file in inside:
            try:
                if file.is_file():
                    known = file.stat()
                    yield str(file), known.st_size, known.st_mtime_ns
            except OSError:
                continue


def data_paths(dataset: Mapping[str, Any]) -> list[Path]:
    """Return the folders of what a data set's configuration names: a log has files beside it."""
    return sorted(set(_named(dataset, inside=False)))


def _named(value: Any, inside: bool) -> Iterator[Path]:
    """Yield texts under ``path`` and ``options`` that are paths which exist."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _named(below, inside or key in ("path", "options"))
    elif inside and isinstance(value, str) and value and "\0" not in value:
        path = Path(value).expanduser()
        try:
            if path.exists():
                yield path if path.is_dir() else path.parent
        except OSError:  # longer than a name may be: no path
            return


def recorded(folder: Path) -> Inputs | None:
    """Return what a finished cell was made from; None where nothing tells.

    Args:
        folder: of the cell. Cells of earlier versions tell their data only, in their table.

    Raises:
        DataError: the cell's table cannot be read.
    """
    try:
        inputs = json.loads((folder / DONE).read_bytes())["inputs"]
        return Inputs(str(inputs["data"]), {str(k): str(v) for k, v in inputs["models"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    if not (folder / "results.parquet").is_file():
        return None
    from harness.results import read_table

    hashes = read_table(folder)["data_hash"].unique().to_pylist()
    known = [value for value in hashes if value]
    return Inputs(known[0], {}) if len(known) == 1 else None


def require_same(folder: Path, finished: Sequence[Cell], expected: Expected, remedy: str) -> None:
    """Refuse to go on with a run whose finished cells come from other data or models.

    Args:
        folder: the run folder, as the user gave it.
        finished: cells with results.
        expected: what data and models are now.
        remedy: what to do other than to restore them.

    Raises:
        DataError: names what changed, both hashes and the cells.
    """
    changed: dict[Difference, list[str]] = {}
    for cell in finished:
        before = recorded(folder / "cells" / cell.id)
        for difference in expected.differences(cell, before) if before else ():
            changed.setdefault(difference, []).append(cell.id)
    if changed:
        raise DataError(
            f"{folder}: {'; '.join(_sentence(*entry) for entry in changed.items())}. One table "
            f"does not mix them: restore what was there, or {remedy}"
        )


def _sentence(now: Difference, cells: Sequence[str]) -> str:
    more = f" and {len(cells) - _SHOWN} more" if len(cells) > _SHOWN else ""
    return (
        f"{now.what} has changed since {len(cells)} cell{'s were' if len(cells) > 1 else ' was'} "
        f"done (hash {now.found} then, {now.expected} now; done: {', '.join(cells[:_SHOWN])}{more})"
    )


def _short(value: str) -> str:
    """Enough of a hash to tell two apart; of two domains, of each."""
    return "+".join(part[:12] for part in value.split("+"))
