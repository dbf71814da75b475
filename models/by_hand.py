"""Layers of clients with weights of their own, differentiated by hand.

Autograd makes a node, and often a copy, for every view, sum and product; at a chunk's size that
costs as much as the smaller products themselves. These layers know their own derivative: they
keep what it needs until then, accumulate in place where nobody else reads, and stand before
autograd as one node (`through`). Tests compare them with autograd on the same weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from harness.core.client_weight import ClientWeight, apply_function

aten = torch.ops.aten


class Layer(Protocol):
    """Something with plain parameters that turns states into states, and gradients back."""

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Those of which autograd is to get the gradient."""
        ...

    @property
    def gradients(self) -> tuple[Tensor, ...]:
        """Theirs, in the same order, after `backward`."""
        ...

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer makes of ``x``, and keep what `backward` needs."""
        ...

    def backward(self, gradient: Tensor) -> Tensor:
        """Return the gradient of ``x``; called once, after `forward`."""
        ...


class Norm:
    """Layer normalisation with each client's scale and shift.

    Args:
        scale: ``[client, dim]``.
        shift: ``[client, dim]``.
    """

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        self.parameters = scale, shift
        self.gradients: tuple[Tensor, ...] = ()
        self._kept: list[tuple[Tensor, Tensor, list[Tensor]]] = []

    def forward(self, x: Float[Tensor, "client token dim"]) -> Float[Tensor, "client token dim"]:
        """Return scale · (x − mean) / √(variance + 1e-8) + shift."""
        scale, shift = self.parameters
        normal, *moments = torch.native_layer_norm(x, x.shape[-1:], None, None, 1e-8)
        self._kept.append((x, normal, moments))
        return torch.addcmul(shift.unsqueeze(1), normal, scale.unsqueeze(1))

    def backward(
        self, gradient: Float[Tensor, "client token dim"]
    ) -> Float[Tensor, "client token dim"]:
        """Return the gradient of ``x``."""
        x, normal, moments = self._kept.pop()
        self.gradients = (gradient * normal).sum(1), gradient.sum(1)
        scaled = gradient * self.parameters[0].unsqueeze(1)
        wanted = True, False, False
        return aten.native_layer_norm_backward(
            scaled, x, x.shape[-1:], *moments, None, None, wanted
        )[0]


class Linear:
    """A matrix and a bias of each client's own.

    Args:
        weight: its gradient stays with it.
        bias: ``[client, out]``.
    """

    def __init__(self, weight: ClientWeight, bias: Tensor) -> None:
        self.parameters = (bias,)
        self.gradients: tuple[Tensor, ...] = ()
        self._weight = weight
        self._kept: list[Tensor] = []

    def forward(self, x: Float[Tensor, "client token in"]) -> Float[Tensor, "client token out"]:
        """Return ``x @ weight + bias``."""
        self._kept.append(x)
        return self._weight.forward(x, self.parameters[0])

    def backward(
        self,
        gradient: Float[Tensor, "client token out"],
        onto: Float[Tensor, "client token in"] | None = None,
    ) -> Float[Tensor, "client token in"]:
        """Return the gradient of ``x``, added to ``onto`` in place if given."""
        self.gradients = (gradient.sum(1),)
        return self._weight.backward(self._kept.pop(), gradient, onto)


class Attention:
    """Scaled dot-product attention; it has no parameters.

    Args:
        heads: of equal width.
        mask: what is added to the scores, ``[#client, 1, token, token]``.
    """

    def __init__(self, heads: int, mask: Tensor) -> None:
        self._heads, self._mask = heads, mask
        self._kept: list[tuple[list[Tensor], Tensor, list[Tensor]]] = []

    def forward(
        self, *inputs: Float[Tensor, "client token dim"]
    ) -> Float[Tensor, "client token dim"]:
        """Return the mixed values of query, key and value."""
        if inputs[0].device.type != "cpu":
            return self._by_autograd(*inputs)
        heads = [self._split(x) for x in inputs]
        mixed, *moments = aten._scaled_dot_product_flash_attention_for_cpu(
            *heads, attn_mask=self._mask
        )
        self._kept.append((heads, mixed, moments))
        return mixed.transpose(1, 2).flatten(2)

    def backward(self, gradient: Float[Tensor, "client token dim"]) -> Iterator[Tensor]:
        """Return the gradients of query, key and value."""
        inputs, mixed, moments = self._kept.pop()
        if mixed.requires_grad:
            return iter(torch.autograd.grad(mixed, inputs, gradient))
        # What autograd calls on a CPU, without the nested graph that calling autograd here takes.
        found = aten._scaled_dot_product_flash_attention_for_cpu_backward(
            self._split(gradient), *inputs, mixed, *moments, 0.0, False, attn_mask=self._mask
        )
        return (x.transpose(1, 2).flatten(2) for x in found)

    def _by_autograd(self, *inputs: Tensor) -> Tensor:
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_() for x in inputs]
            heads = [self._split(x) for x in leaves]
            mixed = F.scaled_dot_product_attention(*heads, attn_mask=self._mask)
            states = mixed.transpose(1, 2).flatten(2)
        self._kept.append((leaves, states, []))
        return states.detach()

    def _split(self, x: Tensor) -> Float[Tensor, "client head token width"]:
        return x.unflatten(-1, (self._heads, -1)).transpose(1, 2)


class Chain:
    """Layers one after the other.

    Args:
        layers: the first one first.
    """

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = layers
        self.parameters = joined(layer.parameters for layer in layers)
        self.gradients: tuple[Tensor, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        """Return what the last layer makes of it."""
        for layer in self._layers:
            x = layer.forward(x)
        return x

    def backward(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the first layer's input."""
        for layer in reversed(self._layers):
            gradient = layer.backward(gradient)
        self.gradients = joined(layer.gradients for layer in self._layers)
        return gradient


def joined(parts: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Return all parts' tensors in one tuple."""
    return tuple(chain.from_iterable(parts))


def through(layer: Layer, x: Tensor) -> Tensor:
    """Return ``layer.forward(x)`` as one node of autograd's graph.

    Args:
        layer: fresh; it keeps this call's states.
        x: must need a gradient.
    """
    return apply_function(_ByHand, x, layer, *layer.parameters)


class _ByHand(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Layer, *parameters: Tensor) -> Tensor:
        ctx.layer = layer
        return layer.forward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        back = ctx.layer.backward(gradients[0])
        return back, None, *ctx.layer.gradients
