"""``list``: what a scenario can name."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from harness.commands.arguments import AsJson
from harness.core.errors import ScenarioError
from harness.kinds import KINDS, Kind
from harness.reading.problems import suggest
from harness.terminal import Terminal, emit


def _complete_kind(incomplete: str) -> list[str]:
    return [kind for kind in KINDS if kind.startswith(incomplete)]


def show_list(
    kind: Annotated[str, typer.Argument(metavar="|".join(KINDS), autocompletion=_complete_kind)],
    as_json: AsJson = False,
) -> None:
    """List systems, attacks, defenses, datasets or metrics."""
    from harness.listing import entries
    from harness.plugins import load_plugins

    chosen: Kind | None = next((known for known in KINDS if known == kind), None)
    if chosen is None:
        raise ScenarioError(f"nothing called {kind!r} to list{suggest(kind, KINDS)}")
    warnings = load_plugins()
    found = entries(chosen)
    if as_json:
        emit(found)
        return
    terminal = Terminal()
    for entry in found:
        source = f" [{entry['paper']}, {entry['fidelity']}]" if "paper" in entry else ""
        terminal.say(f"{entry['name']}{source}", style="bold")
        terminal.say(f"  {entry['summary']}")
        for line in _about_data(entry):
            terminal.say(f"  {line}")
        for name, field in entry.get("parameters", {}).items():
            given = "required" if field["required"] else f"default {json.dumps(field['default'])}"
            about = f": {field['description']}" if field["description"] else ""
            terminal.say(f"    {name} ({given}){about}")
    for warning in warnings:
        terminal.say(f"warning: {warning}", style="yellow")


def _about_data(entry: dict[str, Any]) -> list[str]:
    """Return how a data set is named, what it carries and its licence; nothing for plug-ins."""
    if not entry.get("use"):
        return []
    named = f"{entry['use']}, options: …" + (", or path: alone" if entry["by_path"] else "")
    pinned = "fetched on first use" if entry["pinned"] else ""
    carries = f"carries {entry['carries']}" if entry["carries"] else ""
    licence = f"licence: {entry['licence']}" if entry["licence"] else ""
    return [line for line in (named, pinned, carries, licence) if line]
