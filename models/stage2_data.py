"""Training moments of SF-UBM's stage 2: any point of a training history asks for the next item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from harness.core.seeds import Seeds
from models.backbone import SequenceModel
from models.llm_training import Questions


def draw_questions(
    model: SequenceModel, histories: Sequence[Int[np.ndarray, " event"]], most: int, seeds: Seeds
) -> Questions:
    """Draw at most ``most`` moments, each (user, place) equally likely and none twice.

    A history of n items has n - 1 moments. Only training items are asked for; validation and test
    items are not in ``histories``.
    """
    moments = [(user, place) for user, h in enumerate(histories) for place in range(1, len(h))]
    order = seeds.numpy("moments").permutation(len(moments))[:most]
    chosen = [moments[index] for index in order.tolist()]
    prefixes = [histories[user][:place].tolist() for user, place in chosen]
    had = [frozenset(history.tolist()) for history in histories]
    return Questions(
        state=model.encode(prefixes),
        history=prefixes,
        target=[int(histories[user][place]) for user, place in chosen],
        seen=[had[user] for user, _ in chosen],
    )
