import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from harness.metrics import interval


def stream(seed=0):
    return np.random.default_rng(seed)


def test_bootstrap_width_follows_the_standard_error():
    values = stream(1).normal(3.0, 2.0, size=2500)
    found = interval.bootstrap_mean(values, stream(), draws=4000)
    half = 1.96 * values.std() / 50
    assert found.value == pytest.approx(values.mean()) and found.n == 2500
    assert found.low == pytest.approx(found.value - half, abs=0.06 * half)
    assert found.high == pytest.approx(found.value + half, abs=0.06 * half)


def test_few_distinct_values_take_the_exact_short_cut_with_the_same_distribution():
    hits = (stream(2).random(900) < 0.3).astype(float)
    short = interval.bootstrap_mean(hits, stream(), draws=6000)
    jittered = hits + stream(3).normal(0, 1e-9, size=900)  # all distinct: drawn one by one
    plain = interval.bootstrap_mean(jittered, stream(), draws=6000)
    assert short.low == pytest.approx(plain.low, abs=0.003)
    assert short.high == pytest.approx(plain.high, abs=0.003)


def test_coverage_over_users_is_close_to_what_is_claimed():
    rng, covered = stream(4), 0
    for _ in range(400):
        found = interval.bootstrap_mean(rng.exponential(size=80), rng, draws=400)
        covered += found.low <= 1.0 <= found.high
    assert 0.89 < covered / 400 < 0.98


def test_same_stream_same_interval_and_nan_users_are_dropped():
    values = np.array([1.0, np.nan, 3.0, 4.0, np.nan])
    first, second = (interval.bootstrap_mean(values, stream(9)) for _ in range(2))
    assert first == second and first.n == 3 and first.value == pytest.approx(8 / 3)


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_nothing_measured_is_nan(values):
    found = interval.bootstrap_mean(np.array(values), stream())
    assert found.n == 0 and all(math.isnan(x) for x in found[:3])


def test_one_value_has_no_interval():
    found = interval.bootstrap_mean(np.array([0.5]), stream())
    assert found.value == 0.5 and math.isnan(found.low) and math.isnan(found.high)
    assert math.isnan(interval.wilson_interval(1, 1).low)


def test_seeds_that_differ_widen_the_interval():
    rng = stream(5)
    alike = [rng.normal(0, 1, size=400) for _ in range(5)]
    apart = [a + shift for a, shift in zip(alike, [-2, -1, 0, 1, 2], strict=True)]
    narrow = interval.over_seeds(alike, stream())
    wide = interval.over_seeds(apart, stream())
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)
    # Seeds alone: the mean of five draws out of -2..2 has standard deviation sqrt(2 / 5).
    assert wide.high - wide.low == pytest.approx(2 * 1.96 * math.sqrt(2 / 5), rel=0.12)


def test_seeds_weigh_alike_whatever_their_number_of_users():
    found = interval.over_seeds([np.zeros(10), np.ones(1000)], stream())
    assert found.value == 0.5 and found.n == 1010


@given(st.integers(0, 200), st.integers(2, 200))
def test_wilson_equals_an_independent_implementation(successes, n):
    successes = min(successes, n)
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    found = interval.wilson_interval(successes, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_refuses_impossible_counts():
    with pytest.raises(ValueError, match="between 0 and n"):
        interval.wilson_interval(3, 2)
    assert math.isnan(interval.wilson_interval(0, 0).value)


def test_no_hit_in_a_hundred_users_is_not_certainty():
    groups = [np.zeros(50), np.zeros(50)]
    assert interval.over_seeds(groups, stream()).high == 0
    found = interval.proportion_over_seeds(groups, stream())
    assert found.high == pytest.approx(interval.wilson_interval(0, 100).high) and found.low == 0
    graded = [np.full(50, 0.5), np.full(50, 0.5)]
    assert interval.proportion_over_seeds(graded, stream()).high == 0.5


def test_pairing_removes_what_users_have_in_common():
    rng = stream(6)
    base = [rng.normal(0, 5, size=300) for _ in range(3)]
    treated = [b - 0.5 + rng.normal(0, 0.1, size=300) for b in base]
    found = interval.paired_difference(treated, base, stream())
    assert -0.55 < found.low < -0.5 < found.high < -0.45 and found.n == 900
    with pytest.raises(ValueError, match="same seeds and users"):
        interval.paired_difference(treated[:2], base, stream())


def test_identical_sides_differ_by_exactly_nothing():
    base = [stream(7).normal(size=50)]
    assert interval.paired_difference(base, base, stream())[:3] == (0, 0, 0)
    assert interval.paired_ratio(base, base, stream())[:3] == (1, 1, 1)


def test_ratio_interval_contains_the_ratio_of_means_and_nan_without_a_baseline():
    rng = stream(8)
    base = [(rng.random(800) < 0.4).astype(float) for _ in range(3)]
    kept = [b * (rng.random(800) < 0.75) for b in base]
    found = interval.paired_ratio(kept, base, stream())
    assert found.value == pytest.approx(np.mean(kept) / np.mean(base))
    assert found.low < 0.75 < found.high and found.high - found.low < 0.12
    zero = [np.zeros(10)]
    assert math.isnan(interval.paired_ratio(zero, zero, stream()).value)


def test_hits_that_agree_for_every_user_are_no_proof_of_an_exact_ratio():
    hits = np.array([1.0, 0.0] * 50)
    found = interval.paired_ratio([hits], [hits], stream())
    unseen = interval.wilson_interval(0, 100).high / 0.5
    assert found.value == 1.0
    assert (found.low, found.high) == pytest.approx((1 - unseen, 1 + unseen))
    assert 0.9 < found.low < 0.95
