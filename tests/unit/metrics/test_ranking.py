import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics import ranking


def slow_rank(scores, target, excluded, tie):
    better = tied = 0
    for item, score in enumerate(scores):
        if item == target or excluded[item]:
            continue
        better += score > scores[target]
        tied += score == scores[target]
    return 1 + better + (tied if tie == "pessimistic" else tied / 2)


@given(st.integers(0, 10_000), st.sampled_from(["pessimistic", "average"]))
def test_rank_equals_counting_one_item_at_a_time(seed, tie):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, size=(5, 9)).astype(float)
    targets = rng.integers(0, 9, size=5)
    excluded = rng.random((5, 9)) < 0.3
    found = ranking.target_rank(scores, targets, excluded=excluded, tie=tie)
    slow = [slow_rank(s, t, e, tie) for s, t, e in zip(scores, targets, excluded, strict=True)]
    assert found.tolist() == slow


@given(st.integers(0, 10_000))
def test_rank_is_invariant_to_monotone_maps_of_the_scores(seed):
    rng = np.random.default_rng(seed)
    scores, targets = rng.normal(size=(4, 20)), rng.integers(0, 20, size=4)
    mapped = np.exp(3 * scores) - 7
    assert np.array_equal(
        ranking.target_rank(scores, targets), ranking.target_rank(mapped, targets)
    )


def test_constant_scores_rank_last_or_in_the_middle_as_the_tie_rule_states():
    scores, target = np.zeros((1, 9)), np.array([4])
    assert ranking.target_rank(scores, target, tie="pessimistic")[0] == 9
    assert ranking.target_rank(scores, target, tie="average")[0] == (9 + 1) / 2


def test_nan_score_gives_nan_rank_and_nan_metrics_not_zero():
    scores = np.array([[1.0, np.nan, 0.0], [1.0, 2.0, 0.0]])
    ranks = ranking.target_rank(scores, np.array([0, 1]))
    assert math.isnan(ranks[0]) and ranks[1] == 1
    assert math.isnan(ranking.hit_ratio(ranks, 5)[0]) and math.isnan(ranking.ndcg(ranks, 5)[0])
    excluded = np.array([[False, True, False], [False] * 3])
    assert ranking.target_rank(scores, np.array([0, 1]), excluded=excluded)[0] == 1


def test_hand_values():
    ranks = np.array([1.0, 3.0, 4.0])
    assert ranking.hit_ratio(ranks, 3).tolist() == [1, 1, 0]
    assert ranking.ndcg(ranks, 3) == pytest.approx([1, 1 / 2, 0])
    assert ranking.reciprocal_rank(ranks) == pytest.approx([1, 1 / 3, 1 / 4])


def test_hit1_definitions_differ_by_the_invalid_answers():
    chosen, targets = np.array([3, -1, 5, 2]), np.array([3, 1, 4, 2])
    assert np.mean(ranking.hit1_over_all(chosen, targets)) == 2 / 4
    assert np.nanmean(ranking.hit1_over_valid(chosen, targets)) == pytest.approx(2 / 3)
    assert np.mean(ranking.valid_answer(chosen)) == 3 / 4


def test_no_target_is_hit_by_the_mark_of_an_invalid_answer():
    assert ranking.hit1_over_all(np.array([-1]), np.array([-1])).tolist() == [0]


@given(st.integers(1, 12), st.integers(1, 10))
def test_chance_is_the_mean_over_every_possible_place(k, n):
    ranks = np.arange(1, n + 1, dtype=float)
    assert ranking.hit_ratio_chance(k, n) == pytest.approx(ranking.hit_ratio(ranks, k).mean())
    assert ranking.ndcg_chance(k, n) == pytest.approx(ranking.ndcg(ranks, k).mean())
    assert ranking.reciprocal_rank_chance(n) == pytest.approx((1 / ranks).mean())


def test_sampled_hit_ratio_of_a_random_ranker_with_99_negatives_is_one_tenth():
    rng = np.random.default_rng(0)
    ranks = ranking.target_rank(rng.random((4000, 100)), np.zeros(4000, dtype=int))
    error = math.sqrt(0.1 * 0.9 / 4000)
    assert abs(ranking.hit_ratio(ranks, 10).mean() - 0.1) < 4 * error
