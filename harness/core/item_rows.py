"""Item rows of a chunk's clients, gathered by item."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class ReadItems:
    """The items that a chunk's clients read, each once.

    Attributes:
        ids: item ids, ascending.
        place: where in ``ids`` each client's row stands; their number in padding.
        senders: how many clients read each of them.
    """

    ids: Int[Tensor, " item"]
    place: Int[Tensor, "client row"]
    senders: Int[Tensor, " item"]

    def to(self, device: str) -> ReadItems:
        """Return the same on ``device``."""
        return ReadItems(self.ids.to(device), self.place.to(device), self.senders.to(device))

    def sum(self, rows: Float[Tensor, "client row dim"]) -> Float[Tensor, "item dim"]:
        """Return the sum of the clients' rows, item by item.

        Args:
            rows: one for each place; padding does not count.
        """
        total = rows.new_zeros(len(self.ids) + 1, rows.shape[-1])
        return total.index_add_(0, self.place.flatten(), rows.flatten(0, 1))[:-1]


def read_items(row_ids: Int[Tensor, "client row"], num_items: int) -> ReadItems:
    """Return the items of a chunk.

    Args:
        row_ids: each client's item rows, padded with ``PAD``; each id at most once a client.
        num_items: size of the catalogue.
    """
    # Counting is several times faster than sorting all ids, at one pass over the catalogue.
    # Padding counts as item -1.
    counts = torch.bincount((row_ids + 1).flatten(), minlength=num_items + 1)[1:]
    ids = counts.nonzero().flatten()
    rank = torch.full((num_items + 1,), len(ids), device=ids.device)
    rank[ids] = torch.arange(len(ids), device=ids.device)
    # Padding reads the last rank.
    return ReadItems(ids, rank[row_ids], counts[ids])
