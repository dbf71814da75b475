from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest

from harness.language.encoder import SentenceEncoder
from harness.language.grounding import (
    Grounder,
    display_title,
    normalise_title,
    quality,
    split_titles,
)


class LetterEncoder:
    """Counts of letters: near titles share letters; easy to reckon by hand."""

    def encode(self, texts: Sequence[str], *, normalise: bool = True) -> np.ndarray:
        assert normalise
        counts = np.array([[t.casefold().count(chr(97 + n)) for n in range(26)] for t in texts])
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


TITLES = [
    "Matrix, The (1999)",
    "Alien (1979)",
    "Truth About Cats & Dogs, The",
    "zz",
    "Alien (1992)",
]


def grounder(threshold: float = 0.9) -> Grounder:
    return Grounder(TITLES, cast(SentenceEncoder, LetterEncoder()), threshold=threshold)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Matrix, The (1999)", "the matrix"),
        ("Cats & Dogs", "cats and dogs"),
        ("Schindler's List", "SCHINDLERS LIST"),
        ("Me\u0301nage", "m\u00e9nage"),
        ("Star Trek: First Contact", "Star Trek - First Contact"),
        ("American in Paris, An", "An American in Paris"),
    ],
)
def test_spellings_that_are_equal(one: str, other: str) -> None:
    assert normalise_title(one) == normalise_title(other)


def test_spellings_that_are_not() -> None:
    assert normalise_title("Alien") != normalise_title("Aliens")
    assert normalise_title("Ocean's 11") != normalise_title("Ocean's 12")
    assert normalise_title("1941") == "1941"


def test_display_titles() -> None:
    assert display_title("Matrix, The (1999)") == "The Matrix"
    assert display_title("Grand Day Out, A (1992)") == "A Grand Day Out"
    assert display_title("Avventura, L' (1960)") == "L'Avventura"
    assert display_title("Seven (Se7en) (1995)") == "Seven (Se7en)"
    assert display_title("One; Two") == "One, Two"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Alien; Heat; Big\n", ["Alien", "Heat", "Big"]),
        ("1. Alien\n2) Heat\n(3) Big", ["Alien", "Heat", "Big"]),
        ('- "Alien"\n* “Heat”\n• Big.', ["Alien", "Heat", "Big"]),
        ("2001: A Space Odyssey; 12 Monkeys", ["2001: A Space Odyssey", "12 Monkeys"]),
        (" ; -- ;\n", []),
        ("", []),
    ],
)
def test_split(text: str, expected: list[str]) -> None:
    assert split_titles(text) == expected


def test_a_title_cut_off_by_the_limit_is_left_out_unless_alone() -> None:
    assert split_titles("Alien; The Silence of the", complete=False) == ["Alien"]
    assert split_titles("The Silence of the", complete=False) == ["The Silence of the"]


def test_exact_first_then_nearest_then_nothing() -> None:
    found = grounder().ground(["the MATRIX", "Aliens", "Bop", "Alien", "the MATRIX"])
    assert [m.how for m in found] == ["exact", "nearest", "unmapped", "exact", "exact"]
    assert [m.item for m in found] == [0, 1, None, 1, 0]
    assert [m.cosine for m in found[::3]] == [1.0, 1.0]
    # alien = (1,1,1,1,1), aliens has one letter more: 5 / sqrt(5 * 6)
    assert found[1].cosine == pytest.approx(5 / math.sqrt(30), abs=1e-6)


def test_the_threshold_decides() -> None:
    at = 5 / math.sqrt(30)
    assert grounder(at - 1e-3).ground(["Aliens"])[0].item == 1
    assert grounder(at + 1e-3).ground(["Aliens"])[0].item is None


def test_quality_by_hand_and_nothing_is_nan() -> None:
    summary = quality(grounder().ground(["Matrix", "Alien", "Aliens", "Bop"]))
    assert summary.parsed == 4
    assert summary.exact_ratio == 0.25
    none = quality([])
    assert none.parsed == 0
    assert math.isnan(none.valid_ratio)
    assert math.isnan(none.mean_cosine)
