import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from harness.metrics import recovery


def tied_example(seed):
    rng = np.random.default_rng(seed)
    scores, truth = rng.integers(0, 5, size=40).astype(float), rng.random(40) < 0.3
    truth[:2] = [True, False]
    return scores, truth


@given(st.integers(0, 10_000))
def test_auc_counts_every_pair_with_ties_one_half(seed):
    scores, truth = tied_example(seed)
    wins = [
        (a > b) + 0.5 * (a == b) for a in scores[truth] for b in scores[~truth]
    ]  # the definition, pair by pair
    assert recovery.roc_auc(scores, truth) == pytest.approx(np.mean(wins), abs=1e-12)


@given(st.integers(0, 10_000))
def test_average_precision_equals_an_independent_implementation(seed):
    scores, truth = tied_example(seed)
    expected = reference.average_precision_score(truth, scores)
    assert recovery.average_precision(scores, truth) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 10_000))
def test_nothing_changes_under_a_monotone_map_or_a_shuffle(seed):
    scores, truth = tied_example(seed)
    order = np.random.default_rng(seed + 1).permutation(40)
    for metric in (
        recovery.roc_auc,
        recovery.average_precision,
        recovery.precision_at_size,
        recovery.advantage,
        lambda s, t: recovery.tpr_at_fpr(s, t, 0.2),
    ):
        value = metric(scores, truth)
        assert metric(np.exp(scores), truth) == pytest.approx(value, abs=1e-12)
        assert metric(scores[order], truth[order]) == pytest.approx(value, abs=1e-12)


def test_oracle_is_perfect_and_constant_score_is_chance():
    truth = np.arange(50) < 10
    oracle, constant = truth.astype(float), np.ones(50)
    assert recovery.roc_auc(oracle, truth) == 1
    assert recovery.average_precision(oracle, truth) == 1
    assert recovery.precision_at_size(oracle, truth) == 1
    assert recovery.advantage(oracle, truth) == 1
    assert recovery.tpr_at_fpr(oracle, truth, 0.1) == 1
    assert recovery.roc_auc(constant, truth) == 0.5
    assert recovery.precision_at_size(constant, truth) == pytest.approx(10 / 50)
    assert recovery.average_precision(constant, truth) == pytest.approx(10 / 50)
    assert recovery.advantage(constant, truth) == 0
    assert recovery.tpr_at_fpr(constant, truth, 0.1) == 0


def test_precision_at_size_is_the_mean_over_all_orders_of_the_tied_items():
    scores = np.array([3.0, 2.0, 2.0, 2.0, 1.0])
    truth = np.array([True, True, False, False, True])
    # |S| = 3: the first item, and two of the three tied ones, of which one is true.
    assert recovery.precision_at_size(scores, truth) == pytest.approx((1 + 2 * 1 / 3) / 3)


def test_tpr_at_fpr_needs_enough_negatives():
    scores, truth = np.arange(1000, dtype=float), np.zeros(1000, dtype=bool)
    truth[-1:] = True
    assert math.isnan(recovery.tpr_at_fpr(scores, truth, 0.001))  # 999 negatives
    more = np.append(scores, -1.0), np.append(truth, False)
    assert recovery.tpr_at_fpr(*more, 0.001) == 1  # 1,000 negatives
    with pytest.raises(ValueError, match="between 0 and 1"):
        recovery.tpr_at_fpr(scores, truth, 0.0)


def test_tpr_at_fpr_hand_value():
    scores = np.array([9.0, 8, 7, 6, 5, 4, 3, 2, 1, 0, -1, -2])
    truth = np.isin(np.arange(12), [0, 2])  # the ten negatives: rates in steps of 0.1
    assert recovery.tpr_at_fpr(scores, truth, 0.1) == 1
    truth = np.isin(np.arange(12), [0, 3])
    assert recovery.tpr_at_fpr(scores, truth, 0.1) == 1 / 2


def test_tpr_of_a_gaussian_release_follows_its_closed_form():
    from scipy.stats import norm

    rng, shift, n = np.random.default_rng(3), 1.5, 40_000
    scores = np.concatenate([rng.normal(shift, size=n), rng.normal(size=n)])
    truth = np.arange(2 * n) < n
    assert recovery.roc_auc(scores, truth) == pytest.approx(norm.cdf(shift / 2**0.5), abs=0.006)
    expected = norm.cdf(shift - norm.isf(0.05))
    assert recovery.tpr_at_fpr(scores, truth, 0.05) == pytest.approx(expected, abs=0.012)


def test_one_class_or_nan_scores_are_not_measurable():
    scores = np.arange(4.0)
    for truth in (np.zeros(4, dtype=bool), np.ones(4, dtype=bool)):
        assert math.isnan(recovery.roc_auc(scores, truth))
    assert math.isnan(recovery.precision_at_size(scores, np.zeros(4, dtype=bool)))
    broken = np.array([1.0, np.nan])
    assert math.isnan(recovery.roc_auc(broken, np.array([True, False])))
    empty = np.empty(0), np.empty(0, dtype=bool)
    assert math.isnan(recovery.roc_auc(*empty)) and math.isnan(recovery.average_precision(*empty))


def test_set_quality_by_hand_and_at_the_edges():
    truth = np.array([True, True, True, False])
    quality = recovery.set_quality(np.array([True, True, False, True]), truth)
    assert quality == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    none = recovery.set_quality(np.zeros(4, dtype=bool), truth)
    assert math.isnan(none.precision) and none.recall == 0 and none.f1 == 0
    assert math.isnan(recovery.set_quality(truth, np.zeros(4, dtype=bool)).recall)


def test_f1_of_a_random_guess_of_the_same_size_is_the_base_rate():
    rng = np.random.default_rng(5)
    truth = np.arange(500) < 40
    f1 = [recovery.set_quality(rng.permutation(truth), truth).f1 for _ in range(400)]
    assert abs(np.mean(f1) - 40 / 500) < 4 * np.std(f1) / 20


def test_exact_position_by_hand():
    truth, claimed = np.array([-1, 5, 6, 7]), np.array([-1, 5, 7, -1])
    assert recovery.exact_position(claimed, truth) == pytest.approx(1 / 3)
    assert math.isnan(recovery.exact_position(claimed, np.full(4, -1)))
    with pytest.raises(ValueError, match="positions"):
        recovery.exact_position(claimed[:2], truth)
