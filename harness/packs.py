"""Scenarios to start from: the project's own, with a head that says what to do with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from harness.core.errors import RunError, ScenarioError
from harness.core.own_packages import ROOT
from harness.files import write_atomic

PACKS = {
    "clean": "clean.yaml",
    "noisy": "noisy_clients.yaml",
    "poison": "poison_20pct.yaml",
    "inversion": "gradient_inversion.yaml",
    "similarity": "embedding_similarity.yaml",
}
"""Name of each pack and the scenario it holds."""

SCHEMA_FILE = "scenario.schema.json"

_HEAD = """\
# yaml-language-server: $schema={schema}
# Yours to change. Check it, see what it will cost, run it:
#   python -m harness validate {name}
#   python -m harness plan {name}
#   python -m harness run {name}
# A list of values under `defenses` or of client fractions is a sweep; -S KEY=VALUE replaces any
# value for one run; `python -m harness list systems|attacks|defenses|datasets` says what else there
# is, with every parameter and its default.

"""


class NewFile(NamedTuple):
    """A file to be written.

    Attributes:
        path: where.
        content: what.
    """

    path: Path
    content: bytes


def pack_files(folder: Path, names: list[str]) -> list[NewFile]:
    """Return the scenario files of the packs called ``names``, as they will lie in ``folder``."""
    found: list[NewFile] = []
    for name in names:
        path = folder / PACKS[name]
        body = (ROOT / "scenarios" / PACKS[name]).read_text(encoding="utf-8")
        head = _HEAD.format(schema=SCHEMA_FILE, name=path.name)
        found.append(NewFile(path, (head + body).encode()))
    return found


def write_new(new: list[NewFile]) -> None:
    """Write the files, none of which may hold anything yet; an equal file is left as it is.

    Raises:
        ScenarioError: a file is there with other content; nothing is written.
        RunError: the folder can't be written.
    """
    todo = [file for file in new if not _is_there(file)]
    taken = [str(file.path) for file in todo if _holds_something(file.path)]
    if taken:
        raise ScenarioError(
            f"{', '.join(taken)}: already there, and init overwrites nothing; "
            "give another folder, or name other packs with --pack"
        )
    for file in todo:
        try:
            file.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{file.path.parent}: {error.strerror or error}") from error
        write_atomic(file.path, file.content)


def _is_there(file: NewFile) -> bool:
    return file.path.is_file() and file.path.read_bytes() == file.content


def _holds_something(path: Path) -> bool:
    """Whether writing at ``path`` would lose anything: only a missing or an empty file does not."""
    return os.path.lexists(path) and not (path.is_file() and not path.stat().st_size)
