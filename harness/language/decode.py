"""Batched decoding of a causal language model: left padding, one shared prompt prefix, early exit.

The loop does what ``transformers``' ``generate`` does for greedy search (a test holds them equal
in fp32) and adds what a catalogue of short prompts needs: the key-value cache of a prefix that
every prompt shares is computed once, logits are computed for the last position only, rows that
have finished leave the batch, and where a row's next tokens are certain (the rest of a title) it
reads several in one step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from transformers import DynamicCache

SHRINK_AT = 0.8
"""Finished rows leave the batch once at most this share is left: each time copies the cache."""

AT_ONCE = 4
"""Tokens that a row may read in one step where several are certain. With more, rows that have
fewer to read are padded more."""

Choose = Callable[[Float[Tensor, " token"], int, int], int]
"""(logits of the tokens to choose from, row, step) -> place of the chosen one among them."""

PickTokens = Callable[[Float[Tensor, " vocab"], int, int], Sequence[int]]
"""(logits of one row, row, step) -> the next token, and those that must follow it."""

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
    from transformers import DynamicCache  # slow: not at every start

    cache = DynamicCache(config=model.config)
    ids = torch.tensor([list(tokens)], device=model.device)
    model(input_ids=ids, past_key_values=cache, logits_to_keep=1)
    return Prefix(len(tokens), cache)


def _left_padded(
    rows: Sequence[Sequence[int]], pad: int
) -> tuple[Int[Tensor, "row width"], Int[Tensor, "row width"]]:
    """Return the tokens padded on the left, and the mask of the real ones."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, width - len(row) :] = torch.tensor(list(row))
        mask[number, width - len(row) :] = 1
    return ids, mask


def greedy(logits: Float[Tensor, " token"], row: int, step: int) -> int:
    """Pick the most probable token; a tie falls to the lowest id."""
    del row, step
    return int(logits.argmax())


def one_by_one(choose: Choose) -> PickTokens:
    """Return a picker that says one token at a time, any of the vocabulary."""
    return lambda logits, row, step: [choose(logits, row, step)]


class _Rows:
    """The rows of one batch while they grow, each at its own pace.

    Attributes:
        made: new tokens of each row.
        unread: those of them that the model has not read yet.
        alive: rows that are still in the batch, in the batch's order.
    """

    def __init__(self, count: int, limit: int, finished: Finished) -> None:
        self.made: list[list[int]] = [[] for _ in range(count)]
        self.unread: list[list[int]] = [[] for _ in range(count)]
        self.alive = list(range(count))
        self._done = [False] * count
        self._limit = limit
        self._finished = finished

    def extend(self, logits: Float[Tensor, "row vocab"], pick: PickTokens) -> None:
        """Let every row that has been read to its end say what comes next."""
        for place, row in enumerate(self.alive):
            if self._done[row] or self.unread[row]:
                continue
            made = self.made[row]
            for token in pick(logits[place], row, len(made)):
                made.append(token)
                self.unread[row].append(token)
                self._done[row] = self._finished(made) or len(made) == self._limit
                if self._done[row]:
                    break

    def going(self) -> list[int]:
        """Return the places in the batch of the rows that are not finished."""
        return [place for place, row in enumerate(self.alive) if not self._done[row]]

    def take(self, most: int) -> list[list[int]]:
        """Return up to ``most`` unread tokens of each row; a finished row gives a stand-in."""
        taken: list[list[int]] = []
        for row in self.alive:
            unread = self.unread[row]
            taken.append([self.made[row][-1]] if self._done[row] else unread[:most])
            self.unread[row] = unread[most:]
        return taken


@torch.inference_mode()
def decode_batch(
    model: Any,
    own: Sequence[Sequence[int]],
    prefix: Prefix,
    *,
    pad: int,
    max_new_tokens: int,
    finished: Finished,
    pick: PickTokens,
) -> list[list[int]]:
    """Continue every prompt of one batch until it is finished or ``max_new_tokens`` are made.

    Args:
        model: a causal language model of ``transformers``, in evaluation mode.
        own: token ids of each prompt behind the shared prefix, each at least one.
        prefix: the shared prefix from `encode_prefix`.
        pad: id that fills the left of shorter prompts; masked, so its value changes nothing.
        max_new_tokens: upper limit of new tokens in a row.
        finished: sees a row's new tokens after each; True takes the row out of the batch.
        pick: chooses the next token of a row, and those that must follow it.

    Returns:
        New token ids per prompt, including the one that ended it.
    """
    from harness.language.kvcache import growing_cache  # slow: not at every start

    rows = _Rows(len(own), max_new_tokens, finished)
    ids, mask = (t.to(model.device) for t in _left_padded(own, pad))
    past = mask.new_ones(len(own), prefix.length)
    cache = growing_cache(model, ids.shape[1] + max_new_tokens, prefix.cache, len(own))
    while True:
        mask = torch.cat([past, mask], dim=1)
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :],
            past_key_values=cache,
            logits_to_keep=1,
        ).logits[:, -1]
        # Tokens are picked one row after another, which wants no device to wait for.
        rows.extend(logits.cpu(), pick)
        going = rows.going()
        if not going:
            return rows.made
        if len(going) <= SHRINK_AT * len(rows.alive):
            keep = torch.tensor(going, device=model.device)
            cache.batch_select_indices(keep)
            mask, rows.alive = mask[keep], [rows.alive[place] for place in going]
        past = mask
        ids, mask = (t.to(model.device) for t in _left_padded(rows.take(AT_ONCE), pad))
