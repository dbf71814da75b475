"""Changes between strengths: what is measured, what is told of it, and the figure along them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from harness.bisection import Change
from harness.results import Interval, read_rows, read_samples
from reports.drawing import styled
from reports.evidence import Evidence
from reports.refined import in_words, refined_sweeps, transitions
from reports.strengths import is_log, strength_curves
from reports.sweeps import trade_offs
from reports.transitions import UTILITY, changes, overall, separate
from reports.verdicts import judge

NAN = math.nan


@pytest.fixture(scope="module")
def evidence(fake, tmp_path_factory):
    folder = fake.write(tmp_path_factory.mktemp("run"))
    return Evidence(read_rows(folder), read_samples(folder))


@pytest.fixture(scope="module")
def found(evidence):
    return changes(evidence, "user_dp")


def of(found, what, low):
    (one,) = [c for c in found if (c.what, c.low) == (what, low)]
    return one


def test_every_quantity_is_compared_between_neighbours_only(found):
    assert {(c.low, c.high) for c in found} == {(0.01, 0.1), (0.1, 1.0)}
    whats = {c.what for c in found}
    assert whats == {UTILITY, "row norm", "A-hum", "sign flip", "noisy clients"}
    assert {c.system for c in found} == {"LUMOS on ml-100k"}


def test_differences_are_paired_and_on_the_scale_of_the_verdicts(evidence, found):
    leak = of(found, "row norm", 0.01)
    # AUC: chance + (best - chance) × leak, with leaks of 0.85 and 0.3.
    assert leak.before == pytest.approx(0.85, abs=0.02)
    assert leak.after == pytest.approx(0.3, abs=0.02)
    assert leak.shown and leak.difference.value == pytest.approx(leak.after - leak.before)
    utility = of(found, UTILITY, 0.1)
    kept = {v.arm.strength: v.kept for v in judge(evidence) if v.arm.family == "user_dp"}
    assert utility.before == pytest.approx(kept[0.1].value)
    assert utility.difference.value == pytest.approx(kept[1.0].value - kept[0.1].value)
    # The same users are hit, so that a pair is surer than two intervals.
    apart = separate(kept[0.1], kept[1.0])
    width = utility.difference.high - utility.difference.low
    assert utility.shown and width < 0.95 * (apart.high - apart.low)


def test_damage_is_compared_from_its_own_intervals(found):
    flip = of(found, "sign flip", 0.1)
    # Utility lost: 65 % less the shield of 0.2, then of 0.9.
    assert flip.before > 0.4 > 0.2 > flip.after and flip.shown
    assert flip.difference.low < flip.after - flip.before < flip.difference.high


def test_unpaired_differences_have_a_closed_form():
    wide = separate(Interval(0.5, 0.2, 0.9, 7), Interval(0.1, 0.0, 0.4, 5))
    # Down: 0.1 below, 0.4 above the other; up: 0.3 and 0.3.
    assert wide == pytest.approx(
        (-0.4, -0.4 - math.hypot(0.1, 0.4), -0.4 + math.hypot(0.3, 0.3), 5)
    )
    assert math.isnan(separate(Interval(0.5, NAN, NAN, 1), Interval(0.1, 0, 1, 9)).low)


def test_a_defence_without_strengths_changes_nothing(evidence):
    assert changes(evidence, "counterfactual_negatives") == []
    assert changes(evidence, "absent") == []


def change(what, low, high, before, after, half=0.01, system="s"):
    gap = Interval(after - before, after - before - half, after - before + half, 9)
    return Change(low, high, system, what, "", before, after, gap)


def test_a_transition_is_the_largest_change_that_is_shown():
    known = [
        change("a", 0.1, 0.18, 0.814, 0.042),
        change("a", 0.18, 1, 0.042, 0.3),
        change("b", 0.1, 0.18, 0.9, 0.1, half=1.0),
        change("c", 0.1, 0.18, 0.5, 0.45),
        change("d", 0.1, 0.18, NAN, 0.45),
    ]
    assert transitions(known, 0.1) == known[:1]
    assert in_words(known[0]) == "a falls from 0.81 to 0.04 between 0.1 and 0.18"
    assert in_words(change("a", 1, 2, 0.0, 0.004)).endswith("rises from 0 to less than 0.01 "
                                                            "between 1 and 2")  # fmt: skip


def test_what_changes_gradually_is_told_from_end_to_end(evidence):
    known = {(c.what, c.low, c.high) for c in overall(evidence, "user_dp")}
    assert ("row norm", 0.01, 1.0) in known and (UTILITY, 0.01, 1.0) in known
    # With a threshold above every step, and below the way from end to end.
    record = {"user_dp": {**RANGE, "threshold": 0.6}}
    (told,) = refined_sweeps(evidence, {"refinement": record})
    assert "row norm falls step by step from 0.8" in told.found
    assert "to 0.0" in told.found and "between 0.01 and 1" in told.found
    record = {"user_dp": {**RANGE, "threshold": 0.9}}
    (told,) = refined_sweeps(evidence, {"refinement": record})
    assert told.found == "Nothing is shown to change by more than 0.9 over the range."


STEP = {
    "strength": 0.3, "low": 0.1, "high": 1.0, "system": "<img src=x>", "what": "row norm",
    "metric": "AUC", "before": 0.3, "after": 0.0, "interval": [-0.4, -0.2],
}  # fmt: skip
RANGE = {
    "parameter": "noise_multiplier", "points": [0.01, 0.1, 1.0], "threshold": 0.1,
    "added": [STEP], "ended": "all 1 further strengths are used",
}  # fmt: skip


def test_what_was_added_and_where_the_transitions_lie(evidence):
    (told,) = refined_sweeps(evidence, {"refinement": {"user_dp": RANGE}})
    assert told.asked.startswith("user_dp: 3 strengths of noise z were given, 0.01, 0.1 and 1;")
    assert told.added == ("0.3, as row norm falls from 0.30 to 0 between 0.1 and 1 on <img src=x>",)
    assert told.ended == "No more were added: all 1 further strengths are used."
    assert told.found.startswith("On LUMOS on ml-100k: row norm falls from 0.85 to 0.3")
    assert "utility kept falls from 0.90 to 0.57 between 0.1 and 1" in told.found


@pytest.mark.parametrize(
    "damage",
    [
        {"refinement": 3},
        {"refinement": {"user_dp": 3, "other": {"points": "x"}, "third": {"points": []}}},
        {},
    ],
)
def test_a_damaged_manifest_costs_the_sentences_only(evidence, damage):
    assert refined_sweeps(evidence, damage) == []


def test_a_step_without_numbers_reads_as_missing(evidence):
    record = {"user_dp": {**RANGE, "added": [{}, 3], "ended": None, "threshold": True}}
    (told,) = refined_sweeps(evidence, {"refinement": record})
    assert len(told.added) == 1 and told.found == "" and "the run was not finished" in told.ended


def test_the_axis_is_logarithmic_over_a_decade_and_never_over_zero():
    assert is_log([0.01, 0.1, 1.0]) and is_log([1.0, 10.0])
    assert not is_log([0.0, 0.1, 1.0]) and not is_log([0.1, 0.25, 0.4])


def test_curves_stand_against_the_strength_with_their_numbers(evidence):
    with styled():
        drawing = strength_curves(trade_offs(evidence, judge(evidence)))
        assert strength_curves([]) is None
    assert drawing is not None
    rows = [r for r in drawing.data if r[:3] == ("LUMOS on ml-100k", "user_dp", "row norm")]
    assert [r[3] for r in rows] == [0.01, 0.1, 1.0]
    kept = [r for r in drawing.data if r[1:3] == ("user_dp", UTILITY)]
    assert [r[4] for r in kept] == sorted((r[4] for r in kept), reverse=True) and len(kept) == 3
    assert "row norm from 0.8" in drawing.alt and "at 0.1" in drawing.alt
    # A single strength has no panel.
    assert not any(r[1] == "trimmed_mean" for r in drawing.data)


def test_curves_without_intervals_are_drawn(fake, tmp_path):
    bare = [replace(row, low=NAN, high=NAN) for row in fake.rows if row.seed == 0]
    evidence = Evidence(bare, read_samples(tmp_path))
    with styled():
        drawing = strength_curves(trade_offs(evidence, judge(evidence)))
    assert drawing is not None and all(math.isnan(row[5]) for row in drawing.data[1:])
    # Nor does a change without an interval count as shown.
    found = changes(evidence, "user_dp")
    assert found and not any(c.shown for c in found) and transitions(found, 0.1) == []
