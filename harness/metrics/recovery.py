"""How much of a user's private history an attack recovered, given its score of every item.

Each function judges one user (or one release): ``scores[item]`` is the attacker's belief, and
``truth[item]`` says which items the user really has. Tied scores never help or hurt by the order
of the arrays: each function says what it does with them. Where a number does not exist (no
positives, no negatives, too few negatives) it is NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped


class SetQuality(NamedTuple):
    """How well a claimed set matches the true one; an empty claim has no precision (NaN)."""

    precision: float
    recall: float
    f1: float


class _Curve(NamedTuple):
    """Counts of true and false positives at each distinct threshold, from strict to lax."""

    true: Float[np.ndarray, " threshold"]
    false: Float[np.ndarray, " threshold"]
    positives: int
    negatives: int


def roc_auc(scores: Shaped[np.ndarray, " item"], truth: Bool[np.ndarray, " item"]) -> float:
    """Probability that a true item is scored above a false one; a tie counts one half."""
    curve = _curve(scores, truth)
    if curve is None or curve.positives == 0 or curve.negatives == 0:
        return float("nan")
    true = np.concatenate([[0.0], curve.true]) / curve.positives
    false = np.concatenate([[0.0], curve.false]) / curve.negatives
    return float((np.diff(false) * (true[1:] + true[:-1]) / 2).sum())


def average_precision(
    scores: Shaped[np.ndarray, " item"], truth: Bool[np.ndarray, " item"]
) -> float:
    """Sum over thresholds of precision times gain in recall; tied items share one threshold."""
    curve = _curve(scores, truth)
    if curve is None or curve.positives == 0:
        return float("nan")
    gain = np.diff(curve.true, prepend=0.0) / curve.positives
    return float((gain * curve.true / (curve.true + curve.false)).sum())


def precision_at_size(
    scores: Shaped[np.ndarray, " item"], truth: Bool[np.ndarray, " item"]
) -> float:
    """Precision (= recall = F1) of the |S| best scored items, |S| the size of the true set.

    The items tied at the border enter as the expected value over their random order, so a
    constant score gives exactly the base rate.
    """
    curve = _curve(scores, truth)
    if curve is None or curve.positives == 0:
        return float("nan")
    size = curve.positives
    true, total = (np.concatenate([[0.0], c]) for c in (curve.true, curve.true + curve.false))
    return float(np.interp(size, total, true) / size)


def tpr_at_fpr(
    scores: Shaped[np.ndarray, " item"], truth: Bool[np.ndarray, " item"], fpr: float
) -> float:
    """Largest true positive rate at a false positive rate of at most ``fpr``.

    Tied items are claimed together or not at all. NaN where there are fewer than ``1 / fpr``
    negatives: one false positive would already exceed the rate, so it cannot be measured.

    Raises:
        ValueError: ``fpr`` is not between 0 and 1.
    """
    if not 0 < fpr < 1:
        raise ValueError(f"fpr must lie between 0 and 1, got {fpr}")
    curve = _curve(scores, truth)
    # The tolerance admits 1,000 negatives at 0.001, whose product is not exactly 1 in binary.
    if curve is None or curve.positives == 0 or curve.negatives * fpr < 1 - 1e-9:
        return float("nan")
    allowed = curve.false <= fpr * curve.negatives * (1 + 1e-12)
    return float(np.max(curve.true[allowed], initial=0.0) / curve.positives)


def advantage(scores: Shaped[np.ndarray, " item"], truth: Bool[np.ndarray, " item"]) -> float:
    """Largest ``TPR - FPR`` over all thresholds (Yeom et al. 2018); 0 for a constant score."""
    curve = _curve(scores, truth)
    if curve is None or curve.positives == 0 or curve.negatives == 0:
        return float("nan")
    gap = curve.true / curve.positives - curve.false / curve.negatives
    return float(np.max(gap, initial=0.0))


def set_quality(claimed: Bool[np.ndarray, " item"], truth: Bool[np.ndarray, " item"]) -> SetQuality:
    """Precision, recall and F1 of a claimed set.

    An empty claim has precision NaN and recall 0; an empty truth has recall NaN and F1 NaN.
    """
    hits = float((claimed & truth).sum())
    size, true = float(claimed.sum()), float(truth.sum())
    precision = hits / size if size else float("nan")
    recall = hits / true if true else float("nan")
    f1 = 2 * hits / (size + true) if true else float("nan")
    return SetQuality(precision, recall, f1)


def exact_position(
    claimed: Int[np.ndarray, " _position"], truth: Int[np.ndarray, " _position"]
) -> float:
    """Share of the true positions at which the claimed item is the true one.

    Args:
        claimed: item claimed at each position; a negative entry is no claim and counts as wrong.
        truth: true item at each position; a negative entry is padding and is left out.

    Raises:
        ValueError: the two sequences differ in length.
    """
    if claimed.shape != truth.shape:
        raise ValueError(f"claims at {claimed.shape} positions, truth at {truth.shape}")
    real = truth >= 0
    return float((claimed[real] == truth[real]).mean()) if real.any() else float("nan")


def _curve(scores: np.ndarray, truth: np.ndarray) -> _Curve | None:
    """Counts per distinct threshold; None where a score is NaN."""
    if np.isnan(scores).any():
        return None
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], truth[order].astype(np.float64)
    last_of_tie = (
        np.append(ordered[1:] != ordered[:-1], True) if len(ordered) else np.array([], bool)
    )
    true, false = np.cumsum(hits)[last_of_tie], np.cumsum(1 - hits)[last_of_tie]
    positives = int(truth.sum())
    return _Curve(true, false, positives, len(truth) - positives)
