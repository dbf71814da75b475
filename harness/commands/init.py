"""``init``: scenarios to start from."""

from __future__ import annotations

import shlex
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from harness.terminal import Terminal


class Pack(Enum):
    """What a new scenario is about."""

    clean = "clean"
    noisy = "noisy"
    poison = "poison"
    inversion = "inversion"
    similarity = "similarity"


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="made where it is missing")],
    pack: Annotated[
        list[Pack] | None, typer.Option(help="only these; default: one scenario of each")
    ] = None,
) -> None:
    """Write scenarios to start from, and their schema for editors; nothing is overwritten."""
    from harness.editor_schema import schema_text
    from harness.packs import PACKS, SCHEMA_FILE, NewFile, pack_files, write_new

    names = [chosen.value for chosen in pack] if pack else list(PACKS)
    scenarios = pack_files(folder, list(dict.fromkeys(names)))
    write_new([*scenarios, NewFile(folder / SCHEMA_FILE, schema_text().encode())])
    terminal = Terminal()
    for file in scenarios:
        terminal.say(str(file.path))
    first = shlex.quote(str(scenarios[0].path))
    terminal.say(f"\nnext: python -m harness plan {first}")
