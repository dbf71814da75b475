"""Prompts of SF-UBM's stage 2: words and soft tokens in one sequence, and the two projectors.

A prompt is a list of codes: a code >= 0 is a token of the vocabulary, ``USER`` is the user's soft
token, and ``item_code(i)`` the soft token of item ``i``. Several queries may share one prefix
(``Pack``): each query sees the prefix and itself only, so a pack gives the same logits as one
prompt per query, at the price of one prefix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

LayoutName = Literal["paper", "matched"]
ProjectorName = Literal["paper", "matched"]

USER = -1


def item_code(item: int) -> int:
    """Code of an item's soft token."""
    return -2 - item


@dataclass(frozen=True)
class Lexicon:
    """Token ids of everything a prompt is made of.

    Attributes:
        layout: which template the words belong to.
        titles: token ids of each item's title, as they stand in the prompt and in the answer.
        end: token ids that close an answer; the first of them stops generation.
        words: token ids of the template's fixed pieces.
    """

    layout: LayoutName
    titles: list[list[int]]
    end: list[int]
    words: dict[str, list[int]]

    def prefix(self, candidates: Sequence[int]) -> list[int]:
        """Return the codes that all queries about these candidates share."""
        if self.layout == "paper":
            return []
        codes = list(self.words["candidates"])
        for item in candidates:
            codes += [item_code(item), *self.titles[item], *self.end]
        return codes

    def query(
        self, history: Sequence[int], candidates: Sequence[int], asker: int = USER
    ) -> list[int]:
        """Return the codes from the end of the prefix to just before the answer.

        Args:
            history: the user's last items, oldest first; may be empty.
            candidates: items to choose from (used by the paper's layout only).
            asker: code of the soft token that asks, ``USER`` unless a warm-up asks with an item.
        """
        if self.layout == "matched":
            return self._matched_query(history, asker)
        w = self.words
        codes = [asker, *w["user"]]
        codes += self._listed(history)
        codes += w["ask"] + self._listed(candidates)
        return codes + w["answer"]

    def answer(self, item: int) -> list[int]:
        """Return the target tokens for an item, with the closing tokens."""
        return [*self.titles[item], *self.end]

    def _matched_query(self, history: Sequence[int], asker: int) -> list[int]:
        codes = list(self.words["history"]) if history else []
        for item in history:
            codes += [item_code(item), *self.titles[item], *self.end]
        return [*codes, *self.words["answer"], asker]

    def _listed(self, items: Sequence[int]) -> list[int]:
        codes: list[int] = []
        for place, item in enumerate(items):
            comma = self.words["comma"] if place else []
            codes += [*comma, *self.titles[item], item_code(item)]
        return codes


def build_lexicon(
    tokenizer: Any, titles: Sequence[str], layout: LayoutName, noun: str = "item"
) -> Lexicon:
    """Tokenise titles and template once.

    ``paper``: user token first, every title in quotes and *followed* by its soft token, answer a
    quoted title and end-of-text: A-LLMRec's template [lineage]; SF-UBM does not print its own.
    ``matched``: candidates first, every title *preceded* by its soft token, the user token last,
    directly before the answer [ours]. A decoder that has met "a b" copies "b" after "a" again;
    this layout states the choice as that pattern: the user's token is a noisy copy of the token
    in front of the right title.
    """

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    if layout == "matched":
        words = {
            "candidates": ids(f"Candidate {noun}s:\n"),
            "history": ids(f"History of {noun}s:\n"),
            "answer": ids("The recommendation is"),
        }
        return Lexicon(layout, [ids(" " + t) for t in titles], ids("\n"), words)
    words = {
        "user": ids(f" is a user representation. This user has chosen these {noun}s:"),
        "ask": ids(f" in the past. Recommend one next {noun} for this user from:"),
        "answer": ids(". The recommendation is"),
        "comma": ids(","),
    }
    return Lexicon(layout, [ids(f' "{t}"') for t in titles], [int(tokenizer.eos_token_id)], words)


class Query(NamedTuple):
    """One question in a pack: codes up to the answer, the asker's state row, the answer's item."""

    codes: list[int]
    state: int
    target: int


class Pack(NamedTuple):
    """A shared prefix and the queries that follow it side by side."""

    prefix: list[int]
    queries: list[Query]


class Batch(NamedTuple):
    """Packs as tensors; ``slot`` tensors are (row, column) pairs, one line per soft token."""

    ids: Int[Tensor, "pack token"]
    position: Int[Tensor, "pack token"]
    mask: Bool[Tensor, "pack 1 token token"]
    item_slot: Int[Tensor, "soft 2"]
    item: Int[Tensor, " soft"]
    user_slot: Int[Tensor, "asker 2"]
    state: Int[Tensor, " asker"]
    target: Int[Tensor, " asker"]
    label_slot: Int[Tensor, "label 2"]
    label: Int[Tensor, " label"]
    first: Bool[Tensor, " label"]


def collate(packs: Sequence[Pack], lexicon: Lexicon) -> Batch:
    """Lay packs out as one right-padded batch with the mask that keeps queries apart."""
    rows = [_flatten(pack, lexicon) for pack in packs]
    width = max(len(row.codes) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    position = torch.zeros_like(ids)
    segment = torch.full_like(ids, -1)
    items: list[tuple[int, int, int]] = []
    users: list[tuple[int, int, int, int]] = []
    labels: list[tuple[int, int, int, bool]] = []
    for r, row in enumerate(rows):
        n = len(row.codes)
        ids[r, :n] = torch.tensor([max(c, 0) for c in row.codes])
        position[r, :n] = torch.tensor(row.position)
        segment[r, :n] = torch.tensor(row.segment)
        items += [(r, k, -2 - c) for k, c in enumerate(row.codes) if c < USER]
        users += [(r, *u) for u in row.users]
        labels += [(r, *lab) for lab in row.labels]
    same = (segment[:, :, None] == segment[:, None, :]) | (segment[:, None, :] == 0)
    mask = same & torch.ones(width, width, dtype=torch.bool).tril()
    item, user = _table(items, 3), _table(users, 4)
    label = _table(labels, 4)
    return Batch(
        ids, position, mask[:, None], item[:, :2], item[:, 2], user[:, :2], user[:, 2], user[:, 3],
        label[:, :2], label[:, 2], label[:, 3].bool(),
    )  # fmt: skip


class _Row(NamedTuple):
    codes: list[int]
    position: list[int]
    segment: list[int]
    users: list[tuple[int, int, int]]
    labels: list[tuple[int, int, bool]]


def _flatten(pack: Pack, lexicon: Lexicon) -> _Row:
    shared = len(pack.prefix)
    row = _Row(list(pack.prefix), list(range(shared)), [0] * shared, [], [])
    for number, query in enumerate(pack.queries, start=1):
        start = len(row.codes)
        answer = lexicon.answer(query.target)
        row.users.extend(
            (start + k, query.state, query.target) for k, c in enumerate(query.codes) if c == USER
        )
        last = start + len(query.codes) - 1
        row.labels.extend((last + k, token, k == 0) for k, token in enumerate(answer))
        row.codes.extend(query.codes + answer[:-1])
        size = len(row.codes) - start
        row.position.extend(range(shared, shared + size))
        row.segment.extend([number] * size)
    return row


def _table(rows: Sequence[tuple[int, ...]], width: int) -> Int[Tensor, "row column"]:
    return torch.tensor(rows, dtype=torch.long).reshape(-1, width)


def _linear(size_in: int, size_out: int, generator: torch.Generator) -> nn.Linear:
    layer = nn.Linear(size_in, size_out, device="meta").to_empty(device="cpu")
    bound = 1 / math.sqrt(size_in)
    for weight in layer.parameters():
        weight.data.uniform_(-bound, bound, generator=generator)
    return layer


class Projectors(nn.Module):
    """F_U and F_I of SF-UBM, equations 15 and 16: user state and item vector to soft tokens.

    ``paper``: Linear, LayerNorm, LeakyReLU (user) or GELU (item), Linear, raw output; the item
    side reads the 128-d code [lineage: A-LLMRec; SF-UBM confirms two different activations].
    ``matched``: the item side reads the code *decoded* into the sequence model's space, where the
    dot product with the user state is what the recommendation loss (equation 13) trains; a linear
    path and an MLP are added, and the output is scaled to the norm of the LLM's own token
    embeddings, so that cosine similarity is the only thing that can tell tokens apart [ours].

    Attributes:
        norm: length of a soft token in the ``matched`` form.
    """

    def __init__(
        self,
        kind: ProjectorName,
        sizes: tuple[int, int],
        width: int,
        norm: float,
        generator: torch.Generator,
    ):
        super().__init__()
        self.kind = kind
        self.norm = norm
        self.user = _mlp(kind, sizes[0], width, nn.LeakyReLU(), generator)
        self.item = _mlp(kind, sizes[1], width, nn.GELU(), generator)
        if kind == "matched":
            self.user_line = _linear(sizes[0], width, generator)
            self.item_line = _linear(sizes[1], width, generator)

    def users(self, state: Float[Tensor, "user dim"]) -> Float[Tensor, "user width"]:
        """Soft tokens of users (equation 15)."""
        out = self.user(state)
        if self.kind == "paper":
            return out
        return F.normalize(out + self.user_line(state) / 7, dim=-1) * self.norm

    def items(self, vector: Float[Tensor, "item dim"]) -> Float[Tensor, "item width"]:
        """Soft tokens of items (equation 16)."""
        out = self.item(vector)
        if self.kind == "paper":
            return out
        return F.normalize(out + self.item_line(vector) / 7, dim=-1) * self.norm


def _mlp(
    kind: ProjectorName, size: int, width: int, act: nn.Module, generator: torch.Generator
) -> nn.Sequential:
    first, last = _linear(size, width, generator), _linear(width, width, generator)
    if kind == "paper":
        return nn.Sequential(first, nn.LayerNorm(width), act, last)
    return nn.Sequential(nn.LayerNorm(size), first, act, last)
