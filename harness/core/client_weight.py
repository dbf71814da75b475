"""A parameter of which each client of a chunk has a copy, its gradient kept as factors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from harness.core.products import (
    RoundedWeight,
    add_rows,
    begins_of,
    rounded_product,
    squared_norms_of_product,
)


class ClientWeight:
    """One matrix or table, a copy a client, read by `linear`, `lookup` and `scores` alone.

    The gradient of ``x @ W`` is the product xᵀg of what went in and what came back. Forming it,
    keeping it and then adding it moves every client's copy through memory three times more than
    the arithmetic needs, which at ten tokens a client costs more than the arithmetic. So the
    backward pass leaves the factors here, and `step` multiplies and adds in one pass. Before the
    first step all copies are equal and there is one, the start.

    Attributes:
        start: what every client begins with, or ``[client, in, out]`` if they differ.
        anchor: a scalar to differentiate by, without which autograd would not come by here.
        products: number format of the products in `linear` and `scores`; None for the weight's.
    """

    def __init__(
        self,
        start: Tensor,
        clients: int,
        anchor: Float[Tensor, ""],
        products: torch.dtype | None = None,
    ) -> None:
        self.start = start
        self.products = products
        self.anchor = anchor
        self.clients = clients
        self._own: Tensor | None = None
        self._products: list[tuple[Tensor, Tensor]] = []
        self._lookups: list[tuple[Tensor, Tensor]] = []
        self._reads = 0
        self._at_once: float | None = None
        self._taken = False

    @property
    def value(self) -> Tensor:
        """The copies ``[client, in, out]``, or the one that all share, ``[in, out]``."""
        return self.start if self._own is None else self._own

    def linear(
        self, x: Float[Tensor, "client token in"], bias: Float[Tensor, "client out"]
    ) -> Float[Tensor, "client token out"]:
        """Return ``x @ value + bias``."""
        return apply_function(_Linear, x, bias, self.anchor, self)

    def forward(
        self, x: Float[Tensor, "client token in"], bias: Float[Tensor, "client out"]
    ) -> Float[Tensor, "client token out"]:
        """Return ``x @ value + bias`` to somebody who calls `backward` by hand."""
        self._reads += 1
        value, wide = self.value, bias.unsqueeze(1)
        if self.products is not None:
            return rounded_product(x, value, self.products).add_(wide)
        if value.dim() == 3:
            return torch.baddbmm(wide, x, value)
        return (x.flatten(0, 1) @ value).view(*x.shape[:2], -1).add_(wide)

    def backward(
        self,
        x: Float[Tensor, "client token in"],
        gradient: Float[Tensor, "client token out"],
        onto: Float[Tensor, "client token in"] | None = None,
    ) -> Float[Tensor, "client token in"]:
        """Return the gradient of ``x``, added to ``onto`` in place if given; keep the weight's."""
        value = self.value.transpose(-1, -2)
        if onto is None:
            back = rounded_product(gradient, value, self.products)
        elif self.products is None and value.dim() == 3:
            back = onto.baddbmm_(gradient, value)
        else:
            back = onto.add_(rounded_product(gradient, value, self.products))
        self._came_back(x, gradient)
        return back

    def lookup(self, index: Int[Tensor, "client token"]) -> Float[Tensor, "client token out"]:
        """Return the rows of each client's table at its indices."""
        self._reads += 1
        return apply_function(_Lookup, self.anchor, index, self)

    def scores(self, x: Float[Tensor, "client token out"]) -> Float[Tensor, "client token in"]:
        """Return each row's product with ``x``: ``x @ valueᵀ``, of a table that differs."""
        self._reads += 1
        return apply_function(_Scores, x, self)

    def squared_norms(self) -> Float[Tensor, " client"]:
        """Return the squared ℓ2 norm of each client's descent since the last step."""
        total = self.start.new_zeros(self.clients)
        if self._products and self._lookups:
            inputs, gradients = _joined(self._products)
            descent = torch.bmm(inputs.transpose(1, 2), gradients)
            self._add_lookups(descent)
            return descent.flatten(1).square().sum(1)
        if self._products:
            total += squared_norms_of_product(*_joined(self._products))
        if self._lookups:
            descent = self.start.new_zeros(self.clients, *self.start.shape[-2:])
            self._add_lookups(descent)
            total += descent.flatten(1).square().sum(1)
        return total

    def scale(self, factor: Float[Tensor, " client"]) -> None:
        """Multiply each client's descent by its factor."""
        # Not in place: a residual connection hands the same gradient to several weights.
        wide = factor.reshape(-1, 1, 1)
        self._products = [(inputs, gradient * wide) for inputs, gradient in self._products]
        self._lookups = [(index, gradient * wide) for index, gradient in self._lookups]

    def step_at_once(self, shrink: float) -> None:
        """Let the next `step` happen during backpropagation, while the copies are in cache.

        That is as soon as the gradient has come back from the only place where the weight was
        read: nothing needs the old copies after that. With several places `step` does it as ever.
        """
        self._reads, self._at_once = 0, shrink

    def step(self, shrink: float) -> None:
        """Multiply the copies by ``shrink``, add the descent, and forget it.

        The descent is what backpropagation left: −η times the gradient, if −η stood at the losses.
        """
        if not self._taken:
            self._move(shrink)
        self._at_once, self._taken = None, False

    def _came_back(self, inputs: Tensor, gradient: Tensor) -> None:
        """Keep the factors of a gradient, or take the step that they are."""
        self._products.append((inputs, gradient))
        if self._at_once is not None and self._reads == 1:
            self._move(self._at_once)
            self._taken = True

    def _move(self, shrink: float) -> None:
        if self._products:
            inputs, descent = _joined(self._products)
            factors = inputs.transpose(1, 2), descent
            if self._own is None:
                # The first step makes the copies: what all share, plus what each has found.
                start = self.start.expand(self.clients, *self.start.shape[-2:])
                self._own = torch.baddbmm(start, *factors, beta=shrink)
            else:
                self._own.baddbmm_(*factors, beta=shrink)
        elif shrink != 1.0:
            self._owned().mul_(shrink)
        if self._lookups:
            self._add_lookups(self._owned())
        self._products, self._lookups = [], []

    def deltas(self) -> Float[Tensor, "client in out"]:
        """Return what the steps have changed; the copies are gone afterwards."""
        return self._owned().sub_(self.start)

    def summed_deltas(self, shrink: float) -> Float[Tensor, "in out"]:
        """Return what the steps have changed, summed over clients, this last one included.

        It moves no client's copy: the sum of all clients' xᵀg is one product. All copies must have
        begun alike.
        """
        if self._own is None:
            total = torch.zeros_like(self.start)
            if shrink != 1.0:
                total += self.start * (self.clients * (shrink - 1))
        else:
            total = self._own.sum(0).mul_(shrink).sub_(self.start, alpha=self.clients)
        if self._products:
            inputs, descent = _joined(self._products)
            total.addmm_(inputs.flatten(0, 1).T, descent.flatten(0, 1))
        for index, rows in self._lookups:
            add_rows(total, index, rows)
        return total

    def _add_lookups(self, tables: Float[Tensor, "client row dim"]) -> None:
        """Add the looked-up rows' descents to ``tables``; rows may repeat."""
        flat = tables.view(-1, tables.shape[-1])
        for index, rows in self._lookups:
            add_rows(flat, index + self._begins, rows)

    @cached_property
    def _begins(self) -> Int[Tensor, "client 1"]:
        """Where each client's rows begin, if all tables lie one below the other."""
        return begins_of(self.clients, self.start)

    def _owned(self) -> Tensor:
        if self._own is None:
            self._own = self.start.expand(self.clients, *self.start.shape[-2:]).clone()
        return self._own


class SharedRows(ClientWeight):
    """Item rows that all clients of a chunk read in one table, before any of them has its own.

    Args:
        rows: of the items that any of them reads.
        place: where among them each client's rows stand.
        anchor: as in `ClientWeight`.
    """

    def __init__(
        self,
        rows: Float[Tensor, "item dim"],
        place: Int[Tensor, "client row"],
        anchor: Float[Tensor, ""],
    ) -> None:
        super().__init__(rows, len(place), anchor)
        self._place = place

    def lookup(self, index: Int[Tensor, "client token"]) -> Float[Tensor, "client token out"]:
        """Return the rows that the clients know by these indices."""
        return super().lookup(self._place.gather(1, index))


Parameter = Tensor | ClientWeight | RoundedWeight
"""A parameter as a loss sees it: plain, with its gradient kept as factors, or with products in
another number format."""

Parameters = Mapping[str, Parameter]
"""Parameters by name."""


def _joined(products: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    if len(products) == 1:
        return products[0]
    inputs, gradients = zip(*products, strict=True)
    return torch.cat(inputs, 1), torch.cat(gradients, 1)


def apply_function(function: type[torch.autograd.Function], *arguments: object) -> Tensor:
    """Return what an autograd function makes of its arguments."""
    result: Any = function.apply(*arguments)  # torch leaves `apply` without a type
    return result


class _Linear(torch.autograd.Function):
    """``x @ value + bias``; the gradient of ``value`` stays with it as factors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, anchor: Tensor, weight: ClientWeight) -> Tensor:
        ctx.weight = weight
        ctx.save_for_backward(x)
        return weight.forward(x, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        back = ctx.weight.backward(ctx.saved_tensors[0], gradient)
        return back, gradient.sum(1), None, None


class _Lookup(torch.autograd.Function):
    """Rows of ``value``; their gradients stay with it."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, index: Tensor, weight: ClientWeight) -> Tensor:
        ctx.weight, ctx.index = weight, index
        if weight.value.dim() == 2:
            return F.embedding(index, weight.value)
        return F.embedding(index + weight._begins, weight.value.flatten(0, 1))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        ctx.weight._lookups.append((ctx.index, gradients[0]))
        return None, None, None


class _Scores(torch.autograd.Function):
    """``x @ valueᵀ``; the gradient of ``value`` stays with it as factors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: ClientWeight) -> Tensor:
        ctx.weight = weight
        ctx.save_for_backward(x)
        return rounded_product(x, weight.value.transpose(-1, -2), weight.products)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        ctx.weight._products.append((gradient, ctx.saved_tensors[0]))
        return rounded_product(gradient, ctx.weight.value, ctx.weight.products), None
