"""Padded batches of item sequences, packed so that views that share a prefix share its work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Where each token of a batch stands and what it may look at.

    Sequences are aligned left (the oldest item is position 0), so a causal encoder gives the same
    hidden state to a shared prefix in whichever sequence it stands; branches therefore can hang
    off one trunk instead of repeating it.

    Attributes:
        ids: item index of each token (0 in padding).
        positions: position in its own sequence.
        mask: true where token ``i`` may attend to token ``j``; every row has at least one. One for
            all sequences without branches: padding stands on the right, so no item sees it.
        parent: index of the token before it in its own sequence, ``-1`` at a start.
    """

    ids: Int[Tensor, "sequence token"]
    positions: Int[Tensor, "sequence token"]
    mask: Bool[Tensor, "#sequence token token"]
    parent: Int[Tensor, "sequence token"]

    def first(self, tokens: int) -> Layout:
        """Return the layout of the first tokens of every sequence."""
        return Layout(
            self.ids[:, :tokens],
            self.positions[:, :tokens],
            self.mask[:, :tokens, :tokens],
            self.parent[:, :tokens],
        )

    def to(self, device: str) -> Layout:
        """Return the layout on ``device``."""
        tensors = (self.ids, self.positions, self.mask, self.parent)
        return Layout(*(tensor.to(device) for tensor in tensors))


def causal_layout(
    histories: Sequence[Int[np.ndarray, " event"]], max_length: int
) -> tuple[Layout, Int[Tensor, " sequence"]]:
    """Lay out plain histories, the most recent ``max_length`` items of each.

    Returns:
        The layout, and the index of each sequence's last token (0 for an empty history, whose
        only token is then item 0; callers that may meet empty histories must mask them).
    """
    kept = [np.asarray(h[-max_length:], dtype=np.int64) for h in histories]
    width = max([1, *(len(h) for h in kept)])
    ids = np.zeros((len(kept), width), dtype=np.int64)
    for row, history in enumerate(kept):
        ids[row, : len(history)] = history
    steps = torch.arange(width)
    layout = Layout(
        ids=torch.from_numpy(ids),
        positions=steps.expand(len(kept), width),
        mask=causal_mask(width),
        parent=(steps - 1).expand(len(kept), width),
    )
    last = torch.tensor([max(0, len(h) - 1) for h in kept])
    return layout, last


def readable(histories: Sequence[Int[np.ndarray, " event"]], max_length: int) -> int:
    """Return how many items a model trained on these histories may read when it recommends.

    Training reads ``max_length`` items and their successors at most, so the longest history has
    trained positions up to its last item but one. Beyond them a position embedding is still what
    it was drawn as; a recommendation, whose history has grown by the validation item, must not read
    it and reads the most recent items instead.
    """
    longest = max((len(history) for history in histories), default=0)
    return max(1, min(max_length, longest - 1))


def causal_mask(tokens: int) -> Bool[Tensor, "1 token token"]:
    """Return the mask of every sequence without branches."""
    return torch.ones(1, tokens, tokens, dtype=torch.bool).tril()


def complement_sample(
    draws: Int[np.ndarray, "*shape"], excluded: Int[np.ndarray, " item"]
) -> Int[np.ndarray, "*shape"]:
    """Map uniform draws from ``[0, num_items - |excluded|)`` to the items not in ``excluded``.

    Exact and without rejection: the draw is the rank of the sampled item among the allowed ones.

    Args:
        draws: integers below the number of allowed items.
        excluded: sorted distinct item ids.
    """
    shifted = excluded - np.arange(len(excluded))
    return draws + np.searchsorted(shifted, draws, side="right")
