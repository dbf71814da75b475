"""Scenarios: what is accepted, what is refused, and where the message points."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.errors import ScenarioError
from harness.reading.problems import InvalidScenario
from harness.reading.scalar import plain_scalar
from harness.reading.source import parse_yaml
from harness.scenario import Scenario, _quoted, load, scenario_hash

Write = Callable[..., Path]


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(InvalidScenario) as caught:
        load(path, overrides)
    return [str(p).replace(str(path), path.name) for p in caught.value.problems]


def refused(text: str) -> str:
    """Why the reader refuses ``text``."""
    try:
        document = parse_yaml(text, "f")
    except ScenarioError as error:
        return str(error)
    return "\n".join(map(str, document.problems))


def test_defaults_are_filled_in(write: Write) -> None:
    scenario = load(write())
    assert scenario.systems["fed"].params == {
        "rounds": 10,
        "lr": 0.1,
        "mode": "touched",
        "layers": [8, 8],
        "language_stage": True,
    }
    assert list(scenario.anchors) == ["popular"]
    assert scenario.datasets["movies"]["k_core"] == 0
    assert load(write(anchors="false")).anchors == {}


def test_every_problem_is_reported_with_its_place(write: Write) -> None:
    path = write(
        seeds="[0, -1, true, 1.5, abc, 9223372036854775808]",
        systems="{fed: {use: fed, dataset: movie, rouds: 3, lr: 0}, x: {use: fad, dataset: a}}",
        defense="{}",
    )
    found = problems(path)
    assert found[:5] == [
        "s.yaml:3:12: seeds[1]: must be greater than or equal to 0, not -1",
        "s.yaml:3:16: seeds[2]: must be an integer, not true",
        "s.yaml:3:22: seeds[3]: must be an integer, not 1.5",
        "s.yaml:3:27: seeds[4]: must be an integer, not the text 'abc'",
        "s.yaml:3:32: seeds[5]: must be less than 9223372036854775808, not 9223372036854775808",
    ]
    rest = "\n".join(found[5:])
    assert (
        "s.yaml:5:36: systems.fed.dataset: unknown data set 'movie'; did you mean 'movies'?" in rest
    )
    assert "s.yaml:5:43: systems.fed.rouds: unknown key 'rouds'; did you mean 'rounds'?" in rest
    assert "s.yaml:5:57: systems.fed.lr: must be greater than 0, not 0" in rest
    assert "systems.x.use: unknown system 'fad'; did you mean 'fed'? (allowed: fed, popular" in rest
    assert "s.yaml:6:1: defense: unknown key 'defense'; did you mean 'defenses'?" in rest
    assert len(found) == 11


def test_duplicate_key_names_both_places_and_does_not_hide_others(write: Write) -> None:
    path = write(extra="1")
    path.write_text(path.read_text() + "name: again\n")
    found = problems(path)
    assert "s.yaml:6:1: extra: unknown key 'extra' " in "\n".join(found)
    assert "s.yaml:7:1: duplicate key 'name'; it stands already at 2:1" in found


def test_exponent_without_point_is_a_float(write: Write) -> None:
    scenario = load(write(systems="{fed: {use: fed, dataset: movies, lr: 1e-5}}"))
    assert scenario.systems["fed"].params["lr"] == 1e-5


@pytest.mark.parametrize("text", ["no", "off", "Yes", "010", "12:30", "1_000", "-017"])
def test_what_yaml_versions_read_differently_is_refused(text: str) -> None:
    assert f"a: {text} is ambiguous" in refused(f"a: {text}")
    assert f"or quote it: '{text}'" in refused(f"a: {text}")
    assert parse_yaml(f"a: '{text}'", "f").root.plain() == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("0", 0), ("-3", -3), ("0x1F", 31), ("0o17", 15), ("1.", 1.0), (".5", 0.5)],
        *[("null", None), ("~", None), ("true", True), ("3.5.1", "3.5.1"), ("a b", "a b")],
    ],
)
def test_core_schema(text: str, value: object) -> None:
    read = plain_scalar(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "f: the scenario is empty"),
        ("# only a comment\n", "f: the scenario is empty"),
        ("a:\n\tb: 1\n", "f:2:1: a tab is not allowed"),
        ("a: &x {b: *x}\n", "f:1:11: a.b: cycle: *x contains itself"),
        ("a: *nobody\n", "f:1:4: a: *nobody refers to no anchor"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested deeper than 40 levels"),
        ("a: " + "9" * 5000, "f:1:4: a: an integer of 5000 digits is out of range"),
        ("a: 1\n---\nb: 2\n", "f:2:1: a second document"),
        ('a: "\\ud800"', "half a surrogate pair"),
        ("a: \x00", "f:1:4: a control character is not allowed"),
        ("a: [1, 2", "f:1:9: while parsing a flow sequence"),
        ("%YAML 1.1\n---\na: 1\n", "a scenario is YAML 1.2"),
        ("? [a]\n: 1\n", "a key must be text"),
    ],
)
def test_unreadable_documents(text: str, reason: str) -> None:
    assert reason in refused(text)


def test_alias_bomb_is_refused_before_it_is_expanded() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    assert "more than 20000 values" in refused("\n".join(levels))


def test_python_tag_runs_nothing(write: Write, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = write(description=f"!!python/object/apply:os.system ['touch {mark}']")
    assert "tags are not allowed (tag:yaml.org,2002:python/object/apply:os.system)" in "".join(
        problems(path)
    )
    assert not mark.exists()


def test_encodings(write: Write) -> None:
    path = write()
    text = path.read_text()
    expected = scenario_hash(load(path))
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert scenario_hash(load(path)) == expected
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(ScenarioError, match="UTF-16"):
        load(path)
    path.write_bytes(text.encode() + b"description: \xff\n")
    with pytest.raises(ScenarioError, match=r"s\.yaml:6:1: byte \d+ is not UTF-8"):
        load(path)
    with pytest.raises(ScenarioError, match="No such file"):
        load(path.with_name("absent.yaml"))


def test_extends_merges_deeply_and_keeps_positions(write: Write) -> None:
    write("base.yaml", evaluation="{k: [5], candidates: 7}")
    path = write("child.yaml", extends="base.yaml", evaluation="{k: [3]}")
    loaded = load(path)
    assert (loaded.evaluation.k, loaded.evaluation.candidates) == ((3,), 7)
    write("base.yaml", evaluation="{kk: 1}")
    with pytest.raises(InvalidScenario, match=r"base\.yaml:6:14: evaluation\.kk: unknown key"):
        load(path)


def test_extends_cycle_missing_file_and_long_chain(write: Write, tmp_path: Path) -> None:
    path = write("a.yaml", extends="b.yaml")
    write("b.yaml", extends="a.yaml")
    assert "cycle: a.yaml → b.yaml → a.yaml" in problems(path)[0]
    assert "no such file" in problems(write("c.yaml", extends="nowhere.yaml"))[0]
    for i in range(100):
        (tmp_path / f"n{i}.yaml").write_text(f"extends: n{i + 1}.yaml\n")
    with pytest.raises(InvalidScenario, match="more than 20 files extend"):
        load(tmp_path / "n0.yaml")


def test_overrides_win_and_are_read_as_yaml(write: Write) -> None:
    path = write(clients="{malicious: {fraction: 0.2}}")
    loaded = load(path, ["clients.malicious.fraction=[0.1, 0.3]", "seeds=[7]", "name=x=y"])
    assert loaded.clients.malicious.fraction == (0.1, 0.3)
    assert (loaded.seeds, loaded.name) == ((7,), "x=y")
    assert "-S client.a=1:1:1: client: unknown key 'client'; did you mean 'clients'?" in "".join(
        problems(path, "client.a=1")
    )
    assert "written path.to.key=VALUE" in problems(path, "seeds")[0]
    assert "lies below a value that is not a mapping" in problems(path, "name.x.y=1")[0]
    assert load(path, ["seeds.1=9"]).seeds == (0, 9)


def test_override_of_an_alias_leaves_its_anchor_alone(write: Write) -> None:
    path = write(systems="{a: &x {use: fed, dataset: movies}, b: *x}")
    loaded = load(path, ["systems.b.rounds=3"])
    assert [loaded.systems[label].params["rounds"] for label in "ab"] == [10, 3]


def test_environment_is_not_expanded(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hush")
    text = load(write(description="${SECRET} $SECRET")).resolved_yaml()
    assert "hush" not in text
    assert "${SECRET} $SECRET" in text


def test_newer_schema_says_upgrade_and_nothing_else(write: Write) -> None:
    assert problems(write(schema="2", whatever="1")) == [
        "s.yaml:1:9: schema: made for schema 2; this version reads schema 1: upgrade"
    ]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"clients": "{malicious: {fraction: 1.1}}"}, "must be less than or equal to 1, not 1.1"),
        ({"clients": "{malicious: {fraction: .nan}}"}, "must be a finite number"),
        ({"clients": "{noisy: {fraction: 0.6}, malicious: {fraction: 0.5}}"}, "no client honest"),
        ({"clients": "{malicious: {fraction: [0.2, 0.2]}}"}, "a value stands twice"),
        ({"seeds": "[]"}, "seeds: needs at least 1"),
        ({"seeds": "[1, 1]"}, "a value stands twice"),
        ({"evaluation": "{k: 10}"}, "evaluation.k: must be a list, not 10"),
        ({"record": "{rounds: [frist]}"}, "must be first, middle, last or a round from 0"),
        ({"targets": "{items: [A], count: 2}"}, "count is 2 but 1 items are listed"),
        ({"anchors": "{fed: {}}"}, "anchors.fed: 'fed' belongs under systems"),
        ({"systems": "{p: {use: popular, dataset: movies}}"}, "'popular' belongs under anchors"),
        ({"systems": "{a.b: {use: fed, dataset: movies}}"}, "the label 'a.b' may hold letters"),
        ({"defenses": "{none: {use: clip}}"}, "'none' is always there"),
        ({"defenses": "{c: {use: clip, bound: []}}"}, "a sweep needs at least one value"),
        ({"defenses": "{c: {use: clip, bound: [1, 0]}}"}, "c.bound[1]: must be greater than 0"),
        ({"defenses": "{c: {use: clip, bound: .inf}}"}, "must be a finite number"),
        ({"defenses": "{c: [{use: trim}, {use: median}]}"}, "trim and median each bring an aggr"),
        ({"defenses": "{c: {use: clip, under: [prom]}}"}, "unknown poisoning attack 'prom'"),
        ({"defenses": "{c: {use: clip, systems: [fad]}}"}, "did you mean 'fed'?"),
        ({"attacks": "{n: {use: norms}}", "defenses": "{c: {use: clip, under: [n]}}"}, "every arm"),
        ({"datasets": "{movies: {use: ml-100k, kcore: 3}}"}, "did you mean 'k_core'?"),
    ],
)
def test_refusals(write: Write, sections: dict[str, str], message: str) -> None:
    assert message in "\n".join(problems(write(**sections)))


def test_language_cells_must_name_arms_that_exist(write: Write) -> None:
    cells = "language_cells: {defenses: [none, c bound=2, c bound=3]}"
    path = write(
        systems=f"{{fed: {{use: fed, dataset: movies, {cells}}}}}",
        defenses="{c: {use: clip, bound: [2, 8]}}",
    )
    found = problems(path)
    assert len(found) == 1
    assert "defenses[2]: unknown defence arm 'c bound=3'; did you mean 'c bound=" in found[0]


def test_list_parameter_is_no_sweep(write: Write) -> None:
    loaded = load(write(defenses="{c: {use: clip, ks: [1, 2]}}"))
    assert loaded.defenses["c"].parts[0].params["ks"] == [1, 2]


def full(write: Write) -> Path:
    return write(
        description="'no: # 010'",
        attacks="{p: {use: promote}, n: {use: norms}}",
        clients="{noisy: {fraction: [0, 0.1]}, malicious: {fraction: 0.2}}",
        defenses="{c: {use: clip, bound: [8, 0.5], under: [none]}, d: [{use: clip}, {use: trim}]}",
        targets="{items: ['12:30', 'Café “x”']}",
        systems="{fed: {use: fed, dataset: movies, language_cells: {seeds: [0]}}}",
    )


def test_resolved_yaml_loads_to_the_same_scenario(write: Write, tmp_path: Path) -> None:
    scenario = load(full(write))
    again = tmp_path / "again.yaml"
    again.write_text(scenario.resolved_yaml(), encoding="utf-8")
    assert load(again) == scenario
    assert load(again).resolved_yaml() == scenario.resolved_yaml()


def test_hash_ignores_key_order_and_compute_and_nothing_else(write: Write) -> None:
    path = full(write)
    scenario = load(path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(reversed(lines)) + "\n", encoding="utf-8")
    assert scenario_hash(load(path)) == scenario_hash(scenario)
    assert scenario_hash(load(path, ["compute.jobs=4"])) == scenario_hash(scenario)
    changes = ("seeds=[0]", "defenses.c.bound=[8]", "record.clients=3", "systems.fed.lr=0.2")
    hashes = {scenario_hash(load(path, [change])) for change in changes}
    assert len(hashes | {scenario_hash(scenario)}) == 5


@given(st.text(min_size=1).filter(lambda text: text.isprintable() or "\n" in text or "\t" in text))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_any_text_survives_writing(text: str) -> None:
    import io

    from ruamel.yaml import YAML

    stream = io.StringIO()
    YAML().dump(_quoted({"a": text, "b": [text]}), stream)
    assert parse_yaml(stream.getvalue(), "f").root.plain() == {"a": text, "b": [text]}


def test_scenario_travels_as_json(write: Write) -> None:
    scenario = load(full(write))
    text = json.dumps(scenario.model_dump(mode="json", by_alias=True))
    assert Scenario.model_validate_json(text) == scenario
