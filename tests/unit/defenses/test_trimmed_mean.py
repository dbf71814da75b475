"""Trimmed mean against SciPy, against padding with zeros, and against plain averaging."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import trim_mean

from defenses.counterfactual_negatives import CounterfactualNegatives
from defenses.trimmed_mean import TrimmedMean, trimmed_mean
from harness.core.averaging import average
from harness.core.defense import DataPlan, Federation
from tests.unit.attacks.cases import DIM, NUM_ITEMS, rows_of, same, update

FEDERATION = Federation(100, 10, 5, NUM_ITEMS)


@pytest.mark.parametrize("rows", ["touched", "all"])
def test_no_trim_is_plain_averaging(rows):
    message = update(12)
    aggregate = TrimmedMean(trim=0.0, rows=rows).aggregate([message], FEDERATION)
    assert same(aggregate, average([message], FEDERATION.num_items, over_cohort=rows == "all"))


@given(st.integers(1, 40), st.floats(0, 0.49), st.integers(0, 2**31))
def test_dense_matches_scipy(clients, trim, seed):
    values = np.random.default_rng(seed).normal(size=(clients, 3))
    if abs(trim * clients - round(trim * clients)) < 1e-8:
        trim = 0.2
    ours = trimmed_mean(torch.from_numpy(values), trim).numpy()
    np.testing.assert_allclose(ours, trim_mean(values, trim), rtol=1e-12, atol=1e-12)


@given(st.integers(1, 12), st.integers(0, 30), st.floats(0.01, 0.49), st.integers(0, 2**31))
def test_silent_clients_count_as_zeros(senders, silent, trim, seed):
    stream = np.random.default_rng(seed)
    values = torch.from_numpy(np.round(stream.normal(size=(senders, 4)), 1))  # with exact zeros
    padded = torch.cat([values, torch.zeros(silent, 4, dtype=values.dtype)])
    torch.testing.assert_close(
        trimmed_mean(values, trim, silent), trimmed_mean(padded, trim), atol=1e-12, rtol=1e-9
    )


@pytest.mark.parametrize("scope", ["touched", "all"])
def test_rows_match_a_loop_over_items(scope):
    message = update(40, slots=12)
    aggregate = TrimmedMean(trim=0.25, rows=scope).aggregate([message], FEDERATION)
    sent: dict[int, list[np.ndarray]] = {}
    for place in range(40):
        for item, row in rows_of(message, place).items():
            sent.setdefault(item, []).append(row.numpy())
    assert sorted(aggregate.row_ids.tolist()) == sorted(sent)
    for item, row in zip(aggregate.row_ids.tolist(), aggregate.rows.numpy(), strict=True):
        values = sent[item]
        if scope == "all":
            values = values + [np.zeros(DIM, dtype=np.float32)] * (40 - len(values))
        np.testing.assert_allclose(row, trim_mean(np.stack(values), 0.25), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        aggregate.dense["bias"].double(),
        torch.from_numpy(trim_mean(message.dense["bias"].double().numpy(), 0.25)),
        atol=1e-6,
        rtol=1e-5,
    )


def test_a_sparse_table_is_zeroed_over_the_whole_cohort_but_not_over_senders():
    """The trap: textbook trimming of a table that few clients touch stops learning."""
    message = update(30, slots=2)
    over_all = TrimmedMean(trim=0.2, rows="all").aggregate([message], FEDERATION)
    touched = TrimmedMean(trim=0.2).aggregate([message], FEDERATION)
    assert over_all.rows.abs().sum() < 0.01 * touched.rows.abs().sum()


def test_outliers_within_the_trim_cannot_leave_the_honest_hull():
    message = update(10)
    factor = torch.ones(10)
    factor[:2] = 1e9
    attacked = message.scaled(factor)
    result = TrimmedMean(trim=0.2).aggregate([attacked], FEDERATION).dense["bias"]
    honest = message.dense["bias"][2:]
    assert (result >= honest.min(0).values).all() and (result <= honest.max(0).values).all()


def test_floor_is_not_fooled_by_binary_fractions():
    values = torch.arange(100.0).unsqueeze(1)
    values[0], values[99] = -1e6, 1e6
    assert trimmed_mean(values, 0.29).item() == pytest.approx(49.5)
    exact = torch.cat([torch.full((29, 1), -1e6), torch.ones(42, 1), torch.full((29, 1), 1e9)])
    assert trimmed_mean(exact, 0.29).item() == 1.0


def test_warns_when_the_trim_is_below_the_malicious_share():
    assert TrimmedMean(trim=0.1).check(FEDERATION, 0.2)
    assert not TrimmedMean(trim=0.2).check(FEDERATION, 0.2)
    for trim in (0.5, 0.9, -0.1):
        with pytest.raises(ValidationError):
            TrimmedMean(trim=trim)


def test_counterfactual_weight_reaches_the_plan():
    plan = DataPlan()
    assert CounterfactualNegatives().on_data(plan) == plan
    assert CounterfactualNegatives(weight=0.0).on_data(plan).counterfactual_weight == 0.0
    assert CounterfactualNegatives.needs == {"counterfactual view"}
    message = update()
    assert CounterfactualNegatives(weight=0.0).on_client(message, FEDERATION, None) is message
