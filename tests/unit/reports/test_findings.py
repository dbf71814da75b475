"""The findings page: current, and its sentences follow from the numbers."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.results import Row, SampleBlock, read_samples, write_results
from reports.drawing import csv_bytes
from reports.evidence import Evidence
from reports.findings.best_defense import best_defense
from reports.findings.counterfactuals import counterfactuals
from reports.findings.page import findings
from reports.findings.privacy_budget import privacy_budget
from reports.findings.replacement import replacement

DOCS = Path(__file__).resolve().parents[3] / "docs"
RUNS = ("replacement", "replacement_language", "dp_inversion", "defenses")


@pytest.fixture(scope="module")
def evidence(fake, tmp_path_factory):
    return Evidence(fake.rows, read_samples(fake.write(tmp_path_factory.mktemp("run"))))


@pytest.fixture(scope="module")
def made():
    return findings(DOCS / "results")


def test_page_and_figure_are_current(made):
    page, figure = made
    assert (DOCS / "findings.md").read_text(encoding="utf-8") == page, "run `make findings`"
    kept = (DOCS / "figures" / "privacy_price.csv").read_bytes()
    assert kept == csv_bytes(figure.data), "run `make findings`"


@pytest.mark.slow
@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_order_of_equally_strong_attacks_does_not_hang_on_the_process(hash_seed, made):
    code = (
        "from pathlib import Path; from reports.findings.page import findings; "
        f"import sys; sys.stdout.write(str(findings(Path({str(DOCS / 'results')!r}))[1].data))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == str(made[1].data)


def test_every_link_and_every_row_of_the_page_is_whole():
    page = (DOCS / "findings.md").read_text(encoding="utf-8")
    anchors = set(re.findall(r'<a id="([^"]+)">', page))
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) == anchors
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert table and all(line.endswith(" |") for line in table)
    for name in RUNS:
        manifest = json.loads((DOCS / "results" / name / "manifest.json").read_text())
        assert manifest["status"] == "done" and manifest["scenario"]["name"] == name
        assert not manifest["git"]["dirty"]


def test_the_best_defence_is_judged_by_its_worst_attack(evidence):
    answer = best_defense(evidence)
    advantages = [float(row[2].split()[0].replace("−", "-")) for row in answer.rows]
    assert advantages == sorted(advantages)
    row = next(row for row in answer.rows if row[0] == "DP-FedAvg z=1")
    # It hides the items, and the attacks on training are not shown to fail: the verdict is theirs.
    assert row[3] in ("does not hold", "inconclusive")
    assert row[1].startswith(("A-hum", "sign flip"))


def test_a_budget_that_stops_inversion_is_named_with_its_price(evidence):
    answer = privacy_budget(evidence)
    (lumos,) = (s for s in answer.sentences if s.startswith("**LUMOS, user_dp**"))
    assert "ε that brings every inversion to chance is 4.2 (DP-FedAvg z=1)" in lumos
    weak = Evidence([r for r in evidence.rows if r.strength != 1.0], read_samples(Path("none")))
    (said,) = (s for s in privacy_budget(weak).sentences if s.startswith("**LUMOS, user_dp**"))
    assert "none of 2 strengths, down to ε = 900, brings every inversion to chance" in said


def test_replacement_is_told_with_what_it_still_discloses(evidence):
    answer = replacement(evidence, evidence)
    (said,) = (s for s in answer.sentences if s.startswith("**replacement**"))
    assert "from replacement σ=0.5 on" in said and "of Hit@1" in said


def paired_run(folder, gain):
    """Two weights of the counterfactual view; ``gain`` is what 0 adds for every user."""
    rows, samples = [], []
    for seed in range(3):
        luck = np.random.default_rng(seed).random(200)
        for name, weight, extra in (("none", np.nan, 0.0), ("off", 0.0, gain)):
            values = (luck < 0.2 + extra).astype(np.float32)
            row = Row(run="r", cell=f"{name}{seed}", system="lumos", metric="hr", side="utility",
                      better="higher", k=20, protocol="full", seed=seed, value=float(values.mean()),
                      n=200, defense=name, defense_family=name)  # fmt: skip
            row = row if name == "none" else replace(row, strength=weight, strength_name="weight")
            rows.append(row)
            samples.append(SampleBlock(cell=row.cell, metric="hr", k=20, protocol="full",
                                       units=np.arange(200), values=values))  # fmt: skip
    write_results(folder, rows, samples)
    return Evidence(rows, read_samples(folder))


@pytest.mark.parametrize(("gain", "bold"), [(0.0, False), (0.15, True), (-0.15, True)])
def test_a_difference_counts_only_if_its_interval_excludes_zero(tmp_path, gain, bold):
    answer = counterfactuals(paired_run(tmp_path, gain))
    (treated,) = (row for row in answer.rows if row[0] == "0")
    assert treated[1].startswith("**") is bold
    told = answer.sentences[0]
    assert ("1 of 1 measures do not differ" in told) is not bold
    if bold:
        assert (f"{'better for the user' if gain > 0 else 'worse'}: HR@20, clean") in told


def test_the_figures_data_are_a_table(evidence):
    kept = (DOCS / "figures" / "privacy_price.csv").read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(kept)))
    assert len({len(row) for row in rows}) == 1 and {row[0] for row in rows[1:]} >= {
        "sf-ubm on ml-1m genres"
    }
