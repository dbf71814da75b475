import math

import numpy as np
import pytest
from scipy import stats

from harness.metrics import joint
from harness.metrics.interval import paired_difference
from harness.metrics.joint import Pairs, paired_differences_jointly, student_t

RNG = np.random.default_rng


def returning(treated, baseline, ids=None):
    """A row whose users are the same in every seed."""
    ids = np.arange(len(treated[0])) if ids is None else ids
    return Pairs(treated, baseline, [ids] * len(treated))


def rows_of_all_kinds():
    rng = RNG(3)
    base = [rng.normal(0, 1, 80) for _ in range(3)]
    hits = [(rng.random(80) < 0.4).astype(float) for _ in range(4)]
    graded = np.where(rng.random(80) < 0.3, rng.random(80), 0.0)
    gaps = [x.copy() for x in base]
    gaps[1][:30] = np.nan
    sizes = [np.arange(30), np.arange(20, 75), np.arange(60)]
    return {
        "normal": returning([b + rng.normal(0.1, 1, 80) for b in base], base),
        "one seed": returning([base[0] + rng.normal(0.4, 1, 80)], base[:1]),
        "hits": returning(hits[:2], hits[2:]),
        "equal hits": returning(hits, hits),
        "hits of one seed": returning(hits[:1], hits[1:2]),
        "equal and mostly 0": returning([graded], [graded]),
        "seeds apart": returning([b + m for b, m in zip(base, (-1, 0, 2), strict=True)], base),
        "few users": returning([rng.exponential(2, 5)], [np.zeros(5)]),
        "users come and go": Pairs(
            [rng.exponential(2, len(u)) for u in sizes], [np.ones(len(u)) for u in sizes], sizes
        ),
        "hits that come and go": Pairs(
            [hits[0][u] for u in sizes], [hits[1][u] for u in sizes], sizes
        ),
        "missing values": returning(gaps, [b * 0.5 for b in base]),
        "other order": Pairs(
            base[:2], [b * 0.5 for b in base[:2]], [np.arange(80), np.arange(80)[::-1]]
        ),
        "a user twice": returning(base, [b * 0.9 for b in base], np.arange(80) // 2),
    }


def test_a_row_has_the_interval_that_it_has_alone():
    rows = rows_of_all_kinds()
    found = paired_differences_jointly(list(rows.values()), draws=6000)
    for (name, row), interval in zip(rows.items(), found, strict=True):
        alone = paired_difference(row.treated, row.baseline, RNG(11), units=row.units, draws=6000)
        assert (interval.value, interval.n) == (pytest.approx(alone.value, abs=1e-6), alone.n)
        # Quantiles of 6,000 resamples are known to some 3 % of half a width.
        half = (alone.high - alone.low) / 2
        assert interval.low == pytest.approx(alone.low, abs=0.08 * half), name
        assert interval.high == pytest.approx(alone.high, abs=0.08 * half), name


def test_a_row_has_the_same_interval_whatever_stands_beside_it():
    rows = list(rows_of_all_kinds().values())
    together = paired_differences_jointly(rows, draws=200)
    alone = [paired_differences_jointly([row], draws=200)[0] for row in rows]
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-7)
    assert paired_differences_jointly(rows, draws=200, seed=1) != together


def test_small_blocks_of_resamples_change_nothing_but_the_draws(monkeypatch):
    rows = list(rows_of_all_kinds().values())
    whole = paired_differences_jointly(rows, draws=3000)
    monkeypatch.setattr(joint, "_BLOCK", 7000)
    monkeypatch.setattr(joint, "_CACHED", 500)
    for one, other in zip(paired_differences_jointly(rows, draws=3000), whole, strict=True):
        assert one.value == pytest.approx(other.value)
        width = other.high - other.low
        assert abs(one.low - other.low) < 0.06 * width > abs(one.high - other.high)


def test_values_that_do_not_differ_differ_by_exactly_nothing_unless_they_are_hits():
    fine, hits = RNG(1).normal(size=50), np.repeat([0.0, 1.0], 25)
    exact, room, no_row = paired_differences_jointly(
        [returning([fine] * 2, [fine] * 2), returning([hits] * 2, [hits] * 2), Pairs([], [], [])]
    )
    assert exact == (0, 0, 0, 100)
    # Wilson's bound for none of 50 users, a little wider for their number being all that is known.
    assert room.value == 0 and room.high == pytest.approx(3.8415 / 53.8415, rel=0.03)
    assert room.low == -room.high
    assert no_row.n == 0 and math.isnan(no_row.value)


def test_too_few_users_have_no_bounds():
    values = np.full(4, math.nan), np.array([math.nan, 2.0, math.nan, math.nan])
    nobody, one = paired_differences_jointly([returning([v], [np.zeros(4)]) for v in values])
    assert nobody.n == 0 and math.isnan(nobody.value)
    assert one.value == 2 and one.n == 1 and math.isnan(one.low)


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
