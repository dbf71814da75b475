"""Attention over grouped key-value heads that copies no key and no value.

Where queries share key-value heads, ``transformers`` repeats keys and values to the number of
query heads whenever there is a mask and more than one query, which for a batch with a long cache
moves gigabytes a step. Here the queries of a group stand behind one another as rows of one head.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

GROUPED = "grouped"
"""Name under which `register` makes the attention known to ``transformers``."""


def register() -> None:
    """Make `grouped_attention` known under the name `GROUPED`; again does no harm."""
    AttentionInterface.register(GROUPED, grouped_attention)
    AttentionMaskInterface.register(GROUPED, sdpa_mask)


def grouped_attention(
    module: Any,
    query: Float[Tensor, "row head query width"],
    key: Float[Tensor, "row group position width"],
    value: Float[Tensor, "row group position width"],
    attention_mask: Bool[Tensor, "row 1 query position"] | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "row query head width"], None]:
    """Return softmax(q · k) v per head, in the form that ``transformers`` expects of attention.

    Without a mask, without groups, or with a mask that differs between heads, it is the library's.
    """
    rows, heads, queries, width = query.shape
    groups = key.shape[1]
    if attention_mask is None or heads == groups or attention_mask.shape[1] != 1:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    folded = query.reshape(rows, groups, heads // groups * queries, width)
    mask = attention_mask.repeat(1, 1, heads // groups, 1)
    mixed = scaled_dot_product_attention(folded, key, value, attn_mask=mask, scale=scaling)
    return mixed.reshape(rows, heads, queries, width).transpose(1, 2).contiguous(), None
