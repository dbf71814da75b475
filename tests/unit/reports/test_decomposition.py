"""The price of a defence, taken apart: the steps are paired, and add up to the whole."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from harness.results import Row, write_results
from reports.decomposition import change_words, decomposition_tables, prices
from reports.evidence import Evidence
from reports.findings.privacy_budget import privacy_budget
from reports.html import build_report
from reports.summary import what_was_run
from reports.verdicts import judge

UTILITY = {
    ("none", "none"): 0.21,
    ("dp epsilon=8", "dp"): 0.11,
    ("dp epsilon=1000", "dp"): 0.18,
    ("dp: without clip and noise", "dp: without clip and noise"): 0.20,
    ("dp: without noise", "dp: without noise"): 0.19,
    ("trim", "trim"): 0.2,
}
USERS = np.arange(50)


def rows(utility=None) -> list[Row]:
    found = []
    for seed in (0, 1):
        for (defense, family), value in (utility or UTILITY).items():
            found.append(
                Row(
                    run="r",
                    cell=f"{defense}-{seed}",
                    system="lumos",
                    dataset="movies",
                    metric="hr",
                    k=20,
                    protocol="full",
                    side="utility",
                    better="higher",
                    defense=defense,
                    defense_family=family,
                    strength_name="epsilon" if family == "dp" else "",
                    seed=seed,
                    value=value + 0.01 * seed,
                    low=value,
                    high=value + 0.02,
                    n=50,
                    chance=0.01,
                )
            )
    return found


def evidence(utility=None) -> Evidence:
    return Evidence(rows(utility), pd.DataFrame())


def test_steps_are_differences_and_add_up():
    found = {price.arm.defense: price for price in prices(evidence())}
    assert found.keys() == {"dp epsilon=8", "dp epsilon=1000"}
    for name, noise in (("dp epsilon=8", -0.08), ("dp epsilon=1000", -0.01)):
        steps = {step.name: step.change.value for step in found[name].steps}
        assert list(steps) == ["rule", "clip", "noise"]
        assert steps == pytest.approx({"rule": -0.01, "clip": -0.01, "noise": noise})
        total = found[name].left.value - found[name].base.value
        assert sum(steps.values()) == pytest.approx(total)


def test_a_swept_clip_has_companions_of_its_own():
    utility = {
        ("none", "none"): 0.21,
        ("dp clip_norm=1 epsilon=8", "dp"): 0.11,
        ("dp clip_norm=3 epsilon=8", "dp"): 0.12,
        ("dp: without clip and noise", "dp: without clip and noise"): 0.20,
        ("dp: without noise clip_norm=1", "dp: without noise"): 0.17,
        ("dp: without noise clip_norm=3", "dp: without noise"): 0.19,
    }
    clips = [price.steps[1].change.value for price in prices(evidence(utility))]
    assert clips == pytest.approx([-0.03, -0.01])


def test_companions_are_no_defences_of_their_own():
    found = evidence()
    assert [arm.defense for arm in found.arms()] == [
        "none", "dp epsilon=8", "dp epsilon=1000", "trim",
    ] or {arm.family for arm in found.arms()} == {"none", "dp", "trim"}  # fmt: skip
    assert {verdict.arm.family for verdict in judge(found)} == {"none", "dp", "trim"}
    assert "3 defence settings" in what_was_run(found.rows)


def test_a_whole_report_of_them(tmp_path):
    write_results(tmp_path, rows(), [])
    page = build_report(tmp_path).read_text(encoding="utf-8")
    assert "is made of" in page and "dp: without noise" not in page
    assert page.count("−0.080") == 1


def test_without_companions_there_is_no_table():
    alone = {key: value for key, value in UTILITY.items() if ": " not in key[0]}
    assert prices(evidence(alone)) == [] == decomposition_tables(evidence(alone))


def test_the_table_says_every_step_with_its_interval():
    (table,) = decomposition_tables(evidence())
    assert [head.text for head in table.head] == [
        "defence", "no defence", "rule", "clip", "noise", "with all of it",
    ]  # fmt: skip
    texts = [cell.text for cell in table.rows[0]]
    assert texts[2:5] == ["−0.010", "−0.010", "−0.080"] or texts[4] == "−0.010"
    assert all(cell.small for cell in table.rows[0][1:])


def test_words_name_the_step_and_its_bounds():
    (price, *_) = prices(evidence())
    assert change_words(price.steps[0]).startswith("rule −0.010 [")


def test_findings_answer_with_the_price_taken_apart():
    answer = privacy_budget(evidence())
    place = answer.head.index("of the price in HR@20")
    told = {row[1]: row[place] for row in answer.rows}
    assert "; ".join(part.split(" [")[0] for part in told["dp epsilon=8"].split("; ")) == (
        "rule −0.010; clip −0.010; noise −0.080"
    )
    alone = {key: value for key, value in UTILITY.items() if ": " not in key[0]}
    assert "of the price in HR@20" not in privacy_budget(evidence(alone)).head
