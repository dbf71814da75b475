"""Claimed ε beside the audited bound: pooling, verdicts, and audits kept out of all else."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from harness.metrics.one_run import one_run_epsilon
from harness.results import Row, SampleBlock, read_samples, write_results
from reports.audits import (
    NO_CLAIM,
    NOT_AUDITED,
    OUT_OF_REACH,
    REFUTED,
    STANDS,
    SUSPICIOUS,
    audit_words,
    budget_tables,
    budgets,
    refuted,
    without_audits,
)
from reports.html import build_report

SIZE = 300


def rows(epsilon, wrong, estimate=1.0, seeds=(0, 1), defense="dp", apart=0.0):
    """An audited arm: one guess in ``wrong`` is wrong; none for 0."""
    found, blocks = [], []
    delta = 1e-5 if math.isfinite(epsilon) else math.nan
    for seed in seeds:
        base = Row(
            run="r", cell=f"{defense}-{seed}", system="lumos", metric="hr", side="utility",
            better="higher", value=0.1, n=9, k=20, seed=seed, defense=defense, dataset="ml",
            defense_family="dp_fedavg", poisoning="canaries", malicious=0.5, epsilon=epsilon,
            delta=delta,
        )  # fmt: skip
        place = np.arange(1, SIZE + 1)
        margins = np.where(place % wrong == 0 if wrong else place < 0, -1.0, 1.0) * place / SIZE
        blocks.append(
            SampleBlock(cell=base.cell, metric="canary_margin", units=place, values=margins,
                        attack="canaries")
        )  # fmt: skip
        privacy = replace(base, side="privacy", better="lower", k=0, n=SIZE)
        audit = replace(privacy, attack="canaries", threat_model="An auditor sees all.")
        found += [
            base,
            replace(base, metric="seconds", side="cost", better="lower", k=0),
            replace(audit, metric="canary_margin", value=margins.mean(), chance=0.0),
            replace(audit, metric="epsilon_audited", value=one_run_epsilon([margins], 1e-5)),
            replace(audit, metric="delta_audited", value=1e-5),
            replace(audit, metric="epsilon_estimate", value=estimate),
            replace(audit, metric="canary_separation", value=apart),
        ]
        if math.isfinite(epsilon):
            found += [
                replace(privacy, metric="epsilon_claimed", value=epsilon, n=20, threat_model="all",
                        reason="central: one client"),
                replace(privacy, metric="noise_multiplier", value=1.5, n=20),
            ]  # fmt: skip
    return found, blocks


def read(tmp_path, found, blocks):
    write_results(tmp_path, found, blocks)
    return budgets(found, read_samples(tmp_path))


@pytest.mark.parametrize(
    ("epsilon", "wrong", "apart", "verdict"),
    [
        (0.5, 0, 0.1, REFUTED),
        (4.0, 10, 0.9, STANDS),
        (4.0, 10, 2.0, SUSPICIOUS),
        (40.0, 0, 3.0, OUT_OF_REACH),
        (math.nan, 0, 30.0, NO_CLAIM),
    ],
)
def test_the_verdict_follows_from_the_pooled_bound(tmp_path, epsilon, wrong, apart, verdict):
    found, blocks = rows(epsilon, wrong, apart=apart)
    (budget,) = read(tmp_path, found, blocks)
    assert budget.verdict == verdict
    alone = next(r.value for r in found if r.metric == "epsilon_audited")
    assert budget.proved > alone and budget.canaries == 2 * SIZE and budget.seeds == 2
    assert budget.utility == (pytest.approx(0.1), 20)
    assert bool(refuted([budget])) == (verdict == REFUTED)
    line = budget_tables([budget])[0].rows[0]
    tone = {REFUTED: "bad", STANDS: "good", SUSPICIOUS: "warn"}.get(verdict, "")
    assert [c.tone for c in line if c.text.lower() == verdict] == [tone]


def test_a_claim_without_an_audit_is_shown_as_such(tmp_path):
    found, _ = rows(3.0, 0)
    plain = [
        replace(r, poisoning="none", malicious=0.0)
        for r in found
        if r.attack == "none" and not math.isnan(r.epsilon)
    ]
    (budget,) = read(tmp_path, plain, [])
    assert budget.verdict == NOT_AUDITED and budget.epsilon == 3.0 and budget.noise == 1.5
    assert audit_words([budget]) == "" and budget_tables([]) == []
    assert without_audits(plain) == plain


@pytest.mark.slow
def test_audited_trainings_enter_no_verdict_price_or_cost(make_fake, tmp_path):
    found, blocks = rows(0.5, 0)
    fake = make_fake(seeds=(0,))
    fake.rows += found
    fake.samples += blocks
    folder = fake.write(tmp_path)
    text = build_report(folder).read_text(encoding="utf-8")
    assert "the privacy claim is REFUTED" in text and 'role="alert"' in text
    before, after = text.split('id="budgets"')
    assert "CLAIM REFUTED" in after and "50 % canaries" in after
    assert "50 % malicious" not in text.replace("resolved scenario", "")
    assert {r.cell for r in without_audits(fake.rows)}.isdisjoint({r.cell for r in found})
    assert "1 privacy audit" in before


def test_a_claim_below_zero_of_an_older_table_claims_zero_and_is_not_refuted_by_zero(tmp_path):
    found, blocks = rows(-0.015, 2)
    (budget,) = read(tmp_path, found, blocks)
    assert budget.epsilon == 0.0 and budget.proved == 0.0 and budget.verdict != REFUTED
    assert refuted([budget]) == [] and "refuted:" not in audit_words([budget])
