"""What a sequence encoder offers to the systems that train it, shared or one copy a client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.core.client_weight import Parameters
from harness.core.seeds import Seeds
from models.gru4rec import GRU4Rec
from models.sasrec import SASRec
from models.sequences import Layout, causal_layout

BackboneName = Literal["sasrec", "gru4rec"]


class Backbone(Protocol):
    """A causal sequence encoder as pure functions of its parameters."""

    @property
    def embedding_size(self) -> int:
        """Width of embeddings and states."""
        ...

    def initial(self, seeds: Seeds) -> dict[str, Tensor]:
        """Return initial dense parameters (the item table is kept apart)."""
        ...

    def factored(self) -> frozenset[str]:
        """Return the parameters that may be a `ClientWeight`: matrices and tables."""
        ...

    def hidden(
        self,
        dense: Parameters,
        embedded: Float[Tensor, "sequence token dim"],
        layout: Layout,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "sequence token dim"]:
        """Return the hidden state of every token.

        ``dense`` holds either shared parameters or parameters with a leading sequence axis (one
        client a sequence); both give the same result for equal parameters.
        """
        ...


def build_backbone(
    name: BackboneName, *, embedding_size: int, num_blocks: int, num_heads: int, max_positions: int
) -> Backbone:
    """Return the encoder called ``name``."""
    if name == "gru4rec":
        return GRU4Rec(embedding_size=embedding_size, num_layers=num_blocks)
    return SASRec(
        embedding_size=embedding_size,
        num_blocks=num_blocks,
        num_heads=num_heads,
        max_positions=max_positions,
    )


def initial_table(num_items: int, embedding_size: int, seeds: Seeds) -> Float[Tensor, "item dim"]:
    """Return an item table drawn from N(0, 1/dim), so that rows have about unit length."""
    draw = torch.randn(num_items, embedding_size, generator=seeds.torch("item table"))
    return draw * embedding_size**-0.5


@dataclass(frozen=True)
class SequenceModel:
    """Encoder and weights together: what an outsider can query and a client receives.

    Attributes:
        backbone: the architecture.
        dense: shared parameters.
        table: item embeddings.
        max_length: history items read.
        batch: histories encoded at once.
        caveat: what a reader of its results should know of its training; empty for nothing.
    """

    backbone: Backbone
    dense: dict[str, Tensor]
    table: Float[Tensor, "item dim"]
    max_length: int
    batch: int = 256
    caveat: str = ""

    @property
    def item_table(self) -> Float[Tensor, "item dim"]:
        """Item embeddings."""
        return self.table

    @property
    def position_table(self) -> Float[Tensor, "position dim"]:
        """Position embeddings; zeros for an encoder that has none."""
        positions = self.dense.get("positions")
        if positions is None:
            return torch.zeros(self.max_length, self.table.shape[1])
        return positions[: self.max_length]

    @torch.no_grad()
    def encode(self, histories: Sequence[Sequence[int]]) -> Float[Tensor, "user dim"]:
        """Return the last hidden state of each history; zeros for an empty one."""
        states = torch.zeros(len(histories), self.table.shape[1])
        order = sorted(range(len(histories)), key=lambda row: len(histories[row]))
        order = [row for row in order if len(histories[row])]
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            arrays = [np.asarray(histories[row], dtype=np.int64) for row in rows]
            layout, last = causal_layout(arrays, self.max_length)
            hidden = self.backbone.hidden(self.dense, self.table[layout.ids], layout)
            states[rows] = hidden[torch.arange(len(rows)), last]
        return states

    @torch.no_grad()
    def scores(
        self, users: Int[np.ndarray, " user"], histories: Sequence[Int[np.ndarray, " event"]]
    ) -> Float[np.ndarray, "user item"]:
        """Return the dot product of every user state with every item embedding."""
        del users
        return (self.encode([h.tolist() for h in histories]) @ self.table.T).numpy()
