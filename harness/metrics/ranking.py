"""Ranking metrics of a recommender: where the held-out item stands in a user's list.

Every metric is one number per user, so that differences can be paired over users.

Tie rule. A rank counts from 1. Under ``pessimistic`` (the default for utility) the target stands
behind every item with the same score, so that a model that scores everything alike earns
nothing. Under ``average`` it takes the mean of the places that the tied items share, so that a
constant score over n items ranks at ``(n + 1) / 2``.

A NaN score among the candidates makes the user's rank NaN: a diverged model has no ranking.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

TieRule = Literal["pessimistic", "average"]


def target_rank(
    scores: Float[np.ndarray, "user item"],
    targets: Int[np.ndarray, " user"],
    *,
    excluded: Bool[np.ndarray, "user item"] | None = None,
    tie: TieRule = "pessimistic",
) -> Float[np.ndarray, " user"]:
    """Rank of each user's target among the items that are not excluded, 1 = best.

    Args:
        scores: higher is better.
        targets: column of each user's target.
        excluded: items taken out of the list, as a rule those seen in training. The target itself
            always stays in.
        tie: ``pessimistic`` or ``average``, see the module's docstring.

    Returns:
        Ranks from 1 to the number of candidates; half places occur under ``average``.
    """
    return target_ranks(scores, targets[:, None], excluded=excluded, tie=tie)[:, 0]


def target_ranks(
    scores: Float[np.ndarray, "user item"],
    targets: Int[np.ndarray, "user target"],
    *,
    excluded: Bool[np.ndarray, "user item"] | None = None,
    tie: TieRule = "pessimistic",
) -> Float[np.ndarray, "user target"]:
    """As :func:`target_rank` for several targets per user, each ranked on its own."""
    kept = True if excluded is None else ~excluded
    rows = np.arange(len(scores))
    ranks = np.empty(targets.shape, dtype=np.float64)
    for column in range(targets.shape[1]):
        target = targets[:, column]
        own = scores[rows, target]
        above = ((scores > own[:, None]) & kept).sum(axis=1)
        tied = (scores == own[:, None]) & kept
        tied[rows, target] = False
        share = 1.0 if tie == "pessimistic" else 0.5
        rank = 1 + above + share * tied.sum(axis=1)
        unknown = (np.isnan(scores) & kept).any(axis=1) | np.isnan(own)
        ranks[:, column] = np.where(unknown, np.nan, rank)
    return ranks


def best(scores: Float[np.ndarray, "row item"]) -> Int[np.ndarray, " row"]:
    """Return the item with the highest score of each row, the first of equals.

    -1, no choice, where a score is NaN: NumPy's ``argmax`` would call that one the highest.
    """
    return np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1))


def hit_ratio(ranks: Shaped[np.ndarray, "*any"], k: int) -> Float[np.ndarray, "*any"]:
    """HR@k: 1 where the target is among the first ``k``, else 0; NaN stays NaN."""
    _require_k(k)
    return np.where(np.isnan(ranks), np.nan, (ranks <= k).astype(np.float64))


def ndcg(ranks: Shaped[np.ndarray, "*any"], k: int) -> Float[np.ndarray, "*any"]:
    """NDCG@k with one relevant item: ``1 / log2(1 + rank)`` within the first ``k``, else 0."""
    return hit_ratio(ranks, k) / np.log2(1 + np.asarray(ranks, dtype=np.float64))


def reciprocal_rank(ranks: Shaped[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """``1 / rank``; its mean over users is MRR (over the whole list, no cut-off)."""
    return 1 / np.asarray(ranks, dtype=np.float64)


def hit1_over_all(
    chosen: Int[np.ndarray, " user"], targets: Int[np.ndarray, " user"]
) -> Float[np.ndarray, " user"]:
    """Hit@1 over all users: an answer that names no candidate (negative) counts as wrong."""
    return ((chosen >= 0) & (chosen == targets)).astype(np.float64)


def hit1_over_valid(
    chosen: Int[np.ndarray, " user"], targets: Int[np.ndarray, " user"]
) -> Float[np.ndarray, " user"]:
    """Hit@1 over valid answers only: NaN, and so left out, where no candidate was named."""
    return np.where(chosen >= 0, hit1_over_all(chosen, targets), np.nan)


def valid_answer(chosen: Int[np.ndarray, " user"]) -> Float[np.ndarray, " user"]:
    """1 where the answer names a candidate; the mean over users is the Valid Ratio."""
    return (chosen >= 0).astype(np.float64)


def hit_ratio_chance(k: int, num_candidates: int) -> float:
    """HR@k of a random order of ``num_candidates`` items with the target among them."""
    _require_k(k)
    return min(k, num_candidates) / num_candidates


def ndcg_chance(k: int, num_candidates: int) -> float:
    """NDCG@k of a random order: the target is at each place with equal probability."""
    _require_k(k)
    places = np.arange(1, min(k, num_candidates) + 1)
    return float((1 / np.log2(1 + places)).sum() / num_candidates)


def reciprocal_rank_chance(num_candidates: int) -> float:
    """MRR of a random order: the harmonic number of ``num_candidates`` over itself."""
    return float((1 / np.arange(1, num_candidates + 1)).sum() / num_candidates)


def _require_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
