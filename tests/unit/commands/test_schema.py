"""The schema for editors: every real scenario fits it, and the mistakes it can know do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.editor_schema import scenario_schema
from harness.listing import entries
from harness.reading.layers import read_layers
from harness.reading.source import parse_yaml
from tests.unit.commands.schema_check import violations

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "scenarios"
SCENARIOS = sorted(p for p in FOLDER.rglob("*.yaml") if p.parent.name != "gates")
MINIMAL = """
schema: 1
name: x
seeds: [0]
datasets: {a: {use: ml-100k}}
systems: {s: {use: lumos, dataset: a}}
"""


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads(json.dumps(scenario_schema(), allow_nan=False))


def broken(text: str, schema: dict[str, Any]) -> list[str]:
    return violations(parse_yaml(text, "x").root.plain(), schema, schema)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_scenario_of_the_project_fits(path: Path, schema: dict[str, Any]) -> None:
    assert len(SCENARIOS) >= 12
    assert violations(read_layers(path).root.plain(), schema, schema) == []


@pytest.mark.parametrize(
    "section",
    [
        "anchors: true",
        "anchors: {popularity: null, deep: {use: central_sasrec, epochs: 3}}",
        "defenses: {a: [{use: trimmed_mean, trim: [0.1, 0.2]}, {use: local_dp}]}",
        "defenses: {a: {parts: [{use: trimmed_mean}], under: [none], systems: [s]}}",
        "defenses: {a: {use: dp_fedavg, epsilon: [1.0, null], under: [none]}}",
        "defenses: {a: {use: local_dp, noise_multiplier: {from: 0.1, to: 1}}}",
        "defenses: {a: [{use: trimmed_mean, trim: {from: 0, to: 0.4, spacing: linear}}]}",
        "clients: {noisy: {fraction: 0.1}, malicious: {fraction: [0.1, 0.2]}}",
        "record: {rounds: [first, 3, last]}",
        "targets: {items: [Heat]}",
    ],
)
def test_every_way_of_writing_fits(section: str, schema: dict[str, Any]) -> None:
    assert broken(f"{MINIMAL}{section}\n", schema) == []


@pytest.mark.parametrize(
    ("section", "where"),
    [
        ("defense: {}", ".defense: not allowed"),
        ("attacks: {a: {use: a_hum, bost: 2}}", ".attacks.a.bost: not allowed"),
        ("attacks: {a: {use: ahum}}", ".attacks.a.use"),
        ("attacks: {a: {use: a_hum, boost: [1, 2]}}", ".attacks.a.boost"),
        ("attacks: {a: {boost: 2}}", ".attacks.a: use is missing"),
        ("defenses: {a: {use: trimmed_mean, trim: 0.5}}", ".defenses.a.trim"),
        ("defenses: {a: {use: trimmed_mean, trim: [0.1, x]}}", ".defenses.a.trim"),
        ("defenses: {a: {use: trimmed_mean, trim: {from: 0.1, two: 1}}}", ".defenses.a.trim"),
        ("defenses: {a: {use: trimmed_mean, rows: {from: 0.1, to: 1}}}", ".defenses.a.rows"),
        ("defenses: {a: [{use: trimmed_mean, under: [none]}]}", ".defenses.a.0.under"),
        ("defenses: {a: {under: [none]}}", ".defenses.a"),
        ("anchors: {popularity: {epochs: 3}}", ".anchors"),
        ("anchors: {s: {use: lumos}}", ".anchors"),
        ("clients: {noisy: {fraction: 1.5}}", ".clients.noisy.fraction"),
        ("record: {rounds: [second]}", ".record.rounds.0"),
        ("evaluation: {k: []}", ".evaluation.k"),
    ],
)
def test_mistakes_of_form_do_not_fit(section: str, where: str, schema: dict[str, Any]) -> None:
    found = broken(f"{MINIMAL}{section}\n", schema)
    assert found and any(text.startswith(where) for text in found), found


def test_only_a_file_that_extends_another_may_leave_things_out(schema: dict[str, Any]) -> None:
    assert broken("extends: base.yaml\nsystems: {s: {rounds: 3}}", schema) == []
    assert broken("name: x", schema) == [": schema is missing", ": seeds is missing",
                                         ": datasets is missing"]  # fmt: skip
    assert broken(MINIMAL.replace(", dataset: a", ""), schema) == [".systems.s: dataset is missing"]


def test_every_parameter_of_every_plugin_is_known(schema: dict[str, Any]) -> None:
    properties = schema["properties"]
    sections = {
        "systems": properties["systems"]["additionalProperties"],
        "anchors": properties["anchors"]["anyOf"][1]["additionalProperties"],
        "attacks": properties["attacks"]["additionalProperties"],
        "defenses": properties["defenses"]["additionalProperties"]["else"]["else"],
    }
    known = {
        (rule["if"]["properties"]["use"]["const"], name)
        for section in sections.values()
        for rule in section["allOf"]
        for name in rule["then"]["properties"]
    }
    wanted = {
        (entry["name"], name)
        for kind in ("systems", "attacks", "defenses")
        for entry in entries(kind)
        for name in ("use", *entry["parameters"])
    }
    assert len(wanted) > 50 and wanted <= known
    assert "boost" in sections["attacks"]["allOf"][0]["then"]["properties"]


def test_the_command_prints_the_schema_and_its_help_says_how_to_use_it(
    schema: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema
    assert main(["schema", "--help"]) == 0
    assert "yaml-language-server: $schema=" in " ".join(capsys.readouterr().out.split())
