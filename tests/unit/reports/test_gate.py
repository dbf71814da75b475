"""The gate's rule: three verdicts on intervals, and nothing passes without evidence."""

import math

import numpy as np
import pytest
from gating import attack_row, frame, judged, over_seeds, t_interval, utility

from harness.limits import Limit
from harness.results import Interval
from reports.gates.judging import ROUNDING, verdict_of
from reports.gates.quantity import Reading

CALM = [0.50, 0.51, 0.52]
LOW, HIGH = t_interval(CALM)


def only(outcome):
    assert len(outcome.checks) == 1
    return outcome.checks[0]


def rule(low, high, seeds=3, **bounds):
    limit = Limit.model_validate({"select": {"metric": ("auc",)}, **bounds})
    return verdict_of(limit, Reading(Interval((low + high) / 2, low, high, 9), seeds))[0]


def test_three_verdicts(tmp_path):
    found = {
        bound: judged(tmp_path, over_seeds("shield", CALM), f"metric: auc; value; at_most: {bound}")
        for bound in (0.6, 0.51, 0.4)
    }
    assert [o.verdict for o in found.values()] == ["pass", "inconclusive", "fail"]
    assert [o.exit_code for o in found.values()] == [0, 11, 10]
    check = only(found[0.51])
    assert check.interval[:3] == pytest.approx((0.51, LOW, HIGH))
    assert check.reason == f"reaches up to {HIGH:.6g}" and check.seeds == 3
    assert only(found[0.4]).reason == f"wholly above: starts at {LOW:.6g}"
    assert only(found[0.6]).slack == pytest.approx(0.6 - HIGH)


@pytest.mark.parametrize("side", ["at_least", "at_most"])
def test_an_end_exactly_at_the_limit_passes_and_just_beyond_does_not(side):
    down = side == "at_least"
    for limit in (0.3, 0.95, -0.25):
        inner = (limit, limit + 0.1) if down else (limit - 0.1, limit)
        assert rule(*inner, **{side: limit}) == "pass"
        assert rule(limit, limit, **{side: limit}) == "pass"
        step = -3 * ROUNDING if down else 3 * ROUNDING
        beyond = (limit + step, limit + 0.1) if down else (limit - 0.1, limit + step)
        assert rule(*beyond, **{side: limit}) == "inconclusive"
        # The far end at the limit: part of the interval satisfies it still.
        outer = (limit - 0.1, limit) if down else (limit, limit + 0.1)
        assert rule(*outer, **{side: limit}) == "inconclusive"
        assert rule(outer[0] + step, outer[1] + step, **{side: limit}) == "fail"


def test_exactly_at_the_limit_through_the_whole_gate(tmp_path):
    rows = over_seeds("shield", [0.75, 0.75, 0.75])
    for bound in ("at_most: 0.75", "at_least: 0.75"):
        assert judged(tmp_path, rows, f"metric: auc; value; {bound}").verdict == "pass"
    assert judged(tmp_path, rows, "metric: auc; value; at_most: 0.7499").verdict == "fail"


def test_two_bounds_hold_together():
    assert rule(0.4, 0.5, at_least=0.3, at_most=0.6) == "pass"
    assert rule(0.4, 0.7, at_least=0.3, at_most=0.6) == "inconclusive"
    assert rule(0.2, 0.7, at_least=0.3, at_most=0.6) == "inconclusive"
    assert rule(0.7, 0.8, at_least=0.3, at_most=0.6) == "fail"
    assert rule(0.1, 0.2, at_least=0.3, at_most=0.6) == "fail"


def test_one_seed_is_inconclusive_whatever_its_interval_says(tmp_path):
    for bound in ("at_most: 0.9", "at_most: 0.1"):
        found = judged(tmp_path, [attack_row("shield", 0, 0.5)], f"metric: auc; value; {bound}")
        assert found.exit_code == 11 and only(found).reason == "one seed; a gate needs 2"


@pytest.mark.parametrize("bound", ["at_least: -9", "at_most: 9"])
def test_nan_fails_either_way_with_its_reason(tmp_path, bound):
    rows = over_seeds("shield", CALM)
    rows[1] = attack_row("shield", 1, math.nan, n=0, reason="too few negatives")
    found = judged(tmp_path, rows, f"metric: auc; value; {bound}")
    assert found.exit_code == 10
    assert only(found).reason == "no evidence: NaN in seed 1: too few negatives"
    all_nan = over_seeds("shield", [math.nan] * 3)
    found = judged(tmp_path, all_nan, f"metric: auc; value; {bound}")
    assert found.exit_code == 10 and "no reason was recorded" in only(found).reason


def test_no_interval_is_no_evidence():
    assert rule(math.nan, math.nan, at_least=-9.0) == "fail"
    limit = Limit.model_validate({"select": {"metric": ("hr",)}, "at_least": 0.0})
    blank = Interval(0.5, math.nan, math.nan, 9)
    assert verdict_of(limit, Reading(blank, 3)) == (
        "fail", "no evidence: no interval could be computed",
    )  # fmt: skip


def test_the_worst_of_several_estimates_counts(tmp_path):
    rows = over_seeds("a", [0.50, 0.51, 0.52]) + over_seeds("b", [0.9, 0.91, 0.92])
    found = judged(tmp_path, rows, "metric: auc; value; at_most: 0.6")
    assert [(c.verdict, c.subject.split(", ")[1]) for c in found.checks] == [
        ("fail", "b"), ("pass", "a"),
    ]  # fmt: skip
    assert found.exit_code == 10 and found.count("pass") == 1
    assert judged(tmp_path, rows, "metric: auc, defense: a; value; at_most: 0.6").exit_code == 0


def test_chance_and_advantage(tmp_path):
    rows = over_seeds("shield", [0.55, 0.55, 0.55])
    # AUC 0.55 is chance + 0.05, and a tenth of the way from 0.5 to 1.
    found = judged(
        tmp_path, rows, "metric: auc; above_chance; at_most: 0.05",
        "metric: auc; advantage; at_most: 0.1", "metric: auc; advantage; at_most: 0.09",
    )  # fmt: skip
    assert [c.verdict for c in found.checks] == ["fail", "pass", "pass"]
    assert sorted(c.interval.value for c in found.checks) == pytest.approx([0.05, 0.1, 0.1])
    no_chance = over_seeds("shield", [0.5, 0.5, 0.5], chance=math.nan)
    for quantity in ("above_chance", "advantage"):
        found = judged(tmp_path, no_chance, f"metric: auc; {quantity}; at_most: 9")
        assert found.exit_code == 10 and "no chance level" in only(found).reason
    ranks = over_seeds("shield", [3.0, 3.0, 3.0], chance=800.0, metric="median_rank")
    found = judged(tmp_path, ranks, "metric: median_rank; advantage; at_least: -9")
    assert found.exit_code == 10 and "800" in only(found).reason


def shielded(keep, seeds=3):
    """Every user who is hit without a defence is hit with it, but for a share of the users."""
    pairs = []
    for seed in range(seeds):
        hits = np.random.default_rng(seed).random(400) < 0.5
        kept = hits & (np.arange(400) % 100 < 100 * keep)
        pairs += [utility("none", seed, hits), utility("shield", seed, kept)]
    rows, blocks = zip(*pairs, strict=True)
    return rows, frame(blocks)


def test_ratio_and_difference_are_paired_to_the_undefended_arm(tmp_path):
    rows, samples = shielded(keep=1.0)
    limits = ("metric: hr; ratio; at_least: 0.96", "metric: hr; difference; at_least: -0.02")
    found = judged(tmp_path, rows, *limits, samples=samples)
    # The same hits user by user: no doubt but what 400 users could hide, though seeds differ a lot.
    assert found.exit_code == 0 and len(found.checks) == 2
    assert sorted(c.interval.value for c in found.checks) == [0, 1]
    assert all(c.interval.high - c.interval.low < 0.08 for c in found.checks)
    assert all(c.interval.n == 1200 and "no defence" not in c.subject for c in found.checks)
    rows, samples = shielded(keep=0.8)
    found = judged(tmp_path, rows, *limits, samples=samples)
    assert found.exit_code == 10 and found.count("fail") == 2
    by_quantity = sorted(c.interval.value for c in found.checks)
    base = np.mean([r.value for r in rows if r.defense == "none"])
    less = np.mean([r.value for r in rows if r.defense == "shield"])
    assert by_quantity == pytest.approx([less - base, less / base])


def test_a_ratio_without_its_baseline_fails(tmp_path):
    rows, samples = shielded(keep=1.0)
    alone = [r for r in rows if r.defense == "shield"]
    found = judged(tmp_path, alone, "metric: hr; ratio; at_least: 0", samples=samples)
    assert found.exit_code == 10 and "undefended arm was not measured" in only(found).reason
    moved = [utility("none", seed + 7, [1, 0])[0] for seed in range(3)]
    found = judged(tmp_path, alone + moved, "metric: hr; ratio; at_least: 0", samples=samples)
    assert found.exit_code == 10 and "shares no seed" in only(found).reason
    zeros = [utility("none", seed, [0, 0])[0] for seed in range(3)]
    found = judged(tmp_path, alone + zeros, "metric: hr; ratio; at_least: 0", samples=samples)
    assert found.exit_code == 10 and "mean is 0" in only(found).reason


def test_one_common_seed_is_one_seed(tmp_path):
    rows, samples = shielded(keep=1.0)
    few = [r for r in rows if r.defense == "shield" or r.seed == 0]
    found = judged(tmp_path, few, "metric: hr; ratio; at_least: 0.5", samples=samples)
    assert found.exit_code == 11 and only(found).seeds == 1


def test_a_row_that_its_users_contradict_is_not_paired_by_users(tmp_path):
    rows, samples = shielded(keep=1.0)
    edited = [
        r if r.defense == "none" else utility("shield", r.seed, [1, 0, 0, 0])[0] for r in rows
    ]
    found = judged(tmp_path, edited, "metric: hr; ratio; at_least: 0.9", samples=samples)
    assert found.exit_code == 10 and only(found).interval.value < 0.6


def test_an_unfinished_run_never_passes(tmp_path):
    rows = over_seeds("shield", CALM)
    found = judged(tmp_path, rows, "metric: auc; value; at_most: 0.6", unfinished="stopped early")
    assert found.exit_code == 11 and found.checks[0].reason == "stopped early"
    found = judged(tmp_path, rows, "metric: auc; value; at_most: 0.4", unfinished="stopped early")
    assert found.exit_code == 10
