"""Negative items for a whole chunk of clients at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


def sample_negatives(
    draws: Float[np.ndarray, "client step position"],
    histories: Sequence[Int[np.ndarray, " event"]],
    num_items: int,
) -> Int[np.ndarray, "client step position"]:
    """Turn uniform draws into items that each client never had, all equally likely.

    A draw is the rank of its item among the allowed ones, so nothing is rejected. All clients are
    looked up in one sorted array, each in a stretch of its own.

    Args:
        draws: from [0, 1).
        histories: every item each client had.
        num_items: size of the catalogue; a client that had all of it gets item -1.
    """
    clients = np.arange(len(histories))
    # One number a client and item; stretches do not meet, since ranks stay below num_items.
    owners = np.repeat(clients, [len(history) for history in histories])
    had = np.sort(owners * num_items + np.concatenate(histories))
    # Not unique: its hashing is several times slower than a sort of so few.
    had = had[np.append(True, had[1:] != had[:-1])]
    owner = had // num_items
    starts = np.searchsorted(owner, clients)
    counts = np.diff(np.append(starts, len(had)))
    # The k-th item a client had shifts every rank that reaches it by one more.
    shifted = had - (np.arange(len(had)) - starts[owner])
    allowed = (num_items - counts).reshape(-1, 1, 1)
    ranks = np.minimum((draws * allowed).astype(np.int64), np.maximum(allowed - 1, 0))
    first = (clients * num_items).reshape(-1, 1, 1)
    passed = np.searchsorted(shifted, first + ranks, side="right") - starts.reshape(-1, 1, 1)
    return np.where(allowed > 0, ranks + passed, -1)
