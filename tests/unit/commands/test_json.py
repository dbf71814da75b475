"""``--json``: one document on standard output, whatever happens, and never a NaN."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness.plan
from harness.asset_table import ASSETS
from harness.cli import main
from harness.core.errors import RunError
from harness.scenario import load, scenario_hash
from harness.terminal import emit

Write = Callable[..., Path]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Return a function that runs a command and returns its exit code and its one document."""

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    def run(*arguments: str) -> tuple[int, Any]:
        code = main(list(arguments))
        captured = capsys.readouterr()
        assert captured.err == ""
        return code, json.loads(captured.out, parse_constant=refuse)

    return run


def test_validate(write: Write, told: Callable[..., tuple[int, Any]]) -> None:
    path = write(seeds="[3]")
    code, document = told("validate", str(path), "--json")
    assert code == 0
    assert document == {
        "ok": True,
        "scenario": str(path),
        "name": "demo",
        "sha256": scenario_hash(load(path)),
        "cells": 2,
        "trainings": 2,
        "refinement_trainings": 0,
        "warnings": ["one seed: intervals cover users only, and a gate stays inconclusive"],
    }


def test_every_problem_is_an_object_with_its_place(
    write: Write, told: Callable[..., tuple[int, Any]]
) -> None:
    path = str(write(defense="{}", seeds="[-1]"))
    for command in ("validate", "plan"):
        code, document = told(command, path, "--json")
        assert code == document["exit_code"] == 2 and document["ok"] is False
        first, second = document["errors"]
        assert first == {
            "file": path,
            "line": 3,
            "column": 9,
            "path": "seeds[0]",
            "message": "must be greater than or equal to 0, not -1",
        }
        assert (second["line"], second["path"]) == (6, "defense")
        assert "did you mean" in second["message"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["validate", "absent.yaml", "--json"], 2, "absent.yaml: No such file"),
        (["validate", "--json"], 2, "Missing argument"),
        (["plan", "a.yaml", "--json", "-j", "0"], 2, "Invalid value"),
        (["list", "atacks", "--json"], 2, "did you mean 'attacks'?"),
        (["assets", "nothing", "--json"], 3, "unknown asset 'nothing'"),
        (["score", "absent", "--json"], 3, "no run there"),
    ],
)
def test_other_errors_are_documents_too(
    plugins: None,
    told: Callable[..., tuple[int, Any]],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    found, document = told(*arguments)
    assert (found, document["exit_code"], document["ok"]) == (code, code, False)
    (error,) = document["errors"]
    assert set(error) == {"file", "line", "column", "path", "message"}
    assert words in error["message"] and error["file"] is None


def test_bugs_and_interrupts_are_documents_too(
    write: Write, monkeypatch: pytest.MonkeyPatch, told: Callable[..., tuple[int, Any]]
) -> None:
    for raised, code, words in (
        (RunError("failed"), 4, "failed"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("a bug"), 4, "internal error: ZeroDivisionError: a bug; details in"),
    ):

        def fail(*_: object, error: BaseException = raised) -> None:
            raise error

        monkeypatch.setattr(harness.plan, "expand", fail)
        found, document = told("validate", str(write()), "--json")
        assert found == code and words in document["errors"][0]["message"]


def test_plan_holds_all_that_is_printed(
    write: Write, monkeypatch: pytest.MonkeyPatch, told: Callable[..., tuple[int, Any]]
) -> None:
    monkeypatch.chdir(write().parent)
    monkeypatch.setattr("harness.forecast.facts_at_hand", lambda datasets: {})
    systems = "{text: {use: text, dataset: movies}, fed: {use: fed, dataset: movies}}"
    path = write(attacks="{n: {use: norms}}", systems=systems)
    code, document = told("plan", str(path), "--json")
    assert (code, document["cells"], document["seconds"]) == (0, 6, None)
    assert [group["system"] for group in document["groups"]] == ["popular", "text", "fed"]
    assert document["groups"][0]["memory_bytes"] is None
    assert document["not_run"][0]["reason"].startswith("n reads model updates")
    assert document["needs_yes"] is False


def test_assets_and_doctor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: Callable[..., tuple[int, Any]]
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr("harness.doctor.SELF_TEST_STEPS", 2)
    code, document = told("assets", "--json")
    assert code == 0
    assert [asset["name"] for asset in document["assets"]] == list(ASSETS)
    assert {asset["fetched"] for asset in document["assets"]} == {False}
    code, document = told("doctor", "--json")
    names = [check["name"] for check in document["checks"]]
    assert {"machine", "packages", "plug-ins", "determinism"} <= set(names)
    assert document["ok"] is (code == 0) is all(check["good"] for check in document["checks"])


def test_nan_never_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        emit({"value": float("nan")})
    assert capsys.readouterr().out == ""
