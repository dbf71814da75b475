"""Whatever a scenario file says: it is valid, or refused at its place; never an internal error."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cli import main
from harness.commands.counting import count
from harness.plan import expand
from harness.scenario import load

SETTINGS = settings(
    max_examples=130,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
BASE = """schema: 1
name: base
description: one of everything
seeds: [0]
datasets:
  one: {use: ml-100k, k_core: 5, max_users: 50, keep_last: 20, on_bad: drop}
  two: {use: ml-1m, domains: {by: genres}, min_rating: 3.0}
  own: {path: data, encoding: utf-8, duplicates: merge}
systems:
  lumos: {use: lumos, dataset: one, rounds: 2, learning_rate: 2.0, views: {answer: shortlist}}
  sf-ubm: {use: sf_ubm, dataset: two, language_cells: {seeds: [0], defenses: [none]}}
anchors: {popularity: {use: popularity}}
clients:
  noisy: {fraction: [0.0, 0.1], rate: 0.5}
  malicious: {fraction: 0.2}
attacks:
  flip: {use: sign_flip}
  promotion: {use: a_hum}
  row norm: {use: row_norm}
defenses:
  trim: {use: trimmed_mean, trim: [0.1, 0.25]}
  both:
    parts: [{use: replacement, sigma: 0.1}, {use: counterfactual_negatives}]
    under: [none]
    systems: [lumos]
    decompose: false
  dp: {use: dp_fedavg, epsilon: 8.0, delta: 1.0e-5}
  local: {use: local_dp, noise_multiplier: {from: 0.01, to: 1.0, points: 2}}
evaluation: {k: [5, 10], candidates: 20, bootstrap: 100}
record: {clients: 2}
compute: {jobs: 1, threads: 1}
"""
VALUES = st.one_of(
    st.sampled_from(
        [
            *(
                "null",
                "true",
                "no",
                "-1",
                "0",
                "1",
                "2",
                "0.5",
                "1e308",
                "-1e308",
                "1e309",
                "1e-400",
            ),
            *(
                ".nan",
                ".inf",
                "-.inf",
                "0x10",
                "0o17",
                "010",
                "1_000",
                "12:30",
                "2001-01-01",
                "9" * 30,
            ),
            *("9" * 5000, "18446744073709551616", "1e999999999", "'" + "x" * 5000 + "'", '""', "~"),
            *(
                "[]",
                "{}",
                "[[]]",
                "[0, 0]",
                "[1.0, a]",
                "{a: 1}",
                "{from: 0, to: 1e300, points: 5}",
            ),
            *(
                "{from: 1, to: 0, points: 9999}",
                "{from: .nan, to: 1, points: 2}",
                "[" * 60,
                "*x",
                "&x a",
            ),
            *(
                "{use: lumos}",
                "{use: ml-100k}",
                "{path: .}",
                "{parts: []}",
                "{use: [a]}",
                "none",
                "own",
            ),
            *(
                "!!python/object/apply:os.system [x]",
                "!!binary aGk=",
                "!!set {a}",
                "! x",
                "!local 3",
            ),
            *('"\\0"', '"\\uD800"', '"\\U0001F600"', "é", "‮", "../../x", "/etc/x", "CON", "-rf"),
            *("${HOME}", "|\n  text", ">-\n  text", "a: b: c", "'", '"', "@", "`", "%", "<<: *x"),
        ]
    ),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=8),
)
FRACTIONS = st.one_of(st.floats(0, 1), st.sampled_from([0, 1, 5e-324, 0.5, 1 - 2**-53]))
AMOUNTS = st.one_of(FRACTIONS, st.floats(0, allow_infinity=False), st.floats(1e-3, 1e3))
NUMBERS = st.one_of(st.integers(0, 100), st.integers(0, 2**63))
RANGES = st.builds(
    "{{from: {}, to: {}, points: {}, scale: {}}}".format,
    AMOUNTS,
    AMOUNTS,
    st.integers(2, 9),
    st.sampled_from(["log", "linear"]),
)
FITTING = {
    "seeds": st.lists(NUMBERS, max_size=4),
    "name": st.text(max_size=300).map(json.dumps),
    "systems.lumos.rounds": NUMBERS,
    "systems.lumos.learning_rate": AMOUNTS,
    "datasets.one.k_core": NUMBERS,
    "datasets.two.min_rating": st.floats(allow_nan=False),
    "clients.noisy.fraction": st.one_of(FRACTIONS, st.lists(FRACTIONS, max_size=9)),
    "clients.malicious.fraction": st.one_of(FRACTIONS, st.lists(FRACTIONS, max_size=9)),
    "evaluation.k": st.lists(NUMBERS, max_size=4),
    "evaluation.candidates": NUMBERS,
    "defenses.trim.trim": st.one_of(FRACTIONS, st.lists(FRACTIONS, max_size=9), RANGES),
    "defenses.both.parts.0.sigma": st.one_of(AMOUNTS, st.lists(AMOUNTS, max_size=9), RANGES),
    "defenses.dp.delta": FRACTIONS,
    "defenses.dp.epsilon": st.one_of(AMOUNTS, st.lists(AMOUNTS, max_size=9), RANGES),
    "defenses.local.noise_multiplier": st.one_of(AMOUNTS, RANGES),
    "record.clients": NUMBERS,
    "compute.jobs": NUMBERS,
}
"""Values of the right kind, for values of the wrong kind never come as far as the grid."""
KEYS = st.one_of(
    st.sampled_from(
        ["use", "dataset", "params", "parts", "domains", "options", "extends", "schema", "systems",
         "defense", "seeds", "under", "<<", "? a", "1", "null", "[a]", "''", '"\\0"', "x" * 400]
    ),
    st.text(max_size=5),
)  # fmt: skip
SNIPPETS = st.sampled_from(
    ["\0", "\t", "\ufeff", "\r", "\r\n", "\u2028", "\x85", "\x1b", "---\n", "...\n", "#",
     "%YAML 1.1\n---\n", "%TAG ! x\n", "&a ", "*a", "!!str ", "!<x> ", "{", "}", "[", "]",
     ",", ":", ": ", "- ", "? ",
     "'", '"', "|", ">", "\ud7ff", "\U0010ffff", "  ", "\n", "&x [*x]\n", "<<: {a: 1}\n"]
)  # fmt: skip
ENTRY = re.compile(r"(?<=: )[^{}\[\],\n]+|(?<=[\[,] )[^{}\[\],:\n]+")
KEY = re.compile(r"[\w-]+(?=:)")
STEPS = sorted({*KEY.findall(BASE), "0", "1", "-1", "9" * 5000, "²", "", "x y", "\0"})


@st.composite
def texts(draw: Any) -> str:
    """The valid scenario, with one to four mutations of its values, keys, lines and characters."""
    text = BASE
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["value", "value", "value", "key", "line", "insert", "cut"]))
        if kind in ("value", "key"):
            found = list((ENTRY if kind == "value" else KEY).finditer(text))
            if found:
                start, end = draw(st.sampled_from(found)).span()
                text = text[:start] + draw(VALUES if kind == "value" else KEYS) + text[end:]
        elif kind == "line":
            lines: list[str] = list(text.splitlines(keepends=True))
            at, to = (draw(st.integers(0, max(len(lines) - 1, 0))) for _ in range(2))
            how = draw(st.sampled_from(["remove", "double", "move", "indent"]))
            line = lines[at : at + 1]
            if how == "indent":
                lines[at : at + 1] = [f"  {part}" for part in line]
            elif how == "double":
                lines[at:at] = line
            else:
                del lines[at : at + 1]
                lines[to:to] = line if how == "move" else []
            text = "".join(lines)
        else:
            at, length = draw(st.integers(0, len(text))), draw(st.integers(1, 40))
            cut = kind == "cut"
            text = text[:at] + ("" if cut else draw(SNIPPETS)) + text[at + cut * length :]
    return text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder to work in, in which no data set can be read."""

    def refuse(*_: object) -> None:
        raise AssertionError("validate has read a data set")

    monkeypatch.setattr(importlib.import_module("harness.data.load"), "read", refuse)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def judge(path: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> int:
    """Validate a file; what is valid can also be loaded again and expanded."""
    code = main(["validate", str(path), *(part for o in overrides for part in ("-S", o))])
    shown = capsys.readouterr()
    assert code in (0, 2, 3), shown.err
    assert "internal error" not in shown.err and "Traceback" not in shown.err
    assert (code == 0) == (": valid, " in shown.out)
    assert code == 0 or shown.err.strip()
    if not code:
        loaded = load(path, overrides)
        again = path.with_name("again.yaml")
        again.write_text(loaded.resolved_yaml(again.parent), encoding="utf-8")
        assert load(again) == loaded
        if not count(loaded).too_many:
            assert expand(loaded).cells
    return code


def test_the_scenario_that_is_mutated_is_valid(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "s.yaml"
    path.write_text(BASE, encoding="utf-8")
    assert judge(path, capsys) == 0


@SETTINGS
@given(text=texts())
def test_mutated_files(folder: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    path = folder / "s.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    judge(path, capsys)


@SETTINGS
@given(data=st.data())
def test_mutated_bytes(folder: Path, capsys: pytest.CaptureFixture[str], data: Any) -> None:
    raw = bytearray(data.draw(st.sampled_from([BASE.encode(), BASE.encode("utf-16")])))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    path = folder / "s.yaml"
    path.write_bytes(data.draw(st.one_of(st.just(bytes(raw)), st.binary(max_size=200))))
    judge(path, capsys)


@SETTINGS
@given(data=st.data())
def test_overrides(folder: Path, capsys: pytest.CaptureFixture[str], data: Any) -> None:
    path = folder / "s.yaml"
    path.write_text(BASE, encoding="utf-8")
    target = ".".join(data.draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=4)))
    known = data.draw(st.sampled_from(sorted(FITTING)))
    written = data.draw(st.sampled_from([f"{target}=", f"{known}=", target]))
    judge(path, capsys, written + data.draw(VALUES))


@pytest.mark.slow
@SETTINGS
@given(data=st.data())
def test_overrides_of_the_right_kind(
    folder: Path, capsys: pytest.CaptureFixture[str], data: Any
) -> None:
    path = folder / "s.yaml"
    path.write_text(BASE, encoding="utf-8")
    names = data.draw(st.lists(st.sampled_from(sorted(FITTING)), min_size=1, max_size=2))
    judge(path, capsys, *(f"{name}={data.draw(FITTING[name])}" for name in names))


def test_an_index_of_thousands_of_digits_is_no_entry(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "s.yaml"
    path.write_text(BASE, encoding="utf-8")
    assert judge(path, capsys, f"seeds.{'9' * 5000}=1") == 2
