"""SASRec: self-attentive sequential recommendation.

Kang and McAuley, ICDM 2018, arXiv:1808.09781, section 3: queries are layer-normalised, keys and
values are not; point-wise feed-forward with ReLU; a last layer norm; score = hidden state · item
embedding. Differs from the public PyTorch port [code: pmixer/SASRec.pytorch]: embeddings are not
multiplied by √dim (the table starts at unit row length instead), positions count from the oldest
item kept, and there is no dropout inside a client (five local steps on one sequence).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from harness.core.client_weight import ClientWeight, Parameter, Parameters
from harness.core.products import rows_of
from harness.core.seeds import Seeds
from models.sasrec_by_hand import encode
from models.sequences import Layout

LINEAR = ("query", "key", "value", "output", "feed1", "feed2")
NORMS = ("norm1", "norm2")


def linear(
    dense: Parameters, name: str, x: Float[Tensor, "sequence token in"]
) -> Float[Tensor, "sequence token out"]:
    """Return ``x @ weight + bias`` for shared or per-sequence ``[in, out]`` weights."""
    weight, bias = dense[f"{name}.weight"], plain(dense, f"{name}.bias")
    if not isinstance(weight, Tensor):
        return weight.linear(x, bias)
    if weight.dim() == 2:
        return torch.addmm(bias, x.flatten(0, 1), weight).unflatten(0, x.shape[:2])
    return torch.baddbmm(bias.unsqueeze(1), x, weight)


def layer_norm(
    dense: Parameters, name: str, x: Float[Tensor, "sequence token dim"]
) -> Float[Tensor, "sequence token dim"]:
    """Return layer normalisation with shared or per-sequence scale and shift."""
    scale, shift = plain(dense, f"{name}.scale"), plain(dense, f"{name}.shift")
    if scale.dim() == 1:
        return F.layer_norm(x, x.shape[-1:], scale, shift, eps=1e-8)
    # Not addcmul: its backward pass multiplies the normalised states by one.
    normal = F.layer_norm(x, x.shape[-1:], eps=1e-8)
    return (normal * scale.unsqueeze(1)).add_(shift.unsqueeze(1))


def rows_at(
    tables: Parameter, index: Int[Tensor, "sequence token"]
) -> Float[Tensor, "sequence token dim"]:
    """Look rows up in a shared table, or in one ``[sequence, row, dim]`` of each sequence's own."""
    if not isinstance(tables, Tensor):
        return tables.lookup(index)
    return rows_of(tables, index)


def plain(dense: Parameters, name: str) -> Tensor:
    """Return a parameter that is never factored."""
    value = dense[name]
    assert isinstance(value, Tensor), f"{name} is not among the factored parameters"
    return value


@dataclass(frozen=True)
class SASRec:
    """The architecture; parameters are handed to each call.

    Attributes:
        embedding_size: width d.
        num_blocks: attention blocks.
        num_heads: heads per block; must divide d.
        max_positions: rows of the position table.
    """

    embedding_size: int
    num_blocks: int
    num_heads: int
    max_positions: int

    def initial(self, seeds: Seeds) -> dict[str, Tensor]:
        """Return initial parameters: Xavier-normal weights, zero biases, small positions."""
        generator = seeds.torch("sasrec")
        dim = self.embedding_size
        dense = {"positions": torch.randn(self.max_positions, dim, generator=generator) * 0.02}
        for block in range(self.num_blocks):
            for name in LINEAR:
                weight = torch.randn(dim, dim, generator=generator) * dim**-0.5
                dense[f"blocks.{block}.{name}.weight"] = weight
                dense[f"blocks.{block}.{name}.bias"] = torch.zeros(dim)
            for name in NORMS:
                dense[f"blocks.{block}.{name}.scale"] = torch.ones(dim)
                dense[f"blocks.{block}.{name}.shift"] = torch.zeros(dim)
        dense["norm.scale"] = torch.ones(dim)
        dense["norm.shift"] = torch.zeros(dim)
        return dense

    def factored(self) -> frozenset[str]:
        """Return the parameters read by `linear` and `rows_at` alone."""
        blocks, names = range(self.num_blocks), LINEAR
        weights = {f"blocks.{block}.{name}.weight" for block in blocks for name in names}
        return frozenset(weights | {"positions"})

    def hidden(
        self,
        dense: Parameters,
        embedded: Float[Tensor, "sequence token dim"],
        layout: Layout,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "sequence token dim"]:
        """Return the hidden state of every token.

        Args:
            dense: shared parameters, or one copy a sequence (leading axis).
            embedded: item embeddings of the tokens.
            layout: positions and attention mask.
            dropout: probability, applied to the input, the attention output and the feed-forward.
            generator: random stream of the dropout; needed when ``dropout > 0``.
        """
        x = drop(embedded + rows_at(dense["positions"], layout.positions), dropout, generator)
        # An additive mask, made once for all blocks, is faster on CPU than the boolean one.
        mask = torch.zeros_like(layout.mask, dtype=x.dtype).masked_fill(~layout.mask, -torch.inf)
        mask = mask.unsqueeze(1)
        if isinstance(dense["positions"], ClientWeight) and dropout == 0.0:
            return encode(dense, x, mask, blocks=self.num_blocks, heads=self.num_heads)
        for block in range(self.num_blocks):
            x = self._block(dense, f"blocks.{block}.", x, mask, dropout, generator)
        return layer_norm(dense, "norm", x)

    def _block(
        self,
        dense: Parameters,
        prefix: str,
        x: Float[Tensor, "sequence token dim"],
        mask: Float[Tensor, "sequence 1 token token"],
        dropout: float,
        generator: torch.Generator | None,
    ) -> Float[Tensor, "sequence token dim"]:
        def heads(inputs: Tensor) -> Tensor:
            return inputs.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

        query_input = layer_norm(dense, f"{prefix}norm1", x)
        mixed = F.scaled_dot_product_attention(
            heads(linear(dense, f"{prefix}query", query_input)),
            heads(linear(dense, f"{prefix}key", x)),
            heads(linear(dense, f"{prefix}value", x)),
            attn_mask=mask,
        )
        mixed = linear(dense, f"{prefix}output", mixed.transpose(1, 2).flatten(2))
        x = query_input + drop(mixed, dropout, generator)
        x = layer_norm(dense, f"{prefix}norm2", x)
        inner = F.relu(linear(dense, f"{prefix}feed1", x))
        return x + drop(linear(dense, f"{prefix}feed2", inner), dropout, generator)


def drop(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Return inverted dropout from an explicit stream; the input itself at rate 0."""
    if rate == 0.0:
        return x
    keep = torch.rand(x.shape, generator=generator) >= rate
    return x * keep / (1.0 - rate)
