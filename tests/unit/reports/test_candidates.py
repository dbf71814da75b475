"""The report's comparison of a language stage with popularity, in figures and in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from harness.core.seeds import Seeds
from harness.results import read_samples, write_results
from harness.sheet import Sheet
from reports.candidates import candidate_table, language_words
from reports.evidence import Evidence
from reports.findings.replacement import beside_popularity
from reports.tables import utility_tables

N = 300


def _evidence(tmp_path, llm, popular, protocol="sampled"):
    """A run in which the LLM, popularity and stage 1 are right for the given users."""
    sheet = _sheet()
    _enter(sheet, llm, popular, protocol)
    return Evidence(sheet.rows, _frame(tmp_path, sheet))


def _sheet():
    return Sheet(
        {"run": "r", "cell": "c", "system": "SF-UBM", "poisoning": "none", "dataset": "d"},
        Seeds(0), 500,
    )  # fmt: skip


def _enter(sheet, llm, popular, protocol):
    shared = {"side": "utility", "better": "higher", "k": 1, "protocol": protocol}
    users = np.arange(N)
    values = {
        "hit1_all": llm,
        "hit1_all_over_popularity": llm - popular,
        "asked_popularity_hit1": popular,
        "asked_frequency_guess_hit1": popular / 2,
        "stage1_hit1": np.maximum(llm, popular),
        "stage1_hit1_over_popularity": np.maximum(llm, popular) - popular,
    }
    for metric, each in values.items():
        sheet.measure(metric, users, each, chance=1 / 20, **shared)


def _frame(tmp_path, sheet):
    write_results(tmp_path, sheet.rows, sheet.samples)
    return read_samples(tmp_path)


def _first(count):
    return (np.arange(N) < count).astype(float)


@pytest.mark.parametrize(
    ("right", "verdict"),
    [(150, "beats"), (92, "is not told apart from"), (30, "is below")],
)
def test_the_report_says_whether_the_llm_beats_popularity(tmp_path, right, verdict):
    popular = np.roll(_first(90), 60)  # other users than the LLM's in part
    evidence = _evidence(tmp_path, _first(right), popular)
    (said,) = language_words(evidence)
    assert f"language stage {verdict} popularity" in said and "uniformly" in said
    assert "0.3 [" in said  # popularity's own figure
    table = candidate_table(evidence)
    assert table is not None
    line = next(row for row in table.rows if row[3].text.startswith("language stage"))
    texts = [cell.text for cell in line]
    assert texts[5] == "300" and texts[6] == "0.05" and texts[8] == "0.3" and texts[9] == "0.15"
    assert texts[-1] == verdict


def test_lists_by_popularity_are_named_as_such(tmp_path):
    evidence = _evidence(tmp_path, _first(90), _first(30), "popularity")
    assert "candidates drawn by popularity" in language_words(evidence)[0]
    names = [head.text for table in utility_tables(evidence) for head in table.head]
    assert "Hit@1 (all, sampled by popularity)" in names
    assert not any("over popularity" in name for name in names)


def test_a_run_without_candidate_lists_has_no_such_table():
    assert candidate_table(Evidence([], pd.DataFrame())) is None


def test_the_findings_judge_each_kind_of_list_for_itself(tmp_path):
    sheet = _sheet()
    _enter(sheet, _first(100), np.roll(_first(90), 60), "sampled")
    _enter(sheet, _first(45), np.roll(_first(12), 60), "popularity")
    uniform, drawn = beside_popularity(Evidence(sheet.rows, _frame(tmp_path, sheet)))
    assert "uniform lists" in uniform and "it is not told apart from popularity" in uniform
    assert uniform.endswith("not shown there.")
    assert "lists drawn by popularity, where its Hit@1 is 0.15 [" in drawn
    assert "popularity's 0.04 [" in drawn
    assert drawn.endswith("it beats popularity at no defence.")


def test_the_findings_say_where_popularity_was_not_measured(tmp_path):
    sheet = _sheet()
    _enter(sheet, _first(100), _first(90), "sampled")
    rows = [row for row in sheet.rows if row.metric != "hit1_all_over_popularity"]
    (said,) = beside_popularity(Evidence(rows, _frame(tmp_path, sheet)))
    assert said.startswith("Popularity was not measured on the same uniform lists")
