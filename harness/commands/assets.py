"""``assets``: the pinned models and data sets."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.commands.arguments import AsJson
from harness.terminal import Terminal, complain, emit


def assets(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]… | all")] = None,
    as_json: AsJson = False,
) -> None:
    """List the pinned models and data sets, or fetch and check some of them."""
    from harness.assets import ASSETS

    if names:
        _fetch(list(ASSETS) if names == ["all"] else names, as_json)
    else:
        _list(as_json)


def _list(as_json: bool) -> None:
    from harness.assets import ASSETS, is_complete

    if as_json:
        shown = ("name", "kind", "package", "version", "sha256", "megabytes", "licence")
        entries = [
            {**{name: getattr(asset, name) for name in shown}, "fetched": is_complete(asset)}
            for asset in ASSETS.values()
        ]
        emit({"ok": True, "assets": entries})
        return
    rows = [
        (a.name, a.kind, f"{a.megabytes:g} MB", "fetched" if is_complete(a) else "–", a.licence)
        for a in ASSETS.values()
    ]
    Terminal().table(("name", "kind", "download", "state", "licence"), rows)


def _fetch(names: list[str], as_json: bool) -> None:
    """Fetch and check; in words as each is ready, in JSON all at the end."""
    from harness.assets import fetch, verify

    terminal, checked = Terminal(), []
    for name in names:
        path = fetch(name, progress=complain)
        files = verify(name)
        checked.append({"name": name, "path": str(path), "files": files})
        if not as_json:
            terminal.say(f"{name}: {len(files)} files checked in {path}")
    if as_json:
        emit({"ok": True, "checked": checked})
