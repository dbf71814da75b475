"""The folder of a run: its name, its lock, and the scenario it belongs to."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.core.errors import DataError, HarnessError, RunError, ScenarioError
from harness.files import write_atomic
from harness.pidlock import held
from harness.reading.paths import PATHS_FROM
from harness.reading.source import read_yaml
from harness.results import read_results
from harness.scenario import Scenario
from harness.sealing import DONE
from harness.settings import changes_bytes

LOCK = ".lock"
SCENARIO = "scenario.yaml"
RESULTS = "results.parquet"
MANIFEST = "manifest.json"
MAX_NAME = 80
_RESERVED = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]")


def slug(name: str) -> str:
    """Return a folder name for any text: a plain name as it is, others simplified, with a hash.

    The result is one path component, not empty, not hidden, not reserved on Windows, and does not
    read as an option.
    """
    plain = re.sub(r"[^a-z0-9_.]+", "-", name.lower()).strip("-.")[:MAX_NAME].rstrip("-.")
    if plain == name and not _RESERVED.fullmatch(plain.partition(".")[0]):
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain}-{digest}" if plain else f"run-{digest}"


def default_folder(scenario: Scenario, root: Path = Path("runs")) -> Path:
    """Return the scenario's folder under ``root``."""
    return root / slug(scenario.name)


def shown_name(folder: Path) -> str:
    """Return a folder's name as text that every table can hold: not every name is UTF-8."""
    return os.fsencode(folder.name).decode("utf-8", "replace")


def claim(folder: Path, scenario: Scenario, say: Callable[[str], None] = lambda line: None) -> None:
    """Create the folder and write the resolved scenario, or check that it is the one there.

    Another scenario of which nothing was trained (a first start that failed at a mistake) makes
    room, and that is said.

    Args:
        folder: the run folder; held by this process where another could use it.
        scenario: to be run there.
        say: told when another scenario is replaced.

    Raises:
        ScenarioError: the folder belongs to another scenario; the differences are named.
        RunError: the folder can't be written.
    """
    path = folder / SCENARIO
    if path.exists():
        stored = read_yaml(path).root.plain()
        start = stored.pop(PATHS_FROM, "") if isinstance(stored, dict) else ""
        different = sorted(_differences(stored, json.loads(json.dumps(scenario.identity()))))
        if different and not _anything_trained(folder):
            say(f"{folder} held another scenario, of which nothing was trained; it is replaced")
            shutil.rmtree(folder / "cells", ignore_errors=True)
            for name in (RESULTS, "results.json", "samples.parquet", MANIFEST, "report.html"):
                (folder / name).unlink(missing_ok=True)
            write_atomic(path, scenario.resolved_yaml(folder).encode())
        elif different:
            raise ScenarioError(
                f"{folder} holds another scenario; it differs in {', '.join(different[:5])}"
                f"{' …' if len(different) > 5 else ''}. Give another folder with --out"
            )
        elif scenario.written and start != scenario.starts_at(folder):
            # The study was moved, or the run from beside it: its paths now start elsewhere.
            write_atomic(path, scenario.resolved_yaml(folder).encode())
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, scenario.resolved_yaml(folder).encode())
    except OSError as error:
        raise RunError(f"{folder}: {error.strerror or error}") from error


def _anything_trained(folder: Path) -> bool:
    """Whether a cell is done, rounds of one are kept, or the table holds any number."""
    cells = folder / "cells"
    if any(cells.glob(f"*/{DONE}")) or any(cells.glob("*/rounds/*")):
        return True
    if not (folder / RESULTS).is_file():
        return False
    try:
        return bool((read_results(folder)["status"] == "ok").any())
    except DataError:
        return True


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            below = f"{path}.{key}" if path else key
            if below == "compute":
                before, after = changes_bytes(old.get(key, {})), changes_bytes(new.get(key, {}))
                yield from (
                    f"compute.{k}" for k in ("device", "precision") if before.get(k) != after.get(k)
                )
                continue
            if key not in old or key not in new:
                yield below
            else:
                yield from _differences(old[key], new[key], below)
    elif old != new:
        yield path


class _Taken(HarnessError):
    """The lock is held."""


@contextmanager
def run_lock(folder: Path, *, force: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a run folder for this process alone.

    The lock of a process that is gone is taken over, and that is said.

    Args:
        folder: the run folder; made where it is missing.
        force: take the lock even though its holder seems alive.
        say: told about a stale lock.

    Raises:
        RunError: another process holds it, or it can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: {error.strerror or error}") from error
    path = folder / LOCK
    if force and path.exists():
        say(f"removing the lock of {_holder(path)}, as told")
        path.unlink(missing_ok=True)

    def quietly(line: str) -> None:
        if not line.startswith("waiting"):
            say(line)

    with ExitStack() as stack:
        try:
            lock = held(path, error=_Taken, deadline_seconds=-1.0, progress=quietly)
            stack.enter_context(lock)
        except _Taken as error:
            raise RunError(
                f"{folder} is in use by {_holder(path)}; wait for it, or, if it no longer runs, "
                "add --force-unlock"
            ) from error
        except OSError as error:
            raise RunError(f"{path}: {error.strerror or error}") from error
        yield


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        since = datetime.fromtimestamp(float(holder["started"]), UTC)
        return f"process {holder['pid']} on {holder['host']} (since {since:%Y-%m-%d %H:%M} UTC)"
    except (OSError, ValueError, KeyError, TypeError):
        return "an unknown process"
