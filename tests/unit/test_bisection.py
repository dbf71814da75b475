"""Where the next strength goes: properties of the rule, on functions that are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bisection import Change, Proposal, next_strength
from harness.metrics.interval import Interval
from harness.reading.ranges import StrengthRange

NAN = math.nan


def wanted(start: float = 0.01, end: float = 10.0, **more: object) -> StrengthRange:
    return StrengthRange.model_validate({"from": start, "to": end, **more})


def changes(
    strengths: list[float], *curves: Callable[[float], float], half: float = 0.01
) -> list[Change]:
    """What neighbours measure of some curves, each difference known to ± ``half``."""
    found = []
    for low, high in pairwise(sorted(strengths)):
        for index, curve in enumerate(curves):
            before, after = curve(low), curve(high)
            gap = after - before
            about = Interval(gap, gap - half, gap + half, 100)
            found.append(Change(low, high, "s", f"attack {index}", "auc", before, after, about))
    return found


def refine(found: StrengthRange, *curves: Callable[[float], float], half: float = 0.01):
    """Follow the proposals to their end; every strength in the order of its measurement."""
    strengths = list(found.strengths)
    while True:
        step = next_strength(found, strengths, changes(strengths, *curves, half=half))
        if isinstance(step, str):
            return strengths, step
        strengths.append(step.strength)


def step_at(edge: float, high: float = 1.0, low: float = 0.0) -> Callable[[float], float]:
    return lambda strength: high if strength < edge else low


def around(strengths: list[float], edge: float) -> tuple[float, float]:
    return max(s for s in strengths if s < edge), min(s for s in strengths if s >= edge)


@given(st.floats(-1.99, 0.99), st.sampled_from([2, 3, 4, 7]))
def test_the_edge_of_a_step_is_found_to_within_the_ratio(exponent: float, points: int):
    found, edge = wanted(points=points, refine=20, ratio=1.05), 10**exponent
    strengths, why = refine(found, step_at(edge))
    low, high = around(strengths, edge)
    assert high / low <= 1.05 * (1 + 1e-9)
    assert why == "the neighbours with a change are too near to be parted"


@given(st.floats(-1.99, 0.99), st.integers(0, 6))
def test_every_further_strength_halves_where_the_edge_can_be(exponent: float, steps: int):
    found, edge = wanted(refine=steps), 10**exponent
    strengths, why = refine(found, step_at(edge))
    assert len(strengths) == 4 + steps and f"all {steps} further" in why
    low, high = around(strengths, edge)
    # Three digits move each middle by half a percent at most.
    assert math.log10(high / low) == pytest.approx(1 / 2**steps, abs=0.01)


@given(st.floats(0.001, 0.399))
def test_linear_spacing_finds_an_edge_from_zero_on(edge: float):
    found = wanted(0.0, 0.4, spacing="linear", refine=20, ratio=1.05)
    low, high = around(refine(found, step_at(edge))[0], edge)
    assert high - low <= 0.05 * 0.4 + 1e-12


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.floats(0.5, 3))
def test_what_the_interval_explains_proposes_nothing(values: list[float], factor: float):
    found = wanted()
    noise = dict(zip(found.strengths, values, strict=True))
    steps = [abs(a - b) for a, b in pairwise(values)]
    half = max(steps) * max(1.0, factor) + 1e-9
    step = next_strength(found, found.strengths, changes(list(noise), noise.__getitem__, half=half))
    assert isinstance(step, str)


@given(st.floats(0, 0.1), st.floats(0, 1))
def test_changes_up_to_the_threshold_propose_nothing(size: float, level: float):
    curve = step_at(0.5, level + size, level)
    found = wanted(threshold=0.1)
    near = changes(list(found.strengths), curve, half=0.0)
    near = [c for c in near if c.size <= 0.1]
    assert isinstance(next_strength(found, found.strengths, near), str)


@pytest.mark.parametrize(
    "missing",
    [
        (NAN, 0.0, Interval(NAN, NAN, NAN, 0)),
        (1.0, NAN, Interval(-1.0, -1.1, -0.9, 9)),
        (1.0, 0.0, Interval(-1.0, NAN, NAN, 1)),
        (1.0, 0.0, Interval(NAN, NAN, NAN, 0)),
    ],
)
def test_nan_never_proposes_and_hides_nothing_else(missing: tuple[float, float, Interval]):
    found = wanted()
    gap = Change(0.1, 1.0, "s", "a", "auc", *missing)
    assert isinstance(next_strength(found, found.strengths, [gap]), str)
    real = changes(list(found.strengths), step_at(5.0))
    step = next_strength(found, found.strengths, [gap, *real])
    assert isinstance(step, Proposal) and step.strength == 3.16


def test_two_edges_of_about_the_same_height_share_the_strengths():
    strengths, _ = refine(wanted(refine=4), step_at(0.05), step_at(5.0, 0.95))
    added = strengths[4:]
    assert sorted(s < 0.1 for s in added) == [False, False, True, True]
    # A much smaller one waits until the larger is narrowed down.
    added = refine(wanted(refine=4), step_at(0.05), step_at(5.0, 0.5))[0][4:]
    assert all(s < 0.1 for s in added)


def test_the_order_of_the_changes_does_not_matter():
    found = wanted()
    known = changes(list(found.strengths), step_at(0.05), step_at(5.0), lambda s: s / 10)
    steps = {next_strength(found, found.strengths, order) for order in (tuple(known), known[::-1])}
    assert len(steps) == 1


def test_a_gradual_change_is_cut_where_it_is_steepest():
    def curve(strength: float) -> float:
        return 1 / (1 + (strength / 0.3) ** 2)

    strengths, _ = refine(wanted(refine=3), curve)
    assert strengths[4] == 0.316
    steps = [abs(curve(a) - curve(b)) for a, b in pairwise(sorted(strengths))]
    assert max(steps) < 0.3
    # Measured without doubt, the sweep ends when no step is above the threshold.
    strengths, why = refine(wanted(refine=20), curve, half=0.0)
    steps = [abs(curve(a) - curve(b)) for a, b in pairwise(sorted(strengths))]
    assert max(steps) <= 0.1 and "nothing changes by more than 0.1" in why
