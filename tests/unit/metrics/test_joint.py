import math

import numpy as np
import pytest
from scipy import stats

from harness.metrics import joint
from harness.metrics.interval import over_seeds
from harness.metrics.joint import over_seeds_jointly, student_t

RNG = np.random.default_rng


def obvious_bootstrap(groups, draws, rng):
    """One resample at a time: seeds, then the users of each seed drawn."""
    means = []
    for _ in range(draws):
        seeds = rng.integers(len(groups), size=len(groups))
        means.append(np.mean([rng.choice(groups[s], size=len(groups[s])).mean() for s in seeds]))
    return np.quantile(means, [0.025, 0.975])


def rows_of_all_kinds():
    rng = RNG(3)
    return {
        "normal": [rng.normal(0.1, 1, 80) for _ in range(3)],
        "one seed": [rng.normal(0.4, 1, 80)],
        "changed hits": [rng.choice([-1.0, 0, 0, 0, 1], 80) for _ in range(3)],
        "seeds apart": [rng.normal(m, 0.1, 80) for m in (-1, 0, 2)],
        "seeds of unequal size": [rng.exponential(2, n) for n in (30, 80, 55)],
        "two seeds": [rng.normal(0.1, 1, 30), rng.normal(0.3, 1, 30)],
    }


def test_bounds_agree_with_an_obvious_bootstrap_one_row_at_a_time():
    rows = rows_of_all_kinds()
    found = dict(zip(rows, over_seeds_jointly(list(rows.values()), draws=6000), strict=True))
    for name, groups in rows.items():
        expected = obvious_bootstrap(groups, 6000, RNG(11))
        # The Monte Carlo error of a 2.5 % quantile of 6,000 draws is about 2.7 % of the spread's σ.
        sigma = (expected[1] - expected[0]) / 3.92
        assert found[name].low == pytest.approx(expected[0], abs=0.17 * sigma), name
        assert found[name].high == pytest.approx(expected[1], abs=0.17 * sigma), name
        same = over_seeds(groups, RNG(0), draws=10)
        assert (found[name].value, found[name].n) == (pytest.approx(same.value), same.n)


def test_a_row_has_the_same_interval_whatever_stands_beside_it():
    rows = list(rows_of_all_kinds().values())
    together = over_seeds_jointly(rows, draws=200)
    alone = [over_seeds_jointly([row], draws=200)[0] for row in rows]
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    assert over_seeds_jointly(rows, draws=200, seed=1) != together


def test_small_blocks_of_resamples_change_nothing_but_the_draws(monkeypatch):
    rows = list(rows_of_all_kinds().values())
    whole = over_seeds_jointly(rows, draws=3000)
    monkeypatch.setattr(joint, "_BLOCK", 7000)
    monkeypatch.setattr(joint, "_CACHED", 500)
    for one, other in zip(over_seeds_jointly(rows, draws=3000), whole, strict=True):
        assert one.value == other.value
        width = other.high - other.low
        assert abs(one.low - other.low) < 0.06 * width > abs(one.high - other.high)


def test_zeros_give_exactly_zero_and_missing_values_are_dropped():
    zeros, values = np.zeros(50), np.array([1.0, math.nan, 3.0, 2.0])
    none, hit, gap, empty, single = over_seeds_jointly(
        [[zeros, zeros], [values], [np.full(4, math.nan), values], [], [np.array([2.0])]], draws=50
    )
    assert none == (0, 0, 0, 100)
    assert (hit.value, hit.n) == (2, 3) and 1 <= hit.low < hit.high <= 3
    assert gap == hit  # a seed without a value is no seed
    assert empty.n == 0 and math.isnan(empty.value)
    assert single.value == 2 and single.n == 1 and math.isnan(single.low)


def test_one_seed_drawn_twice_counts_with_two_resamples():
    # Two seeds of the same values: reusing one resample would widen the interval to that of a
    # single seed whenever a seed is drawn twice.
    values = RNG(5).normal(0, 1, 400)
    (twice,) = over_seeds_jointly([[values, values]], draws=8000)
    expected = 2 * 1.96 * values.std() / math.sqrt(800)
    assert twice.high - twice.low == pytest.approx(expected, rel=0.06)


def test_student_t_is_that_of_scipy():
    rows = [[0.1, 0.2, 0.4], [1.0, 1.0], [3.0], [], [-1.0, 2.0, 0.5]]
    found = student_t(rows)
    for row, interval in zip(rows, found, strict=True):
        assert interval.n == len(row)
        if len(row) > 2:
            expected = stats.t.interval(0.95, len(row) - 1, np.mean(row), stats.sem(row))
            assert interval[1:3] == pytest.approx(expected)
    assert found[1] == (1, 1, 1, 2)
    assert found[2].value == 3 and math.isnan(found[2].low)
    assert math.isnan(found[3].value)
