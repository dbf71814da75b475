"""Messages, models and views of a size that can be checked by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from harness.core.messages import PAD, EmbeddingUpload, Message, ModelUpdate
from harness.core.observe import Catalogue, Grant, RoundRecord, ThreatModel, Transcript, View
from harness.core.scores import RowScores

VALUE = "blocks.0.value.weight"
NUM_ITEMS, DIM = 30, 8


@dataclass(frozen=True)
class FlatModel:
    """A model whose state is the mean of its history's rows."""

    item_table: Float[Tensor, "item dim"]
    position_table: Float[Tensor, "position dim"]

    def encode(self, histories: list[list[int]]) -> Float[Tensor, "user dim"]:
        return torch.stack([self.item_table[h].mean(0) for h in histories])


def model(
    seed: int = 0, num_items: int = NUM_ITEMS, dim: int = DIM, positions: int = 6
) -> FlatModel:
    stream = torch.Generator().manual_seed(seed)
    table = torch.randn(num_items, dim, generator=stream) * dim**-0.5
    return FlatModel(table, torch.randn(positions, dim, generator=stream) * 0.02)


def update(num_clients: int = 5, seed: int = 0, slots: int = 4) -> ModelUpdate:
    """A cohort whose client c sends c mod (slots + 1) rows: some send none, some fill all slots."""
    stream = torch.Generator().manual_seed(seed)
    ids = torch.full((num_clients, slots), PAD)
    rows = torch.zeros(num_clients, slots, DIM)
    for client in range(num_clients):
        count = client % (slots + 1)
        ids[client, :count] = torch.randperm(NUM_ITEMS, generator=stream)[:count]
        rows[client, :count] = torch.randn(count, DIM, generator=stream)
    return ModelUpdate(
        clients=torch.arange(num_clients) + 100,
        dense={
            VALUE: torch.randn(num_clients, DIM, DIM, generator=stream),
            "bias": torch.randn(num_clients, DIM, generator=stream),
        },
        row_ids=ids,
        rows=rows,
        num_examples=torch.full((num_clients,), 3),
    )


def upload(seed: int = 0, sizes: tuple[int, ...] = (12, 18), dim: int = DIM) -> EmbeddingUpload:
    stream = torch.Generator().manual_seed(seed)
    vectors = F.normalize(torch.randn(sum(sizes), dim, generator=stream), dim=1)
    return EmbeddingUpload(torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)), vectors)


def catalogue(vectors: Tensor | None = None, domain: Tensor | None = None) -> Catalogue:
    vectors = torch.zeros(NUM_ITEMS, 0) if vectors is None else vectors
    domain = torch.zeros(len(vectors), dtype=torch.int64) if domain is None else domain
    return Catalogue(tuple(f"item {i}" for i in range(len(vectors))), vectors, domain)


def view(
    threat_model: ThreatModel,
    *messages: Message,
    handle: FlatModel | None = None,
    public: Catalogue | None = None,
    defense: tuple[dict[str, Any], ...] = (),
    own: tuple[tuple[int, ...], ...] = ((1, 2, 3), (4, 5)),
    without: Grant | None = None,
) -> View:
    """A view of recorded rounds, one message each, less one grant if asked."""
    handle = handle or model()
    records = tuple(RoundRecord(i, m, handle, None) for i, m in enumerate(messages))
    transcript = Transcript(
        records,
        public or catalogue(),
        defense,
        {"max_length": len(handle.position_table)},
    )
    granted = ThreatModel(
        threat_model.adversary,
        threat_model.sees - {without},
        threat_model.knows - {without},
        threat_model.acts,
    )
    return View(transcript, granted, own)


def same(a: Any, b: Any) -> bool:
    """Whether two messages, aggregates or claims hold equal tensors."""
    if isinstance(a, RowScores):
        return type(a) is type(b) and a.shape == b.shape and same(a.dense(), b.dense())
    if isinstance(a, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(
            same(getattr(a, f), getattr(b, f)) for f in a.__dataclass_fields__
        )
    return bool(a == b)


def rows_of(message: ModelUpdate, place: int) -> dict[int, Tensor]:
    """Item to delta of one client, whatever the slots."""
    return {
        int(i): message.rows[place, s] for s, i in enumerate(message.row_ids[place]) if i != PAD
    }
