"""A privacy audit by the real command on synthetic data: rows, report, gate and resume."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from harness.metrics.one_run import one_run_epsilon
from harness.results import read_results, read_samples
from tests.e2e.test_smoke import ROOT, _harness

pytestmark = pytest.mark.slow
SMOKE = ROOT / "scenarios" / "smoke" / "audit.yaml"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "audit"
    done = _harness("run", SMOKE, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_audited_arm_has_claim_bound_estimate_and_canaries(run_folder):
    table = read_results(run_folder)
    audited = table[table.metric == "epsilon_audited"]
    assert audited.defense.nunique() == 4
    assert (audited.n == 120).all() and (audited.attack == "canaries").all()
    claimed = table[(table.metric == "epsilon_claimed") & (table.poisoning == "canaries")]
    assert claimed.defense.nunique() == 2 and (claimed.value == claimed.epsilon).all()
    excess = table[table.metric == "epsilon_excess"]
    assert set(excess.defense) == set(claimed.defense) and (excess.value <= 0).all()
    unclaimed = audited[audited.epsilon.isna()]
    assert unclaimed.reason.str.contains("no privacy budget is claimed").all()
    assert len(unclaimed) == 4
    # Without noise every canary that took part is seen.
    bare = audited[audited.defense == "none"]
    assert (bare.value > 1).all()


def test_the_bound_follows_from_the_stored_margins(run_folder):
    table, samples = read_results(run_folder), read_samples(run_folder)
    for row in table[table.metric == "epsilon_audited"].itertuples():
        own = samples[(samples.cell == row.cell) & (samples.metric == "canary_margin")]
        delta = table[(table.cell == row.cell) & (table.metric == "delta_audited")].value.item()
        again = one_run_epsilon([np.asarray(own.value, dtype=np.float64)], delta)
        assert again == pytest.approx(row.value, abs=1e-6)


def test_the_report_keeps_audits_apart_and_the_gate_limits_them(run_folder, tmp_path):
    page = (run_folder / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", " ", page)
    assert "none of these claims is refuted" in text and "60 % canaries" in text
    assert "60 % malicious" not in text
    limits = tmp_path / "limits.yaml"
    for bound, code in ((0.0, 0), (-1e6, 10)):
        limits.write_text(
            "schema: 1\nlimits:\n- select: {attack: canaries, metric: epsilon_excess}\n"
            f"  at_most: {bound}\n"
            "- select: {attack: canaries, metric: epsilon_audited, defense: none}\n"
            "  at_least: -1000.0\n"
        )
        assert _harness("gate", run_folder, "--limits", limits).returncode == code
