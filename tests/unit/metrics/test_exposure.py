import math

import numpy as np
import pytest

from harness.metrics import exposure


def chance_of(seen, targets, k):
    """By the matrix of who has seen what, as the scorer never holds it."""
    return exposure.exposure_chance((~seen[~seen[:, targets].all(axis=1)]).sum(axis=1), k)


def test_hand_value_with_a_user_who_has_the_target():
    scores = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 1.0, 2.0]])
    seen = np.array([[True, False, False], [False, True, False], [False, False, False]])
    ranks = exposure.exposed_target_ranks(scores, np.array([1]), seen)
    assert ranks[0, 0] == 1 and math.isnan(ranks[1, 0]) and ranks[2, 0] == 2
    er = exposure.exposure_ratio(ranks, 1)
    assert np.nanmean(er) == 1 / 2 and np.isnan(er).tolist() == [False, True, False]
    assert np.nanmean(exposure.mean_target_rank(ranks)) == (1 + 2) / 2


def test_several_targets_count_only_those_the_user_lacks():
    scores = np.array([[4.0, 3.0, 2.0, 1.0]])
    seen = np.array([[True, False, False, False]])
    ranks = exposure.exposed_target_ranks(scores, np.array([0, 1, 3]), seen)
    assert exposure.exposure_ratio(ranks, 1).tolist() == [1 / 2]


def test_a_list_as_long_as_the_catalogue_exposes_everything():
    rng = np.random.default_rng(0)
    scores, seen = rng.normal(size=(30, 12)), rng.random((30, 12)) < 0.4
    targets = np.array([2, 7])
    ranks = exposure.exposed_target_ranks(scores, targets, seen)
    er = exposure.exposure_ratio(ranks, 12)
    assert np.nanmin(er) == 1
    assert np.array_equal(np.isnan(er), seen[:, targets].all(axis=1))
    assert chance_of(seen, targets, 12) == 1


def test_random_ranker_reaches_the_stated_chance():
    rng = np.random.default_rng(1)
    seen = rng.random((6000, 50)) < 0.2
    ranks = exposure.exposed_target_ranks(rng.random((6000, 50)), np.array([3]), seen)
    er = exposure.exposure_ratio(ranks, 5)
    chance = chance_of(seen, np.array([3]), 5)
    error = math.sqrt(chance * (1 - chance) / (~np.isnan(er)).sum())
    assert abs(np.nanmean(er) - chance) < 4 * error


def test_one_user_without_history_has_chance_k_over_catalogue():
    seen = np.zeros((1, 40), dtype=bool)
    assert chance_of(seen, np.array([0]), 10) == pytest.approx(10 / 40)


def test_everybody_has_the_target_is_nan_not_zero():
    seen = np.ones((2, 3), dtype=bool)
    ranks = exposure.exposed_target_ranks(np.zeros((2, 3)), np.array([0]), seen)
    assert np.isnan(exposure.exposure_ratio(ranks, 1)).all()
    assert math.isnan(chance_of(seen, np.array([0]), 1))
