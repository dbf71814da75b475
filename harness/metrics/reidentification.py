"""Whether uploaded vectors can be traced to items of a public catalogue.

Cosine before and after a perturbation is not a privacy metric: at a cosine of 0.34 every item can
still be the nearest neighbour of its own upload. What counts is the rank of the true item.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from harness.core.scores import block_rows
from harness.metrics.ranking import TieRule, hit_ratio, target_rank


def similarity_ranks(
    uploads: Float[np.ndarray, "upload dim"],
    catalogue: Float[np.ndarray, "item dim"],
    truth: Int[np.ndarray, " upload"],
    *,
    tie: TieRule = "average",
    chunk: int | None = None,
) -> Float[np.ndarray, " upload"]:
    """Rank of the true item by cosine to the upload, 1 = nearest; NaN for a NaN or zero upload.

    Items with one and the same vector share their places, since no attacker can tell them apart.

    Args:
        uploads: what the adversary saw.
        catalogue: the public items, encoded alike.
        truth: row of ``catalogue`` that each upload came from.
        tie: as in :mod:`harness.metrics.ranking`.
        chunk: uploads compared at once, at most 1024; None takes what fits a block.
    """
    # Equal vectors are compared once: two products of the same numbers may differ in the last bit.
    distinct, place = np.unique(_unit(catalogue), axis=0, return_inverse=True)
    chunk = min(1024, block_rows(2 * len(catalogue))) if chunk is None else chunk
    ranks = []
    for start in range(0, len(uploads), chunk):
        cosine = _unit(uploads[start : start + chunk]) @ distinct.T
        ranks.append(target_rank(cosine[:, place], truth[start : start + chunk], tie=tie))
    return np.concatenate(ranks) if ranks else np.empty(0)


def top_k(ranks: Float[np.ndarray, " upload"], k: int) -> Float[np.ndarray, " upload"]:
    """1 where the true item is among the attacker's first ``k`` guesses; chance ``k / |I|``."""
    return hit_ratio(ranks, k)


def median_rank(ranks: Float[np.ndarray, " upload"]) -> float:
    """Median rank of the true item; ``(|I| + 1) / 2`` by chance; NaN without any rank."""
    measured = ranks[~np.isnan(ranks)]
    return float(np.median(measured)) if len(measured) else float("nan")


def median_rank_chance(choices: Int[np.ndarray, " upload"]) -> float:
    """Median rank of a guesser who orders each upload's possible items at random.

    Args:
        choices: number of items that each upload can be; its rank is uniform from 1 to that.
    """
    if not len(choices):
        return float("nan")
    sizes, counts = np.unique(choices, return_counts=True)
    ranks = np.concatenate([np.arange(1, size + 1) for size in sizes])
    mass = np.repeat(counts / sizes, sizes)
    order = np.argsort(ranks, kind="stable")
    reached = np.cumsum(mass[order]) / mass.sum()
    # Halfway between the two middle places where one ends exactly at a half.
    low, high = np.searchsorted(reached, [0.5 - 1e-12, 0.5 + 1e-12])
    return float((ranks[order][low] + ranks[order][high]) / 2)


def catalogue_disclosed(
    claimed: Shaped[np.ndarray, " upload"], owned: Shaped[np.ndarray, " item"]
) -> float:
    """Share of a domain's own items that appear anywhere among the attacker's distinct claims.

    A replacement that outputs genuine items of the same domain hides *which* item stands where
    and still tells the catalogue as a set.

    Args:
        claimed: item id claimed for each upload; negative = no claim. Without any claim there is
            nothing to measure: NaN.
        owned: ids of the domain's items; duplicates count once.
    """
    own = np.unique(owned)
    if not len(own) or (len(claimed) and (claimed < 0).all()):
        return float("nan")
    return float(np.isin(own, claimed).mean())


def catalogue_disclosed_chance(num_claimed: int, num_public: int) -> float:
    """Disclosed share by an attacker who names ``num_claimed`` distinct public items at random."""
    return min(1.0, num_claimed / num_public) if num_public else float("nan")


def category_overlap(
    claimed: Int[np.ndarray, " upload"],
    truth: Int[np.ndarray, " upload"],
    categories: Bool[np.ndarray, "item category"],
) -> Float[np.ndarray, " upload"]:
    """Jaccard overlap of the claimed item's categories with the true item's; NaN without any.

    NaN also where nothing is claimed (a negative item).

    With one category an item this is 1 for the right category and 0 for another. A wrong item of
    the right category tells what a user or a shop deals in almost as well as the right one.
    """
    of_claim, of_truth = categories[claimed], categories[truth]
    both, either = (of_claim & of_truth).sum(1), (of_claim | of_truth).sum(1)
    overlap = both / np.maximum(either, 1)
    return np.where(of_truth.any(1) & (claimed >= 0), overlap, np.nan)


def category_overlap_chance(
    truth: Int[np.ndarray, " upload"],
    domain: Int[np.ndarray, " upload"],
    categories: Bool[np.ndarray, "item category"],
) -> float:
    """Mean overlap of a guesser who names the best single item of each domain without a look."""
    best, count = 0.0, 0
    for own in np.unique(domain):
        items = truth[domain == own]
        items = items[categories[items].any(1)]
        if len(items):
            # Each distinct set of categories is one guess, however many items have it.
            kinds, sizes = np.unique(categories[items], axis=0, return_counts=True)
            inside = kinds.astype(np.float64)
            both = inside @ inside.T
            either = inside.sum(1)[:, None] + inside.sum(1)[None] - both
            best += float((both / either * sizes).sum(1).max())
            count += len(items)
    return best / count if count else float("nan")


def _unit(vectors: Float[np.ndarray, "row dim"]) -> Float[np.ndarray, "row dim"]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.full_like(vectors, np.nan), where=lengths > 0)
