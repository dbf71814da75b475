import math

import pytest

from harness.results import Interval
from reports import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.123"), (0.5, "0.5"), (1.0, "1"), (0, "0"), (12.345, "12.3"),
        (0.09996, "0.1"), (999.4, "999"), (999.6, "1,000"), (123456, "123,456"),
        (-0.0204, "−0.0204"), (1e-5, "1e−5"), (math.nan, "–"), (None, "–"), (math.inf, "∞"),
        (100.0, "100"), (0.00123, "0.00123"),
    ],
)  # fmt: skip
def test_three_significant_digits(value, text):
    assert wording.number(value).replace("e−05", "e−5") == text


def test_labels_are_cut_and_cleaned():
    assert len(wording.label("x" * 5000)) == wording.MAX_LABEL
    assert wording.label("a\x00b\udc80") == "a�b?"


def test_metric_names_show_k_and_protocol():
    assert wording.metric_name("hr", 10, "sampled") == "HR@10 (sampled)"
    assert wording.metric_name("hit1_all") == "Hit@1 (all)"
    assert wording.metric_name("hit1", 1, "sampled") == "Hit@1 (sampled)"
    assert wording.metric_name("hit1_all", 1, "sampled") == "Hit@1 (all, sampled)"
    assert wording.metric_name("kendall_tau", 3) == "kendall tau @3"


def test_bounds_need_both_ends():
    assert wording.bounds(Interval(1, 0.5, math.nan, 3)) == "–"
    assert wording.bounds(Interval(1, 0.5, 1.5, 3)) == "[0.5, 1.5]"


def test_a_tiny_strength_is_not_said_twice():
    assert wording.defense_text("dp z=1e-05", "sigma", 1e-05) == "dp z=1e-05"
    assert wording.defense_text("dp", "sigma", 1e-05) == "dp, σ = 1e−05"
