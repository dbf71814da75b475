"""Batched decoding of a causal language model: left padding, one shared prompt prefix, early exit.

The loop does what ``transformers``' ``generate`` does for greedy search (a test holds them equal
in fp32) and adds what a catalogue of short prompts needs: the key-value cache of a prefix that
every prompt shares is computed once, logits are computed for the last position only, and rows that
have finished leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from harness.language.kvcache import growing_cache

SHRINK_AT = 0.8
"""Finished rows leave the batch once at most this share is left: each time copies the cache."""

PickToken = Callable[[Float[Tensor, " vocab"], int, int], int]
"""(logits of one row, row, step) -> token id."""


Finished = Callable[[Sequence[int]], bool]
"""A row's new tokens so far -> True when it needs no further one."""


@dataclass(frozen=True)
class Prefix:
    """Tokens that every prompt starts with, and their key-value cache of batch size one.

    Attributes:
        length: number of tokens; 0 means that nothing is shared.
        cache: the cache, or None when ``length`` is 0.
    """

    length: int
    cache: DynamicCache | None


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many leading tokens all prompts share, leaving each at least one of its own."""
    if not prompts:
        return 0
    rows = [tuple(prompt) for prompt in prompts]
    first, last = min(rows), max(rows)
    limit = min(len(row) for row in rows) - 1
    same = 0
    while same < limit and first[same] == last[same]:
        same += 1
    return same


@torch.inference_mode()
def encode_prefix(model: Any, tokens: Sequence[int]) -> Prefix:
    """Run the shared tokens through the model once.

    Args:
        model: a causal language model of ``transformers``.
        tokens: the shared token ids; may be empty.
    """
    if not tokens:
        return Prefix(0, None)
    cache = DynamicCache(config=model.config)
    ids = torch.tensor([list(tokens)])
    model(input_ids=ids, past_key_values=cache, logits_to_keep=1)
    return Prefix(len(tokens), cache)


def _left_padded(
    rows: Sequence[Sequence[int]], prefix: int, pad: int
) -> tuple[Int[Tensor, "row width"], Int[Tensor, "row total"]]:
    """Return own tokens padded on the left, and the mask over prefix and own tokens."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), prefix + width), dtype=torch.long)
    mask[:, :prefix] = 1
    for number, row in enumerate(rows):
        ids[number, width - len(row) :] = torch.tensor(list(row))
        mask[number, prefix + width - len(row) :] = 1
    return ids, mask


def greedy(logits: Float[Tensor, " vocab"], row: int, step: int) -> int:
    """Pick the most probable token; a tie falls to the lowest id."""
    del row, step
    return int(logits.argmax())


@torch.inference_mode()
def decode_batch(
    model: Any,
    own: Sequence[Sequence[int]],
    prefix: Prefix,
    *,
    pad: int,
    max_new_tokens: int,
    finished: Finished,
    pick: PickToken = greedy,
) -> list[list[int]]:
    """Continue every prompt of one batch until it is finished or ``max_new_tokens`` are made.

    Args:
        model: a causal language model of ``transformers``, in evaluation mode.
        own: token ids of each prompt behind the shared prefix, each at least one.
        prefix: the shared prefix from `encode_prefix`.
        pad: id that fills the left of shorter prompts; masked, so its value changes nothing.
        max_new_tokens: upper limit of new tokens in a row.
        finished: sees a row's new tokens after each step; True takes the row out of the batch.
        pick: chooses the next token of a row.

    Returns:
        New token ids per prompt, including the one that ended it.
    """
    ids, mask = _left_padded(own, prefix.length, pad)
    cache = growing_cache(model, ids.shape[1] + max_new_tokens, prefix.cache, len(own))
    made: list[list[int]] = [[] for _ in own]
    done = [False] * len(own)
    alive = list(range(len(own)))
    positions = (mask.cumsum(1) - 1).clamp_min(0)[:, prefix.length :]
    for step in range(max_new_tokens):
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            logits_to_keep=1,
        ).logits[:, -1]
        for place, row in enumerate(alive):
            if not done[row]:
                made[row].append(pick(logits[place], row, step))
                done[row] = finished(made[row])
        going = [row for row in alive if not done[row]]
        if not going or step + 1 == max_new_tokens:
            break
        if len(going) <= SHRINK_AT * len(alive):
            keep = torch.tensor([place for place, row in enumerate(alive) if not done[row]])
            cache.batch_select_indices(keep)
            mask, alive = mask[keep], going
        ids = torch.tensor([[made[row][-1]] for row in alive])
        mask = torch.cat([mask, torch.ones((len(alive), 1), dtype=mask.dtype)], dim=1)
        positions = mask.sum(1, keepdim=True) - 1
    return made
