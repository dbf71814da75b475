"""Strengths as a range: which strengths it stands for, what is refused and where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import main
from harness.core.errors import ScenarioError
from harness.plan import expand
from harness.reading.problems import InvalidScenario
from harness.refinement import most_further
from harness.scenario import load, scenario_hash

Write = Callable[..., Path]
RANGE = "{c: {use: clip, bound: {from: 0.01, to: 10, points: 4, refine: 3}}}"


def problems(path: Path) -> list[str]:
    with pytest.raises(InvalidScenario) as caught:
        load(path)
    return [str(p).replace(str(path), path.name) for p in caught.value.problems]


def labels(path: Path, *overrides: str) -> list[str]:
    cells = expand(load(path, overrides)).cells
    return list(dict.fromkeys(c.defense.label for c in cells if c.defense.family == "c"))


def test_a_range_stands_for_log_spaced_readable_strengths(write: Write) -> None:
    path = write(defenses=RANGE, anchors="false")
    assert labels(path) == ["c bound=0.01", "c bound=0.1", "c bound=1", "c bound=10"]
    assert labels(path, "defenses.c.bound.points=3") == [
        "c bound=0.01",
        "c bound=0.316",
        "c bound=10",
    ]
    linear = "defenses.c.bound={from: 0.1, to: 0.4, points: 3, spacing: linear}"
    assert labels(path, linear) == ["c bound=0.1", "c bound=0.25", "c bound=0.4"]
    assert labels(path, "defenses.c.bound=[2, 1]") == ["c bound=2", "c bound=1"]


def test_arms_have_strength_and_family_and_added_ones_stand_in_order(write: Write) -> None:
    scenario = load(write(defenses=RANGE, anchors="false", seeds="[0]"))
    arms = [c.defense for c in expand(scenario, {"c": [0.316]}).cells][1:]
    assert [a.strength for a in arms] == [0.01, 0.1, 0.316, 1.0, 10.0]
    assert {(a.family, a.strength_name) for a in arms} == {("c", "bound")}
    assert arms[2].label == "c bound=0.316" and arms[2].parts[0].params["bound"] == 0.316
    # A cell is the same whether its strength was given or added.
    ids = {c.id for c in expand(scenario).cells}
    assert ids < {c.id for c in expand(scenario, {"c": [0.316]}).cells}


def test_the_saved_scenario_keeps_the_range(write: Write, tmp_path: Path) -> None:
    path = write(defenses=RANGE)
    scenario = load(path)
    saved = tmp_path / "saved.yaml"
    saved.write_text(scenario.resolved_yaml())
    assert "from: 0.01" in saved.read_text() and "ratio: 1.05" in saved.read_text()
    assert load(saved) == scenario and scenario_hash(load(saved)) == scenario_hash(scenario)
    other = load(path, ["defenses.c.bound.refine=4"])
    assert scenario_hash(other) != scenario_hash(scenario)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "{c: {use: clip, bound: {from: 1, too: 2}}}",
            [
                "s.yaml:6:34: defenses.c.bound: required key 'to' is missing",
                "s.yaml:6:44: defenses.c.bound.too: unknown key 'too'; did you mean 'to'? "
                "(allowed: from, points, ratio, refine, spacing, threshold, to)",
            ],
        ),
        (
            "{c: {use: clip, bound: {from: 2, to: 1}}}",
            ["s.yaml:6:34: defenses.c.bound: from 2 must be below to 1"],
        ),
        (
            "{c: {use: clip, bound: {from: 0, to: 1}}}",
            [
                "s.yaml:6:34: defenses.c.bound: from 0 has no logarithm: start above 0, "
                "or give spacing: linear"
            ],
        ),
        (
            "{c: {use: clip, bound: {from: 0, to: 1, spacing: linear}}}",
            ["s.yaml:6:41: defenses.c.bound.from: must be greater than 0, not 0.0"],
        ),
        (
            "{c: {use: clip, bound: {from: 1, to: 2, spacing: liner}}}",
            [
                "s.yaml:6:60: defenses.c.bound.spacing: must be 'log' or 'linear', "
                "not the text 'liner'; did you mean 'linear'?"
            ],
        ),
        (
            "{c: {use: clip, bound: {from: 1, to: '2', points: 1}}}",
            [
                "s.yaml:6:48: defenses.c.bound.to: must be a number, not the text '2' "
                "(remove the quotes)",
                "s.yaml:6:61: defenses.c.bound.points: must be greater than or equal to 2, not 1",
            ],
        ),
        (
            "{c: {use: clip, bound: {from: 1, to: 1.001, points: 9}}}",
            [
                "s.yaml:6:34: defenses.c.bound: 9 points from 1 to 1.001 are not all different "
                "in 3 digits: fewer points, or a wider range"
            ],
        ),
        (
            "{c: {use: clip, bound: {from: 1, to: 2}, bund: 3}}",
            ["s.yaml:6:52: defenses.c.bund: unknown key 'bund'; did you mean 'bound'? "],
        ),
        (
            "{n: {use: needy, share: {from: 0.1, to: 1}}}",
            [
                "s.yaml:6:35: defenses.n.share: needy declares no strength, so that a range has "
                "no meaning: list the values"
            ],
        ),
        (
            "{b: [{use: clip, bound: {from: 1, to: 2}}, {use: needy, share: [0, 1]}]}",
            [
                "s.yaml:6:15: defenses.b: bound is a range, so it must be the only sweep of the "
                "entry (swept: bound, share): write one entry for each combination"
            ],
        ),
    ],
)
def test_mistakes_are_named_where_they_stand(write: Write, text: str, expected: list[str]) -> None:
    found = problems(write(defenses=text))
    assert len(found) == len(expected)
    assert all(a.startswith(b) for a, b in zip(found, expected, strict=True)), found


def test_a_range_is_for_defences_only(write: Write) -> None:
    systems = "{fed: {use: fed, dataset: movies, lr: {from: 1, to: 2}}}"
    assert problems(write(systems=systems)) == [
        "s.yaml:5:48: systems.fed.lr: must be a number, not a mapping"
    ]
    assert "must be a list" in problems(write(defenses="{c: {use: clip, ks: {from: 1, to: 2}}}"))[0]


def test_arms_of_a_range_can_be_named_for_the_language_stage(write: Write) -> None:
    def systems(arm: str) -> str:
        cells = f"language_cells: {{defenses: [{arm}]}}"
        return f"{{fed: {{use: fed, dataset: movies, {cells}}}}}"

    load(write(defenses=RANGE, systems=systems("c bound=0.1")))
    found = problems(write(defenses=RANGE, systems=systems("c bound=0.2")))
    assert "did you mean 'c bound=0.1'" in found[0]


def test_plan_says_what_refinement_may_add(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.forecast.facts_at_hand", lambda datasets: {})
    attacks = {"attacks": "{p: {use: promote}}", "clients": "{malicious: {fraction: 0.2}}"}
    path = write(defenses=RANGE, **attacks)
    scenario = load(path)
    # Each strength: clean and poisoned, on two seeds.
    assert most_further(scenario, expand(scenario)) == (3 * 2 * 2, 3 * 2 * 2)
    assert main(["plan", str(path)]) == 0
    assert "up to 12 more trainings (12 cells) by refinement" in capsys.readouterr().out
    assert main(["plan", str(path), "--json"]) == 0
    assert '"refinement"' in capsys.readouterr().out
    assert main(["validate", str(path)]) == 0
    assert "up to 12 more by refinement" in capsys.readouterr().out
    assert main(["plan", str(path), "-S", "defenses.c.bound=[1, 2]"]) == 0
    assert "refinement" not in capsys.readouterr().out


def test_a_run_that_may_grow_too_large_is_asked_about_first(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.commands.counting.MAX_CELLS", 15)
    path = write(defenses=RANGE, anchors="false")
    # 10 cells, and 6 more by refinement.
    assert len(expand(load(path)).cells) == 10
    assert main(["run", str(path), "--out", str(path.parent / "r")]) == ScenarioError.exit_code
