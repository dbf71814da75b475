"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

File = Annotated[Path, typer.Argument(metavar="SCENARIO.yaml", help="the scenario")]
Folder = Annotated[Path, typer.Argument(metavar="RUN", help="run folder")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-S", metavar="KEY=VALUE", help="override, e.g. seeds=[0,1]"),
]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="processes")]
KeepGoing = Annotated[
    bool, typer.Option("--keep-going/--fail-fast", help="go on after a failed cell")
]
ForceUnlock = Annotated[bool, typer.Option(help="take a run folder's lock by force")]
AsJson = Annotated[
    bool, typer.Option("--json", help="one JSON document on standard output, errors included")
]
