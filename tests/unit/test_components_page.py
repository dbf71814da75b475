"""The reference page must be what the code says today."""

from __future__ import annotations

from pathlib import Path

from harness.components_page import components_page
from harness.core.registry import ATTACKS, DEFENSES, SYSTEMS
from harness.plugins import load_plugins

PAGE = Path(__file__).resolve().parents[2] / "docs" / "components.md"


def test_the_page_is_current():
    load_plugins()
    assert PAGE.read_text(encoding="utf-8") == components_page(), "run `make docs`"


def test_every_component_and_every_parameter_stands_on_it():
    load_plugins()
    page = components_page()
    for registry in (SYSTEMS, ATTACKS, DEFENSES):
        for name, plugin in registry:
            assert f"| {name} |" in page
            for parameter in plugin.Config.model_fields:
                assert f"| {parameter} |" in page


def test_no_cell_breaks_its_row():
    load_plugins()
    table = [line for line in components_page().splitlines() if line.startswith("|")]
    assert all(line.endswith(" |") for line in table)
