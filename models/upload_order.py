"""The order in which SF-UBM's domains send their vectors: drawn by each, and known to it alone."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from harness.core.seeds import Seeds


def upload_order(owner: Int[Tensor, " item"], seeds: Seeds) -> Int[Tensor, " upload"]:
    """Return all items, domain after domain, each domain's in an order of its own."""
    own = [(owner == domain).nonzero().flatten() for domain in owner.unique().tolist()]
    return torch.cat([items[seeds.numpy(d).permutation(len(items))] for d, items in enumerate(own)])
