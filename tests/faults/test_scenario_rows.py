"""Rows 12, 16, 22 and 23 of the table of faults: paths, sizes and numbers that no run can mean."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import harness.plan
from harness.cli import main
from harness.core.registry import ATTACKS, DEFENSES, SYSTEMS
from harness.data import DatasetConfig
from harness.plugins import load_plugins
from harness.scenario import Scenario

SMALL = """schema: 1
name: {name}
seeds: {seeds}
datasets: {{movies: {{use: ml-100k}}}}
systems: {{lumos: {{use: lumos, dataset: movies{system}}}}}
clients: {{noisy: {{fraction: {noisy}}}, malicious: {{fraction: {malicious}}}}}
attacks: {{flip: {{use: sign_flip}}}}
defenses: {{trim: {{use: trimmed_mean, trim: {trim}}}}}
{more}
"""


def write(folder: Path, **parts: Any) -> Path:
    usual = {"name": "s", "seeds": [0], "system": "", "noisy": 0.0, "malicious": 0.2, "more": ""}
    path = folder / "s.yaml"
    path.write_text(SMALL.format_map({**usual, "trim": 0.2, **parts}), encoding="utf-8")
    return path


def spread(count: int) -> list[float]:
    return [round((i + 1) / (2.1 * count), 9) for i in range(count)]


@pytest.fixture
def nothing_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a cell was made before the cells were counted")

    monkeypatch.setattr(harness.plan, "make_cell", refuse)


@pytest.mark.usefixtures("nothing_is_expanded")
@pytest.mark.parametrize("verb", ["validate", "plan", "run"])
def test_row_22_a_grid_of_millions_is_counted_first(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(
        tmp_path,
        seeds=list(range(100)),
        noisy=spread(100),
        malicious=spread(100),
        trim=spread(10),
    )
    start = time.process_time()
    code = main([verb, str(path)])
    took = time.process_time() - start
    shown = capsys.readouterr()
    # 3 anchors, and 11 arms without attack and at each of 100 malicious fractions.
    cells = 100 * 100 * (3 + 11 * 101)
    assert f"{cells:,} cells, more than 10,000" in shown.out + shown.err
    assert code == (2 if verb == "run" else 0)
    assert took < 10
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("nothing_is_expanded")
def test_row_22_thousands_of_fractions_are_counted_in_seconds(tmp_path: Path) -> None:
    start = time.process_time()
    assert main(["validate", str(write(tmp_path, noisy=spread(5000), malicious=0.1))]) == 0
    assert time.process_time() - start < 10


def test_row_22_sweeps_of_parts_multiply_only_so_far(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = "{{use: local_dp, noise_multiplier: {}}}"
    parts = ", ".join(part.format(spread(100)) for _ in range(2))
    path = write(tmp_path, more=f"#\nanchors: false\n# {parts[:0]}")
    text = path.read_text().replace(
        "defenses: {trim: {use: trimmed_mean, trim: 0.2}}",
        f"defenses: {{two: {{parts: [{parts}]}}}}",
    )
    path.write_text(text)
    assert main(["validate", str(path)]) == 2
    assert "the parts' sweeps have 10,000 combinations; at most 1,000" in capsys.readouterr().err


@pytest.mark.parametrize("name", ['"a\\0b.yaml"', "a" * 300 + ".yaml", "b/" * 3000 + "c.yaml"])
def test_row_12_extends_names_what_no_file_is_called(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"extends: {name}\nschema: 1\n")
    assert main(["validate", str(path)]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"{path}:1:10: extends: ")
    assert "internal error" not in shown


@pytest.mark.parametrize("folder", ["x" * 300, "y/" * 3000, "a\0b"])
@pytest.mark.parametrize("verb", ["run", "plan", "report", "gate", "compare", "score", "retry"])
def test_row_23_a_folder_that_cannot_exist_is_one_line(
    verb: str,
    folder: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    scenario = str(write(tmp_path))
    arguments = {
        "run": [scenario, "--limit", "0", "--out", folder],
        "plan": [scenario, "--like", folder],
        "gate": [folder, "--limits", scenario],
        "compare": [folder, folder],
    }
    # What the command line can tell is a usage error; what the system tells is the run's.
    assert main([verb, *arguments.get(verb, [folder])]) in (2, 3, 4)
    shown = capsys.readouterr().err
    assert "internal error" not in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    "setting",
    [
        "systems.lumos.rounds",
        "systems.lumos.embedding_size",
        "systems.lumos.local_epochs",
        "systems.lumos.max_length",
        "evaluation.bootstrap",
        "evaluation.candidates",
        "evaluation.k",
        "record.clients",
        "seeds",
    ],
)
def test_row_23_integers_of_thirty_digits_are_out_of_range(
    setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path)
    huge = "9" * 29
    value = f"[{huge}]" if setting in ("seeds", "evaluation.k") else huge
    assert main(["validate", str(path), "-S", f"{setting}={value}"]) == 2
    assert "less than" in capsys.readouterr().err


def unbounded(schema: Any, place: str = "") -> Iterator[str]:
    """Yield the integers of a JSON schema that have no largest value."""
    if isinstance(schema, list):
        for index, child in enumerate(schema):
            yield from unbounded(child, f"{place}[{index}]")
    if not isinstance(schema, dict):
        return
    limits = ("maximum", "exclusiveMaximum", "const", "enum")
    if schema.get("type") == "integer" and not any(limit in schema for limit in limits):
        yield place
    for key, child in schema.items():
        yield from unbounded(child, f"{place}.{key}")


def test_every_integer_a_scenario_may_give_has_a_largest_value() -> None:
    load_plugins()
    models = {
        name: plugin.Config
        for registry in (SYSTEMS, ATTACKS, DEFENSES)
        for name, plugin in registry
    }
    models |= {"scenario": Scenario, "datasets": DatasetConfig}
    found = [
        p for name, model in models.items() for p in unbounded(model.model_json_schema(), name)
    ]
    assert found == []
    assert list(unbounded({"properties": {"n": {"type": "integer", "minimum": 0}}}))


@pytest.mark.parametrize("use", ["dp_fedavg", "local_dp"])
@pytest.mark.parametrize("verb", ["validate", "plan"])
def test_row_16_a_budget_that_means_nothing_anywhere_is_said(
    verb: str, use: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path)
    swept = "[1.0, 8.0, 100.0, 101.0, 102.0, 103.0]"
    budget = f"{{use: {use}, epsilon: {swept}, noise_multiplier: null, delta: 0.5}}"
    assert main([verb, str(path), "-S", f"defenses.dp={budget}", "--json"]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    said = [warning for warning in warnings if warning.startswith("dp: ")]
    assert len(said) == 5 and said[1] == f"dp: {use}: epsilon 100 is hardly a guarantee"
    assert "delta 0.5 allows giving away one client in 2 whole" in said[0]
    assert said[-1] == "dp: 1 more such warnings on its other settings"
    capsys.readouterr()
    mended = f"{{use: {use}, epsilon: 8.0, noise_multiplier: null, delta: 1.0e-5}}"
    assert main([verb, str(path), "-S", f"defenses.dp={mended}", "--json"]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert not [warning for warning in warnings if warning.startswith("dp: ")]


@pytest.mark.parametrize("delta", ["0", "1", "1.5", "-0.1", ".nan"])
@pytest.mark.parametrize("use", ["dp_fedavg", "local_dp"])
def test_row_16_a_delta_that_is_no_probability_is_refused(
    use: str, delta: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = f"{{use: {use}, delta: {delta}}}"
    assert main(["validate", str(write(tmp_path)), "-S", f"defenses.dp={budget}"]) == 2
    assert "defenses.dp" in capsys.readouterr().err
