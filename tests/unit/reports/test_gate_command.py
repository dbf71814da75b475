"""The command: what it prints, writes and returns; learning; edited results; a user's own test."""

import copy
import json
import math
import os
import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from gating import attack_row, limits_file, over_seeds, t_interval, utility

from harness.cli import main
from harness.results import write_results as write_tables
from harness.sealing import sealed

pytest_plugins = ["pytester"]


def write_results(folder, rows, samples=()):
    """Tables with the manifest of a finished run."""
    write_tables(folder, rows, samples)
    cells = list(dict.fromkeys(row.cell for row in rows))
    (folder / "manifest.json").write_bytes(sealed(folder, {"status": "done"}, cells))


ROOT = Path(__file__).resolve().parents[3]
GOOD = "metric: top1, defense: replacement σ=0.5; advantage; at_most: 0.05"
STRADDLES = "metric: hr, defense: replacement σ=0.5, noisy: 0, protocol: full; ratio; at_least: 0.7"
BAD = "metric: top1, defense: none; value; at_most: 0.9"


@pytest.fixture(scope="module")
def small(fake):
    """SF-UBM of the made-up run, with honest clients and with a sign flip."""
    part = copy.copy(fake)
    wanted = ("none", 0.0), ("sign flip", 0.1)
    part.rows = [r for r in fake.rows if r.system == "SF-UBM" and (r.poisoning, r.noisy) in wanted]
    cells = {r.cell for r in part.rows}
    part.samples = [block for block in fake.samples if block.cell in cells]
    return part


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    return small.write(tmp_path_factory.mktemp("gate") / "demo")


def test_exit_codes_and_the_table_worst_first(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")

    def code(*limits):
        return main(["gate", str(run), "--limits", str(limits_file(tmp_path, *limits))])

    assert code(GOOD) == 0
    assert "gate pass: 1 pass (demo against" in capsys.readouterr().out
    assert code(GOOD, STRADDLES) == 11
    assert code(GOOD, STRADDLES, BAD) == 10
    out = capsys.readouterr().out.split("verdict")[-1]
    # A row begins with its verdict; other text may wrap to such a word, but not in a column.
    rows = re.findall(r"^(fail|inconclusive|pass) {2,}", out, re.MULTILINE)
    assert rows == ["fail", "inconclusive", "pass"]
    assert "top-1 ≤ 0.9" in out and "1 fail, 1 inconclusive, 1 pass" in out
    assert "wholly above" in out


def test_a_narrow_window_gets_lines_instead_of_a_table(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["gate", str(run), "--limits", str(limits_file(tmp_path, BAD))]) == 10
    assert "fail: top-1 ≤ 0.9\n  SF-UBM, no defence" in capsys.readouterr().out


def test_junit_json_and_summary_agree(run, tmp_path, capsys, monkeypatch):
    limits = limits_file(tmp_path, GOOD, STRADDLES, BAD)
    junit, summary = tmp_path / "gate.xml", tmp_path / "summary.md"
    summary.write_text("an earlier step\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    options = ["--junit", str(junit), "--summary", str(summary), "--json"]
    assert main(["gate", str(run), "--limits", str(limits), *options]) == 10
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "fail" and found["exit_code"] == 10
    assert found["counts"] == {"fail": 1, "inconclusive": 1, "pass": 1}
    by_line = {check["line"]: check for check in found["checks"]}
    assert [by_line[line]["verdict"] for line in (3, 4, 5)] == ["pass", "inconclusive", "fail"]
    assert by_line[4]["low"] < 0.7 < by_line[4]["high"] and by_line[4]["slack"] < 0

    suite = ET.parse(junit).getroot().find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    assert suite.get("tests") == "3" == str(len(cases))
    assert suite.get("failures") == "1" == str(len(suite.findall("testcase/failure")))
    assert suite.get("skipped") == "1" == str(len(suite.findall("testcase/skipped")))
    assert len({(c.get("classname"), c.get("name")) for c in cases}) == 3

    text = summary.read_text()
    assert text.startswith("an earlier step\n### gate fail: 1 fail, 1 inconclusive, 1 pass")
    rows = [line for line in text.splitlines() if line.startswith("| **")]
    assert [row.split("**")[1] for row in rows] == ["fail", "inconclusive"]
    assert "<details><summary>1 passed</summary>" in text

    # Any other file is replaced.
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "other"))
    main(["gate", str(run), "--limits", str(limits), "--summary", str(summary)])
    assert summary.read_text().startswith("### gate fail")


def test_hostile_names_stay_text(tmp_path):
    name = '<img src=x onerror=alert(1)> | `x` ]]> & \x1b[31m "'
    rows = over_seeds(name, [0.9, 0.9, 0.9])
    write_results(tmp_path / "run", rows)
    limits = limits_file(tmp_path, "metric: auc; value; at_most: 0.1")
    junit, summary = tmp_path / "j.xml", tmp_path / "s.md"
    arguments = ["--limits", str(limits), "--junit", str(junit), "--summary", str(summary)]
    assert main(["gate", str(tmp_path / "run"), *arguments]) == 10
    case = ET.parse(junit).getroot().find("testsuite/testcase")
    assert case is not None and "<img src=x onerror=alert(1)>" in str(case.get("name"))
    row = next(x for x in summary.read_text().splitlines() if x.startswith("| **fail"))
    assert "<img" not in row and r"\`x\`" in row
    assert len(re.findall(r"(?<!\\)\|", row)) == 9


def test_learnt_limits_pass_on_their_run_and_fail_on_a_worse_one(run, small, tmp_path):
    limits = tmp_path / "learnt.yaml"
    assert main(["gate", "--learn", str(run), "--out", str(limits)]) == 0
    assert "# Attacks that a defence weakens" in limits.read_text()
    assert main(["gate", str(run), "--limits", str(limits)]) == 0
    tight = tmp_path / "tight.yaml"
    assert main(["gate", "--learn", str(run), "--margin", "0", "--out", str(tight)]) == 0
    assert main(["gate", str(run), "--limits", str(tight)]) == 0

    def worse(change, **where):
        """The gate's exit code after one number of every seed was made worse."""
        rows = [
            change(r) if all(getattr(r, k) == v for k, v in where.items()) else r
            for r in small.rows
        ]
        assert sum(a is not b for a, b in zip(rows, small.rows, strict=True)) == 3
        write_results(tmp_path / "worse", rows, small.samples)
        return main(["gate", str(tmp_path / "worse"), "--limits", str(limits)])

    clean = {"poisoning": "none", "noisy": 0.0}
    leaks = {"defense": "replacement σ=0.5", "metric": "top1", **clean}
    assert worse(lambda r: replace(r, value=0.3 + 0.001 * r.seed), **leaks) == 10
    costs = {"defense": "replacement σ=0.05", "metric": "hr", "k": 20, **clean}
    assert worse(lambda r: replace(r, value=0.5 * r.value), **costs) == 10
    # An attack that broke would make every defence look good.
    weak = {"system": "SF-UBM", "defense": "none", "metric": "top1", "status": "ok", **clean}
    assert worse(lambda r: replace(r, value=0.0), **weak) == 10
    assert worse(lambda r: replace(r, value=float("nan"), reason="gone"), **leaks) == 10
    assert worse(lambda r: replace(r, reason="a remark"), **leaks) == 0


def test_learning_refuses_what_it_cannot_stand_for(run, tmp_path, capsys):
    there = tmp_path / "l.yaml"
    there.write_text("mine")
    assert main(["gate", "--learn", str(run), "--out", str(there)]) == 2
    assert there.read_text() == "mine" and "is there already" in capsys.readouterr().err
    write_results(tmp_path / "one", [attack_row("none", 0, 0.9), utility("none", 0, [1, 0])[0]])
    assert main(["gate", "--learn", str(tmp_path / "one")]) == 3
    assert "no estimate has two seeds" in capsys.readouterr().err
    unfinished = shutil.copytree(run, tmp_path / "unfinished")
    (unfinished / "manifest.json").write_text('{"status": "partial"}')
    assert main(["gate", "--learn", str(unfinished)]) == 3
    capsys.readouterr()
    limits = str(limits_file(tmp_path, GOOD))
    assert main(["gate", str(unfinished), "--limits", limits, "--json"]) == 11
    worst = json.loads(capsys.readouterr().out)["checks"][0]
    assert worst["name"] == "the run is complete" and "'partial'" in worst["reason"]


def test_a_defence_that_stops_nothing_gets_no_limit_but_a_reason(tmp_path, capsys):
    rows = over_seeds("none", [0.9, 0.91, 0.92]) + over_seeds("sieve", [0.89, 0.9, 0.91])
    rows += over_seeds("wall", [0.5, 0.51, 0.52])
    write_results(tmp_path, rows)
    assert main(["gate", "--learn", str(tmp_path)]) == 0
    text = " ".join(capsys.readouterr().out.replace("#", "").split())
    assert "not proposed: S, sieve, clean, by rows: AUC advantage" in text
    assert "no weaker than without the defence, 0.91" in text
    # Upper end of the wall's advantage, twice that of its AUC over 0.5, plus the margin.
    high = 2 * (t_interval([0.5, 0.51, 0.52])[1] - 0.5) + 0.02
    assert f"at_most: {math.ceil(high * 1e4) / 1e4:.4f}" in text and text.count("at_most") == 1


def test_odd_labels_survive_learning(tmp_path, capsys):
    odd = ["no", "010", 'say "x", {y}: #z', "null", "naïve ε", "😀 - x ", "a\\b"]
    rows = [r for label in odd for r in over_seeds(label, [0.6, 0.6, 0.6])]
    write_results(tmp_path / "run", [*over_seeds("none", [0.99, 0.99, 0.99]), *rows])
    limits = tmp_path / "l.yaml"
    assert main(["gate", "--learn", str(tmp_path / "run"), "--out", str(limits)]) == 0
    assert main(["gate", str(tmp_path / "run"), "--limits", str(limits)]) == 0
    assert f"{len(odd) + 1} pass" in capsys.readouterr().out


def test_edited_results_are_refused_unless_accepted(run, tmp_path, capsys):
    edited = shutil.copytree(run, tmp_path / "edited")
    document = json.loads((edited / "results.json").read_text())
    document["rows"][0]["value"] = 0.0
    (edited / "results.json").write_text(json.dumps(document))
    limits = str(limits_file(tmp_path, GOOD))
    assert main(["gate", str(edited), "--limits", limits]) == 3
    assert "results.json differs from results.parquet" in capsys.readouterr().err
    assert main(["gate", "--learn", str(edited)]) == 3
    assert main(["gate", str(edited), "--limits", limits, "--accept-edited"]) == 0
    assert "note: results.json differs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["RUN"], 2, "give --limits FILE"),
        (["RUN", "--limits", "absent.yaml"], 2, "absent.yaml: No such file"),
        (["absent", "--limits", "LIMITS"], 3, "has the run finished?"),
        (["RUN", "--learn", "--limits", "LIMITS"], 2, "--out and --margin only"),
        (["RUN", "--limits", "LIMITS", "--margin", "0.1"], 2, "go with --learn"),
        (["RUN", "--learn", "--margin", "-1"], 2, "Invalid value"),
        (["RUN", "--learn", "--margin", "nan"], 2, "Invalid value"),
        (["RUN", "--limits", "LIMITS", "--junit", "no/such/x.xml"], 3, "cannot write"),
    ],
)
def test_usage_errors(run, tmp_path, arguments, code, words, capsys):
    known = {"RUN": str(run), "LIMITS": str(limits_file(tmp_path, GOOD))}
    assert main(["gate", *(known.get(a, a) for a in arguments)]) == code
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error


def test_the_fixture_fails_a_users_test_with_the_gates_table(run, tmp_path, pytester):
    good, bad, open_ = (
        shutil.copy(limits_file(tmp_path, limit), pytester.path / f"{name}.yaml")
        for name, limit in (("good", GOOD), ("bad", BAD), ("open", STRADDLES))
    )
    assert good.exists() and bad.exists() and open_.exists()
    pytester.makeconftest('pytest_plugins = ["harness.testing"]')
    pytester.makepyfile(
        f"""
        RUN = {os.fspath(run)!r}

        def test_good(defense_regression):
            assert defense_regression(RUN, "good.yaml").exit_code == 0

        def test_bad(defense_regression):
            defense_regression(RUN, "bad.yaml")

        def test_open(defense_regression):
            defense_regression(RUN, "open.yaml")

        def test_open_skipped(defense_regression):
            defense_regression(RUN, "open.yaml", inconclusive="skip")

        def test_bad_is_not_skipped(defense_regression):
            defense_regression(RUN, "bad.yaml", inconclusive="skip")

        def test_absent(defense_regression):
            defense_regression("absent", "good.yaml")
        """
    )
    result = pytester.runpytest_inprocess("-rs")
    result.assert_outcomes(passed=1, failed=4, skipped=1)
    result.stdout.fnmatch_lines(
        ["*gate fail: 1 fail*", "verdict *limit *why", "fail *top-1 ≤ 0.9*"]
    )
    result.stdout.fnmatch_lines(["*gate inconclusive: 1 inconclusive*"])
    result.stdout.fnmatch_lines(["*the gate could not judge: *absent*no such file*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_the_limits_of_the_default_scenario_are_read():
    from harness.limits import read_limits

    limits = read_limits(ROOT / "scenarios" / "gates" / "poison_20pct.yaml").content
    assert len(limits.limits) >= 10
    assert {limit.quantity for limit in limits.limits} >= {"ratio", "advantage", "value"}
