"""The reference page of all components, made from the registry: ``make docs`` writes it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.listing import entries
from harness.plugins import load_plugins

HEAD = """# Components

Made by `make docs` from the code; a test fails when it is out of date. The same for
programs: `python -m harness list systems|attacks|defenses|datasets|metrics [--json]`.
"""


def components_page() -> str:
    """Return the page in Markdown; the plug-ins must have been loaded."""
    return "\n".join([HEAD, *_systems(), *_attacks(), *_defenses(), *_datasets(), *_metrics()])


def _systems() -> list[str]:
    found, lines = entries("systems"), ["## Systems", ""]
    lines += _table(
        ("name", "what it is", "a client is", "sends", "source"),
        [(e["name"], e["summary"], e["client"], e["emits"], _source(e)) for e in found],
    )
    for entry in found:
        if entry["deviations"]:
            lines += ["", f"**Where `{entry['name']}` differs from its paper, and why**", ""]
            lines += [f"- {_inline(d['what'])}: {_inline(d['why'])}." for d in entry["deviations"]]
        lines += ["", *_parameters(entry)]
    return [*lines, ""]


def _attacks() -> list[str]:
    found = entries("attacks")
    rows = [
        (
            e["name"],
            e["summary"],
            e["kind"],
            ", ".join(e["reads"]),
            e["threat_model"]["words"],
            _source(e),
        )
        for e in found
    ]
    columns = ("name", "what it does", "kind", "reads", "the adversary", "source")
    return ["## Attacks", "", *_table(columns, rows), "", *_all_parameters(found)]


def _defenses() -> list[str]:
    found = entries("defenses")
    rows = [
        (e["name"], e["summary"], e["strength"] or "–", ", ".join(e["reads"]) or "–", _source(e))
        for e in found
    ]
    columns = ("name", "what it does", "strength", "acts on", "source")
    return ["## Defences", "", *_table(columns, rows), "", *_all_parameters(found)]


def _datasets() -> list[str]:
    found = entries("datasets")
    rows = [
        (f"`{e['use']}`", e["summary"], "yes" if e["by_path"] else "–", e["carries"] or "–",
         e["licence"] or "your own")
        for e in found if e["use"]
    ]  # fmt: skip
    columns = ("in a scenario", "what it reads", "also by `path:` alone", "carries", "licence")
    return ["## Data sets", "", *_table(columns, rows), "", *_all_parameters(found)]


def _metrics() -> list[str]:
    rows = [(e["name"], e["title"], e["summary"]) for e in entries("metrics")]
    return ["## Metrics", "", *_table(("name", "in the report", "meaning"), rows), ""]


def _all_parameters(found: Sequence[dict[str, Any]]) -> list[str]:
    return [line for entry in found for line in _parameters(entry)]


def _parameters(entry: dict[str, Any]) -> list[str]:
    if not entry["parameters"]:
        return []
    rows = [
        (name, "required" if field["required"] else _value(field["default"]), field["description"])
        for name, field in entry["parameters"].items()
    ]
    body = _table(("parameter", "default", "meaning"), rows)
    summary = f"<summary>Parameters of <code>{entry['name']}</code></summary>"
    return [f"<details>{summary}", "", *body, "", "</details>", ""]


def _value(default: Any) -> str:
    return f"`{json.dumps(default, ensure_ascii=False)}`"


def _source(entry: dict[str, Any]) -> str:
    return f"{entry['paper']}, {entry['fidelity']}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    body = [[_inline(cell) for cell in row] for row in rows]
    rule = ["---"] * len(columns)
    return [f"| {' | '.join(line)} |" for line in (columns, rule, *body)]


def _inline(text: str) -> str:
    """Return text that breaks neither a table's cell nor its row."""
    return " ".join(str(text).replace("|", "\\|").replace("<", "&lt;").split())


def main() -> None:
    """Write the page to the file that is named."""
    load_plugins()
    Path(sys.argv[1]).write_text(components_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
