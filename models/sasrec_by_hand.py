"""SASRec's blocks for clients with weights of their own, differentiated by hand.

The same sums as `models.sasrec` writes for autograd, which stays the reference in the tests and the
way of shared weights, of Adam and of dropout.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from harness.core.client_weight import ClientWeight, Parameters
from models.by_hand import Attention, Chain, Layer, Linear, Norm, joined, through


def encode(
    dense: Parameters,
    x: Float[Tensor, "client token dim"],
    mask: Float[Tensor, "#client 1 token token"],
    *,
    blocks: int,
    heads: int,
) -> Float[Tensor, "client token dim"]:
    """Return the hidden state of every token.

    Args:
        dense: each client's own parameters, matrices as `ClientWeight`.
        x: embedded tokens; must need a gradient.
        mask: what is added to attention scores.
        blocks: of the encoder.
        heads: of each block's attention.
    """
    stack: list[Layer] = [_Block(dense, f"blocks.{b}.", heads, mask) for b in range(blocks)]
    return through(Chain([*stack, _norm(dense, "norm")]), x)


class _Block:
    """Attention and feed-forward, each with its residual connection."""

    def __init__(self, dense: Parameters, prefix: str, heads: int, mask: Tensor) -> None:
        self.norm1, self.norm2 = (_norm(dense, f"{prefix}{name}") for name in ("norm1", "norm2"))
        self.query, self.key, self.value = (
            _linear(dense, f"{prefix}{name}") for name in ("query", "key", "value")
        )
        self.output, self.feed1, self.feed2 = (
            _linear(dense, f"{prefix}{name}") for name in ("output", "feed1", "feed2")
        )
        self.attention = Attention(heads, mask)
        self._layers = (
            *(self.query, self.key, self.value, self.output, self.feed1, self.feed2),
            *(self.norm1, self.norm2),
        )
        self.parameters = joined(layer.parameters for layer in self._layers)
        self.gradients: tuple[Tensor, ...] = ()
        self._kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's states."""
        query_input = self.norm1.forward(x)
        mixed = self.attention.forward(
            self.query.forward(query_input), self.key.forward(x), self.value.forward(x)
        )
        x = self.norm2.forward(self.output.forward(mixed).add_(query_input))
        inner = self.feed1.forward(x).relu_()
        self._kept.append(inner)
        return self.feed2.forward(inner).add_(x)

    def backward(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the block's input."""
        inner = self.feed2.backward(gradient)
        inner = torch.ops.aten.threshold_backward(inner, self._kept.pop(), 0)
        # Not in place: what came in is also a factor of the weights' own gradient.
        gradient = self.norm2.backward(self.feed1.backward(inner).add_(gradient))
        query, key, value = self.attention.backward(self.output.backward(gradient))
        back = self.norm1.backward(self.query.backward(query).add_(gradient))
        back = self.value.backward(value, self.key.backward(key, back))
        self.gradients = joined(layer.gradients for layer in self._layers)
        return back


def _linear(dense: Parameters, name: str) -> Linear:
    weight = dense[f"{name}.weight"]
    assert isinstance(weight, ClientWeight), f"{name} is not a weight of each client's own"
    return Linear(weight, _plain(dense, f"{name}.bias"))


def _norm(dense: Parameters, name: str) -> Norm:
    return Norm(_plain(dense, f"{name}.scale"), _plain(dense, f"{name}.shift"))


def _plain(dense: Parameters, name: str) -> Tensor:
    value = dense[name]
    assert isinstance(value, Tensor), f"{name} is never factored"
    return value
