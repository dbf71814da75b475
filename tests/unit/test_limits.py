"""Limits files: strict, typed, every problem at its position."""

from pathlib import Path

import pytest

from harness.limits import read_limits
from harness.reading.problems import InvalidScenario


def problems(path: Path, text: str) -> list[str]:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidScenario) as error:
        read_limits(path)
    return [str(problem).removeprefix(f"{path}:") for problem in error.value.problems]


def test_one_value_and_a_list_read_alike(tmp_path):
    path = tmp_path / "l.yaml"
    path.write_text(
        "schema: 1\nlimits:\n"
        "  - select: {metric: hr, k: 20, noisy: [0, 0.1]}\n    at_least: 1e-5\n"
        "  - {name: b, select: {metric: [auc]}, quantity: advantage, at_most: 1}\n"
    )
    limits = read_limits(path)
    first, second = limits.content.limits
    assert first.select.given() == {"metric": ("hr",), "k": (20,), "noisy": (0.0, 0.1)}
    assert (first.quantity, first.at_least, first.at_most) == ("value", 1e-5, None)
    assert (second.name, second.select.metric, second.at_most) == ("b", ("auc",), 1.0)
    assert (limits.line(0), limits.line(1)) == (3, 5)


def test_every_mistake_is_told_at_once_and_placed(tmp_path):
    text = """\
schema: 1
limits:
  - select: {metrc: auc, system: 3, malicious: 20 %, k: [10, 10]}
    quantity: advantge
    at_most: .nan
  - select: {metric: auc, metric: hr}
    at_most: 0.5
  - select: {metric: hr, k: 1.5, strength: []}
    at_least: "0.9"
limit: 3
"""
    found = problems(tmp_path / "l.yaml", text)
    starts = [
        "3:13: limits[0].select: required key 'metric' is missing",
        "3:14: limits[0].select.metrc: unknown key 'metrc'; did you mean 'metric'?",
        "3:34: limits[0].select.system: must be text, not 3 (quote it)",
        "3:48: limits[0].select.malicious: must be a number, not the text '20 %'",
        "3:57: limits[0].select.k: a value stands twice",
        "4:15: limits[0].quantity: must be 'value', 'above_chance', 'advantage', 'ratio' or",
        "5:14: limits[0].at_most: must be a finite number, not nan",
        "6:27: limits[1].select: duplicate key 'metric'; it stands already at 6:14",
        "8:29: limits[2].select.k: must be an integer, not 1.5",
        "8:44: limits[2].select.strength: needs at least 1",
        "9:15: limits[2].at_least: must be a number, not the text '0.9' (remove the quotes)",
        "10:1: limit: unknown key 'limit'; did you mean 'limits'?",
    ]
    assert len(found) == len(starts)
    for line, start in zip(found, starts, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schema: 2\nlimits: whatever\n", "1:9: schema: made for schema 2"),
        ("schema: 1\nlimits: []\n", "2:9: limits: needs at least 1"),
        ("schema: 1\nlimits:\n- select: {metric: hr}\n", "at_least or at_most"),
        ("schema: 1\nlimits:\n- {select: {metric: hr}, at_least: 1, at_most: 0}\n", "above"),
        ("schema: 1\nlimits:\n- {select: {metric: hr}, at_least: true}\n", "a number, not true"),
        ("schema: 1\nlimits:\n- {select: {metric: hr, noisy: no}, at_least: 1}\n", "ambiguous"),
        (
            "schema: 1\nlimits:\n- {name: a, select: {metric: hr}, at_least: 1}\n"
            "- {name: a, select: {metric: er}, at_most: 1}\n",
            "4:10: limits[1].name: the name 'a' stands already at limits[0]",
        ),
        ("- a\n", "1:1: a limits file is a mapping"),
        ("a: &x {b: *x}\n", "cycle"),
        ("!!python/object/apply:os.system [touch x]\n", "tags are not allowed"),
    ],
)
def test_what_no_gate_may_guess_at(tmp_path, text, words):
    assert any(words in line for line in problems(tmp_path / "l.yaml", text))


def test_an_empty_file_is_called_what_it_is(tmp_path):
    (tmp_path / "l.yaml").write_text("# nothing\n")
    with pytest.raises(Exception, match="the limits file is empty"):
        read_limits(tmp_path / "l.yaml")
