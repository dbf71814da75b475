"""What a targeted poisoning attack achieves: how many users are shown the promoted item.

ER@K as in A-hum (Rong et al., IJCAI 2022) and FedRecAttack (Rong et al., ICDE 2022): the mean,
over users who do not have the target yet, of the share of targets among the first K. Items seen
in training are out of the list. [paper]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from harness.metrics.ranking import TieRule, hit_ratio, target_ranks


def exposed_target_ranks(
    scores: Float[np.ndarray, "user item"],
    targets: Int[np.ndarray, " target"],
    seen: Bool[np.ndarray, "user item"],
    *,
    tie: TieRule = "pessimistic",
) -> Float[np.ndarray, "user target"]:
    """Rank of every target in every user's list of unseen items; NaN where the user has it.

    Args:
        scores: higher is better.
        targets: promoted items, as columns of ``scores``.
        seen: the user's own training items.
        tie: as in :mod:`harness.metrics.ranking`.
    """
    columns = np.broadcast_to(targets, (len(scores), len(targets)))
    ranks = target_ranks(scores, columns, excluded=seen, tie=tie)
    return np.where(seen[:, targets], np.nan, ranks)


def exposure_ratio(ranks: Float[np.ndarray, "user target"], k: int) -> Float[np.ndarray, " user"]:
    """ER@k of each user: share of the targets that the user lacks among the first ``k``.

    Args:
        ranks: from :func:`exposed_target_ranks`, NaN where the user already has the target.
        k: length of the list; a list as long as the catalogue gives 1.

    Returns:
        One share per user; NaN, and so left out of the mean, for a user who has every target.
    """
    return _mean_of_present(hit_ratio(ranks, k))


def mean_target_rank(ranks: Float[np.ndarray, "user target"]) -> Float[np.ndarray, " user"]:
    """Mean rank of the targets that the user lacks; NaN for a user who has every target."""
    return _mean_of_present(ranks)


def exposure_chance(unseen: Int[np.ndarray, " user"], k: int) -> float:
    """ER@k of a random order of the unseen items: mean of ``k / (|I| - |seen|)``, at most 1.

    Args:
        unseen: number of items not seen, of each user who lacks at least one target.
        k: length of the list.

    Returns:
        The mean over these users; NaN where there is none.
    """
    return float(np.minimum(1.0, k / unseen).mean()) if len(unseen) else float("nan")


def _mean_of_present(values: Float[np.ndarray, "user target"]) -> Float[np.ndarray, " user"]:
    present = ~np.isnan(values)
    count = present.sum(axis=1)
    total = np.where(present, values, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
