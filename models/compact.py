"""Item ids renumbered within each client, so that a client carries only the rows it reads."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from harness.core.messages import PAD


def compact(
    ids: Int[Tensor, "client token"],
) -> tuple[Int[Tensor, "client row"], Int[Tensor, "client token"]]:
    """Return each client's distinct ids (ascending, padded) and the tokens renumbered into them.

    Args:
        ids: item ids; every one counts, so callers fill padding with an id the client reads anyway.
    """
    # Id and place in one number: a sort that also says where things were is several times slower.
    bits = ids.shape[1].bit_length()
    keys = ids.numpy() << bits | np.arange(ids.shape[1])
    both = torch.from_numpy(np.sort(keys, axis=1))
    ordered, order = both >> bits, both & (1 << bits) - 1
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    rank = new.cumsum(1) - 1
    row_ids = torch.full((len(ids), int(rank[:, -1].max()) + 1), PAD)
    row_ids.scatter_(1, rank, ordered)
    return row_ids, torch.empty_like(ids).scatter_(1, order, rank)
