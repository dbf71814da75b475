"""How good LUMOS's generated views are, measured without looking at anyone's held-out items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from harness.language.grounding import GroundingQuality, Mapped, quality


@dataclass(frozen=True)
class ViewStatistics:
    """Summary of one view over all users; NaN where there is nothing to measure.

    Attributes:
        grounding: titles parsed, and how well they met the catalogue; per user's view, so an
            answer that several users share counts for each of them.
        copied_share: share of the grounded titles that are already in the user's history.
        dropped_share: share of users without this view.
        mean_added: generated items per view that was kept.
        mean_length: items per view that was kept.
        distinct_share: different items among those added; 1 = no two users got the same.
        top_share: share of kept views that contain the most frequent added item.
        cosine_history: mean cosine of added items to the centre of the user's history.
        cosine_random: the same for as many items drawn uniformly from the catalogue.
    """

    grounding: GroundingQuality
    copied_share: float
    dropped_share: float
    mean_added: float
    mean_length: float
    distinct_share: float
    top_share: float
    cosine_history: float
    cosine_random: float


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def summarise(
    sequences: Sequence[Sequence[int]],
    added: Sequence[Sequence[int]],
    mapped: Sequence[Sequence[Mapped]],
    histories: Sequence[Sequence[int]],
    vectors: Float[np.ndarray, "item dim"],
    rng: np.random.Generator,
) -> ViewStatistics:
    """Summarise one view.

    Args:
        sequences: the view per user, empty where dropped.
        added: generated items in it, per user.
        mapped: everything generated for the user, grounded.
        histories: the user's real items.
        vectors: unit vectors of the catalogue's titles.
        rng: draws the random items that `cosine_random` compares with.
    """
    kept = [user for user, sequence in enumerate(sequences) if sequence]
    copied = [
        float(m.item in set(histories[user]))
        for user, row in enumerate(mapped)
        for m in row
        if m.item is not None
    ]
    items = Counter(item for user in kept for item in set(added[user]))
    total = sum(len(set(added[user])) for user in kept)
    near, chance = _cosines([added[u] for u in kept], [histories[u] for u in kept], vectors, rng)
    return ViewStatistics(
        grounding=quality([m for row in mapped for m in row]),
        copied_share=_mean(copied),
        dropped_share=_mean([float(not sequence) for sequence in sequences]),
        mean_added=_mean([len(added[user]) for user in kept]),
        mean_length=_mean([len(sequences[user]) for user in kept]),
        distinct_share=len(items) / total if total else float("nan"),
        top_share=max(items.values()) / len(kept) if items else float("nan"),
        cosine_history=near,
        cosine_random=chance,
    )


def _cosines(
    added: Sequence[Sequence[int]],
    histories: Sequence[Sequence[int]],
    vectors: Float[np.ndarray, "item dim"],
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Return the mean cosine to the history's centre, of added and of random items."""
    own: list[float] = []
    chance: list[float] = []
    for items, history in zip(added, histories, strict=True):
        centre = vectors[list(history)].mean(axis=0)
        norm = float(np.linalg.norm(centre))
        if not items or norm == 0:
            continue
        drawn = rng.integers(len(vectors), size=len(items))
        own += (vectors[list(items)] @ (centre / norm)).tolist()
        chance += (vectors[drawn] @ (centre / norm)).tolist()
    return _mean(own), _mean(chance)
