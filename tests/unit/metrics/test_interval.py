import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import binomtest

from harness.metrics import interval, shares


def stream(seed=0):
    return np.random.default_rng(seed)


def test_bootstrap_width_follows_the_standard_error():
    values = stream(1).normal(3.0, 2.0, size=2500)
    found = interval.bootstrap_mean(values, stream(), draws=4000)
    half = 1.96 * values.std() / 50
    assert found.value == pytest.approx(values.mean()) and found.n == 2500
    assert found.low == pytest.approx(found.value - half, abs=0.06 * half)
    assert found.high == pytest.approx(found.value + half, abs=0.06 * half)


def test_bootstrap_agrees_with_an_obvious_studentised_one():
    values, rng = stream(2).exponential(size=30), stream(3)
    mean, error = values.mean(), values.std(ddof=1) / math.sqrt(30)
    ratios = []
    for _ in range(6000):
        drawn = rng.choice(values, size=30)
        ratios.append((drawn.mean() - mean) / (drawn.std(ddof=1) / math.sqrt(30)))
    low, high = np.quantile(ratios, [0.025, 0.975])
    found = interval.bootstrap_mean(values, stream(), draws=6000)
    assert found.low == pytest.approx(mean - high * error, abs=0.1 * error)
    assert found.high == pytest.approx(mean - low * error, abs=0.15 * error)
    # Skewed values reach further up than down, as the mean of too few large values is too low.
    assert found.high - mean > 1.3 * (mean - found.low)


def test_without_resamples_the_interval_is_that_of_student():
    values = stream(4).normal(size=12)
    found = interval.bootstrap_mean(values, stream(), draws=0)
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert found[1:3] == pytest.approx(expected)


def test_a_mean_of_few_values_is_never_narrower_than_student_says():
    for size in range(2, 8):
        values = stream(size).normal(size=size)
        found = interval.bootstrap_mean(values, stream(), draws=500)
        low, high = stats.t.interval(0.95, size - 1, values.mean(), stats.sem(values))
        assert found.low <= low + 1e-9 and found.high >= high - 1e-9


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
    assert math.isnan(interval.exact_share(1, 1).low)


def obvious_parts(values):
    """Variance components of users in every seed, from the sums of squares of two-way ANOVA."""
    seeds, users = values.shape
    rest = values - values.mean(0) - values.mean(1)[:, None] + values.mean()
    error = (rest**2).sum() / ((seeds - 1) * (users - 1))
    of_users = seeds * values.mean(0).var(ddof=1)
    of_seeds = users * values.mean(1).var(ddof=1)
    return of_users / (seeds * users), of_seeds / (seeds * users), error / (seeds * users)


def cochran_cox(values):
    """Half width of normal values: Cochran and Cox's weighted quantile, at least that of users."""
    seeds, users = values.shape
    of_users, of_seeds, shared = obvious_parts(values)
    t_users, t_seeds = stats.t.ppf(0.975, users - 1), stats.t.ppf(0.975, seeds - 1)
    lasting = max(0.0, of_users - shared)
    weighted = t_users * lasting + t_seeds * of_seeds
    return max(weighted / math.sqrt(lasting + of_seeds), t_users * math.sqrt(of_users))


@pytest.mark.parametrize(("seeds", "apart"), [(2, 0.0), (3, 0.1), (5, 0.5), (10, 0.0)])
def test_returning_users_have_the_width_of_two_crossed_effects(seeds, apart):
    rng = stream(5)
    values = (
        rng.normal(size=60) + rng.normal(0, 0.5, (seeds, 60)) + rng.normal(0, apart, (seeds, 1))
    )
    found = interval.over_seeds(list(values), stream(), draws=0)
    half = cochran_cox(values)
    assert found[:3] == pytest.approx((values.mean(), values.mean() - half, values.mean() + half))
    resampled = interval.over_seeds(list(values), stream(), draws=8000)
    assert resampled.high - resampled.low == pytest.approx(2 * half, rel=0.05)


def test_users_that_return_do_not_count_anew_in_every_seed():
    values = stream(6).normal(size=200)
    once = interval.over_seeds([values], stream(), draws=2000)
    again = interval.over_seeds([values] * 5, stream(), draws=2000)
    assert again[:3] == pytest.approx(once[:3]) and again.n == 1000


def test_users_are_found_by_their_ids_not_by_their_place():
    values, rng = stream(7).normal(size=100), stream(8)
    order = [rng.permutation(100) for _ in range(3)]
    straight = interval.over_seeds([values] * 3, stream(), draws=0)
    shuffled = interval.over_seeds([values[o] for o in order], stream(), units=order, draws=0)
    assert shuffled == pytest.approx(straight)
    # By place, the same values would look like three times as many users.
    wrong = interval.over_seeds([values[o] for o in order], stream(), draws=0)
    assert wrong.high - wrong.low < 0.8 * (straight.high - straight.low)


def test_users_of_one_seed_only_count_in_that_seed():
    # Seeds without a common user are samples of their own: variances of the means add up.
    groups = [stream(9).normal(m, 1, n) for m, n in ((0, 40), (0, 80), (0, 120))]
    ids = np.split(np.arange(240), [40, 120])
    found = interval.over_seeds(groups, stream(), units=ids, draws=0)
    means = [g.mean() for g in groups]
    within = math.sqrt(sum(g.var() / len(g) for g in groups) / 9 * 240 / 239)
    half = max(stats.t.ppf(0.975, 239) * within, stats.t.ppf(0.975, 2) * stats.sem(means))
    assert found.value == pytest.approx(np.mean(means))
    assert found.high - found.value == pytest.approx(half, rel=0.02)


def test_seeds_weigh_alike_whatever_their_number_of_users():
    found = interval.over_seeds([np.zeros(10), np.ones(1000)], stream())
    assert found.value == 0.5 and found.n == 1010


def test_a_user_with_several_values_is_one_user():
    values, ids = stream(10).normal(size=50), np.arange(50)
    once = interval.over_seeds([values], stream(), units=[ids], draws=0)
    twice = interval.over_seeds([np.tile(values, 2)], stream(), units=[np.tile(ids, 2)], draws=0)
    assert twice[:3] == pytest.approx(once[:3]) and twice.n == 100
    hit = interval.over_seeds([np.ones(100)], stream(), units=[np.tile(ids, 2)], draws=0)
    assert hit.n == 100


def test_one_user_bounds_nothing_however_many_seeds():
    found = interval.over_seeds([np.array([0.4]), np.array([0.6])], stream())
    assert found.value == 0.5 and found.n == 2 and math.isnan(found.low)


@given(st.integers(0, 200), st.integers(2, 200))
def test_exact_shares_equal_an_independent_implementation(successes, n):
    successes = min(successes, n)
    expected = binomtest(successes, n).proportion_ci(method="exact")
    found = interval.exact_share(successes, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    values = np.repeat([1.0, 0.0], [successes, n - successes])
    assert interval.bootstrap_mean(values, stream()) == pytest.approx(found)


@given(st.integers(0, 200), st.integers(2, 200))
def test_wilson_equals_an_independent_implementation(successes, n):
    successes = min(successes, n)
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    ((low, high),) = shares.wilson(np.array([successes]), np.array([n]), 0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_exact_share_refuses_impossible_counts():
    with pytest.raises(ValueError, match="between 0 and n"):
        interval.exact_share(3, 2)
    assert math.isnan(interval.exact_share(0, 0).value)


@pytest.mark.parametrize("seeds", [1, 3])
def test_no_hit_in_a_hundred_users_is_not_certainty(seeds):
    none = interval.over_seeds([np.zeros(100)] * seeds, stream())
    # What counts is 100 users, not 100 users times seeds: 1 - 0.025 ** (1 / 100).
    assert none[:3] == pytest.approx((0, 0, 1 - 0.025**0.01), rel=0.02)
    every = interval.over_seeds([np.ones(100)] * seeds, stream())
    assert every[:3] == pytest.approx((1, 0.025**0.01, 1), rel=0.002)


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
    base = [(rng.random(800) < 0.4).astype(float)] * 3
    kept = [b * (rng.random(800) < 0.75) for b in base]
    found = interval.paired_ratio(kept, base, stream())
    assert found.value == pytest.approx(np.mean(kept) / np.mean(base))
    assert found.low < 0.75 < found.high and found.high - found.low < 0.12
    zero = [np.zeros(10)]
    assert math.isnan(interval.paired_ratio(zero, zero, stream()).value)


def test_hits_that_agree_for_every_user_are_no_proof_of_an_exact_ratio():
    hits = np.array([1.0, 0.0] * 50)
    found = interval.paired_ratio([hits], [hits], stream())
    difference = interval.paired_difference([hits], [hits], stream())
    # Either share that could differ unseen is at most z² / (n + z²), and both may at once.
    unseen = 3.8415 / 103.8415
    assert difference[:3] == pytest.approx((0, -unseen, unseen), rel=1e-3)
    assert found[:3] == pytest.approx((1, 1 - 2 * unseen, 1 + 2 * unseen), rel=1e-3)


def test_graded_values_that_mostly_stand_at_0_leave_room_too():
    mostly = np.where(np.arange(100) < 10, 0.63, 0.0)
    found = interval.paired_difference([mostly], [mostly], stream())
    assert found.high == pytest.approx(1 - 0.025**0.01) and found.low == -found.high


def test_difference_of_hits_is_newcombes():
    # Newcombe 1998, method 10 takes the two margins; the shares gained and lost give the same kind
    # of bounds, and both tend to the normal ones: sqrt((b + c - (b - c)² / n)) / n standard errors.
    n, gained, lost = 4000, 300, 200
    treated = np.repeat([1.0, 0.0, 1.0, 0.0], [gained, lost, 1500, 2000])
    baseline = np.repeat([0.0, 1.0, 1.0, 0.0], [gained, lost, 1500, 2000])
    found = interval.paired_difference([treated], [baseline], stream())
    half = 1.96 * math.sqrt(gained + lost - (gained - lost) ** 2 / n) / n
    assert found[:3] == pytest.approx((0.025, 0.025 - half, 0.025 + half), abs=0.03 * half)


def test_ratio_is_fiellers():
    rng = stream(12)
    base = rng.normal(2, 1, 40)
    treated = 0.8 * base + rng.normal(0, 0.3, 40)
    found = interval.paired_ratio([treated], [base], stream(), draws=0)
    # Those ratios for which treated less ratio times base has a mean that may be 0.
    grid = np.linspace(0.6, 1.0, 40001)
    rest = treated[:, None] - grid * base[:, None]
    held = grid[np.abs(rest.mean(0)) <= stats.t.ppf(0.975, 39) * rest.std(0, ddof=1) / 40**0.5]
    assert found[1:3] == pytest.approx((held.min(), held.max()), abs=2e-5)


def test_a_baseline_that_may_be_nothing_bounds_no_ratio():
    base = stream(13).normal(0.05, 1, 40)
    found = interval.paired_ratio([base + 1], [base], stream())
    assert not math.isnan(found.value) and math.isnan(found.low) and math.isnan(found.high)
    once = np.repeat([1.0, 0.0], [1, 99])
    hit = interval.paired_ratio([once], [once], stream())
    assert hit.value == 1 and hit.low == 0 and hit.high > 10
