"""GRU4Rec: session-based recommendation with a gated recurrent unit.

Hidasi et al., ICLR 2016, arXiv:1511.06939, section 3. Differs: trained with the objective of the
system around it instead of its own ranking loss, and written out cell by cell, because the fused
layer accepts neither a client axis nor the branches of a packed layout.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from harness.core.client_weight import Parameters
from harness.core.seeds import Seeds
from models.sasrec import drop, linear
from models.sequences import Layout


@dataclass(frozen=True)
class GRU4Rec:
    """The architecture; parameters are handed to each call.

    Attributes:
        embedding_size: width of input and state.
        num_layers: stacked cells.
    """

    embedding_size: int
    num_layers: int

    def initial(self, seeds: Seeds) -> dict[str, Tensor]:
        """Return initial parameters, uniform in ±1/√dim as in the common implementations."""
        generator = seeds.torch("gru4rec")
        dim, bound = self.embedding_size, self.embedding_size**-0.5
        dense: dict[str, Tensor] = {}
        for layer in range(self.num_layers):
            for name in ("input", "state"):
                draw = torch.rand(dim, 3 * dim, generator=generator)
                dense[f"layers.{layer}.{name}.weight"] = (2 * draw - 1) * bound
                dense[f"layers.{layer}.{name}.bias"] = torch.zeros(3 * dim)
        return dense

    def factored(self) -> frozenset[str]:
        """Return the parameters read by `linear` alone."""
        layers, names = range(self.num_layers), ("input", "state")
        return frozenset(f"layers.{layer}.{name}.weight" for layer in layers for name in names)

    def hidden(
        self,
        dense: Parameters,
        embedded: Float[Tensor, "sequence token dim"],
        layout: Layout,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "sequence token dim"]:
        """Return the hidden state of every token; a branch continues its parent's state."""
        x = drop(embedded, dropout, generator)
        for layer in range(self.num_layers):
            x = self._layer(dense, f"layers.{layer}.", x, layout)
        return x

    def _layer(
        self, dense: Parameters, prefix: str, x: Tensor, layout: Layout
    ) -> Float[Tensor, "sequence token dim"]:
        inputs = linear(dense, f"{prefix}input", x)
        rows = torch.arange(len(x), device=x.device)
        states = [torch.zeros_like(x[:, 0])]
        for token in range(x.shape[1]):
            # State 0 is the empty history; token t has state t + 1.
            previous = torch.stack(states, 1)[rows, layout.parent[:, token] + 1]
            reset_in, update_in, new_in = inputs[:, token].chunk(3, -1)
            recurrent = linear(dense, f"{prefix}state", previous.unsqueeze(1)).squeeze(1)
            reset_h, update_h, new_h = recurrent.chunk(3, -1)
            reset, update = torch.sigmoid(reset_in + reset_h), torch.sigmoid(update_in + update_h)
            candidate = torch.tanh(new_in + reset * new_h)
            states.append(update * previous + (1 - update) * candidate)
        return torch.stack(states[1:], 1)
