"""Item rows that a full softmax moves though no client reads them by index: never stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.core.client_weight import apply_function
from harness.core.messages import PAD
from harness.core.products import rounded_product

TILE = 1 << 18
"""Numbers in a tile of rows and scores: small enough for a processor's cache."""

NARROWEST = 64
"""Items that a tile holds at least, however many clients train at once."""

_LOWEST = -1e30
"""Stands for the logarithm of an empty sum: −∞ less −∞ would not be a number."""


class RowRule(Protocol):
    """An optimiser on one tile of the clients' rows; keeps its moments from step to step."""

    def __call__(
        self, rows: Float[Tensor, "client item dim"], gradient: Float[Tensor, "client item dim"]
    ) -> None:
        """Move ``rows`` in place by one step; ``gradient`` may be used up."""
        ...


@dataclass(frozen=True)
class _Step:
    """What a step has left: all that its move of any row can be computed from.

    Attributes:
        states: hidden states h that were scored.
        weighted: g·h, with g what came back to the logarithm of each position's sum.
        logsums: log Σ exp(h·w) over the client's unread rows w.
        alike: PPᵀ with P the softmax over the unread rows; None where nobody asks for norms.
    """

    states: Float[Tensor, "client token dim"]
    weighted: Float[Tensor, "client token dim"]
    logsums: Float[Tensor, "client token"]
    alike: Float[Tensor, "client token token"] | None


class UnreadRows:
    """Each client's item rows outside its own compact table, as a softmax over all items sees them.

    Under a full softmax every step of a client moves every row w by Σ_t g_t·p_t(w)·h_t. The rows
    of a chunk's clients would be ``[client, catalogue, dim]``, and the softmaxes that they follow
    from, ``[client, token · step, catalogue]``, are hardly smaller. Neither is kept, but h, g and
    the logarithm of the sum: from these, tile after tile of the catalogue, the rows are computed
    again whenever they are read. At step t this costs t further steps' arithmetic, in a tile that
    stays in cache, and memory does not grow with catalogue × client × dim. (Five steps on rows that
    are kept were measured 1.1 to 1.4 times as fast under plain descent, and up to 1.7 times under
    Adam, whose moments make three such tables.) The pass that sums also makes Σ_w p(w)·w, the
    gradient of the states, so that a step is one pass over the tiles.

    Rows that a client reads by index are left out here; its compact table holds them.

    Args:
        table: what every client begins with.
        row_ids: rows of each client's compact table, padded with ``PAD``.
        shrink: what a step of decoupled decay leaves of a weight.
        rule: makes the optimiser of a tile; None for plain descent, where the gradient is the step.
        norms: whether `squared_norms` will be asked for.
        products: number format of the scores and of what is made of them; None for the table's.
            The moves of rows are in the table's in any case.
    """

    def __init__(
        self,
        table: Float[Tensor, "item dim"],
        row_ids: Int[Tensor, "client row"],
        *,
        shrink: float,
        rule: Callable[[Tensor], RowRule] | None = None,
        norms: bool = False,
        products: torch.dtype | None = None,
    ) -> None:
        self.products = products
        self.table, self.row_ids = table, row_ids
        self._shrink, self._rule, self._norms = shrink, rule, norms
        self._steps: list[_Step] = []
        self._pending: _Step | None = None
        self._width = 0
        read = torch.zeros(
            len(row_ids), len(table) + 1, dtype=torch.bool, device=table.device
        )  # the last column takes the padding
        read.scatter_(1, torch.where(row_ids == PAD, len(table), row_ids), True)
        self._read: Bool[Tensor, "client item"] = read[:, :-1]

    def logsumexp(self, states: Float[Tensor, "client token dim"]) -> Float[Tensor, "client token"]:
        """Return log Σ exp(h·w) over each client's unread rows; about −1e30 if it has none."""
        return apply_function(_LogSumExp, states, self)

    def squared_norms(self) -> Float[Tensor, " client"]:
        """Return the squared ℓ2 norm of each client's gradient since the last step.

        ‖Pᵀ(g·h)‖² = Σ (PPᵀ) ∘ ((g·h)(g·h)ᵀ): exact, from two small matrices.
        """
        step = self._pending
        assert step is not None, "nothing came back"
        assert step.alike is not None, "norms were not asked for"
        return (step.alike * torch.bmm(step.weighted, step.weighted.mT)).sum((1, 2))

    def scale(self, factor: Float[Tensor, " client"]) -> None:
        """Multiply each client's gradient by its factor."""
        assert self._pending is not None, "nothing came back"
        weighted = self._pending.weighted * factor.reshape(-1, 1, 1)
        self._pending = replace(self._pending, weighted=weighted)

    def step(self, shrink: float) -> None:
        """Take the gradient that came back as a step, and forget it."""
        assert self._pending is not None, "nothing came back"
        assert shrink == self._shrink
        self._steps.append(self._pending)
        self._pending = None

    def deltas(self, own: Float[Tensor, "client row dim"]) -> Float[Tensor, "client item dim"]:
        """Return what the steps have changed of every row of every client, the large form.

        Args:
            own: what they have changed of the compact tables.
        """
        whole = self.table.new_empty(len(self.row_ids), *self.table.shape)
        for tile in self._tiles():
            torch.sub(self._rows(tile, len(self._steps)), self.table[tile], out=whole[:, tile])
        # Padding writes the client's first row once more.
        unused = self.row_ids == PAD
        ids = torch.where(unused, self.row_ids[:, :1], self.row_ids).unsqueeze(-1)
        rows = torch.where(unused.unsqueeze(-1), own[:, :1], own)
        return whole.scatter_(1, ids.expand_as(rows), rows)

    def summed_deltas(self, own: Float[Tensor, "client row dim"]) -> Float[Tensor, "item dim"]:
        """Return the sum over clients of what the steps have changed of every row.

        Under plain descent the last step of all clients is one matrix product a tile, so that a
        single step needs no rows per client at all.

        Args:
            own: what they have changed of the compact tables.
        """
        total = torch.empty_like(self.table)
        for tile in self._tiles():
            total[tile] = self._summed(tile)
        # Here a row that its client reads has only decayed; in its own table it has done the rest.
        ids = self.row_ids.clamp(min=0)
        decayed = self.table[ids] * (self._shrink ** len(self._steps) - 1)
        moved = (own - decayed).masked_fill_((self.row_ids == PAD).unsqueeze(-1), 0.0)
        return total.index_add_(0, ids.flatten(), moved.flatten(0, 1))

    def _summed(self, tile: slice) -> Float[Tensor, "item dim"]:
        start, count = self.table[tile], len(self._steps)
        if self._rule is not None:
            return (self._rows(tile, count) - start).sum(0)
        last, before = self._steps[-1], self._rows(tile, count - 1)
        probabilities = self._probabilities(last, before, tile)
        total = probabilities.flatten(0, 1).T @ last.weighted.flatten(0, 1)
        if before.dim() == 3:
            total.add_((before - start).sum(0), alpha=self._shrink)
        return total.add_(start, alpha=len(self.row_ids) * (self._shrink - 1))

    def _tiles(self) -> Iterator[slice]:
        """Yield the tiles of the catalogue, of one width during a training."""
        for start in range(0, len(self.table), self._width):
            yield slice(start, min(start + self._width, len(self.table)))

    def _rows(self, tile: slice, steps: int) -> Tensor:
        """Return a tile's rows after some steps: those all share before the first."""
        start = self.table[tile]
        if steps == 0:
            return start
        rows = start.expand(len(self.row_ids), *start.shape).clone()
        rule = None if self._rule is None else self._rule(rows)
        for place, step in enumerate(self._steps[:steps]):
            probabilities = self._probabilities(step, rows if place else start, tile).mT
            if rule is None:
                rows.baddbmm_(probabilities, step.weighted, beta=self._shrink)
            else:
                rule(rows, torch.bmm(probabilities, step.weighted))
        return rows

    def _probabilities(
        self, step: _Step, rows: Tensor, tile: slice
    ) -> Float[Tensor, "client token item"]:
        scores = self._scores(step.states, rows, tile)
        return scores.sub_(step.logsums.unsqueeze(-1)).exp_()

    def _scores(
        self, states: Tensor, rows: Tensor, tile: slice
    ) -> Float[Tensor, "client token item"]:
        """Return h·w, −∞ where the client reads the row by index."""
        read = self._read[:, tile]
        hidden = torch.zeros_like(read, dtype=states.dtype).masked_fill_(read, -torch.inf)
        return self._product(states, rows.mT).add_(hidden.unsqueeze(1))

    def _sweep(
        self, states: Float[Tensor, "client token dim"]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the logarithm of the sum, the mean row under the softmax, and PPᵀ, in one pass.

        Sums are kept relative to the largest score so far (online softmax; Milakov and Gimelshein,
        arXiv:1805.02867).
        """
        clients, tokens, dim = states.shape
        if not self._width:
            self._width = max(NARROWEST, TILE // (clients * (dim + 2 * tokens)))
        top = states.new_full((clients, tokens, 1), _LOWEST)
        total, mixed = torch.zeros_like(top), torch.zeros_like(states)
        alike = states.new_zeros(clients, tokens, tokens) if self._norms else None
        for tile in self._tiles():
            rows = self._rows(tile, len(self._steps))
            scores = self._scores(states, rows, tile)
            higher = torch.maximum(top, scores.amax(-1, keepdim=True))
            weights, fade = scores.sub_(higher).exp_(), (top - higher).exp_()
            total.mul_(fade).add_(weights.sum(-1, keepdim=True))
            mixed.mul_(fade).add_(self._product(weights, rows))
            if alike is not None:
                alike.mul_(fade * fade.mT).baddbmm_(weights, weights.mT)
            top = higher
        logsums = (top + total.log()).clamp_(min=_LOWEST).squeeze(-1)
        # A client that reads every row has an empty sum here: 0/1, not 0/0.
        total.masked_fill_(total == 0, 1.0)
        if alike is not None:
            alike.div_(total).div_(total.mT)
        return logsums, mixed.div_(total), alike

    def _product(self, left: Float[Tensor, "client token in"], right: Tensor) -> Tensor:
        """Return ``left @ right`` for one matrix that all clients share, or one a client."""
        if right.dim() == 3:
            return rounded_product(left, right, self.products)
        return rounded_product(left.flatten(0, 1), right, self.products).unflatten(
            0, left.shape[:2]
        )

    def take(self, states: Tensor, gradient: Tensor, logsums: Tensor, alike: Tensor | None) -> None:
        """Keep what the backward pass brings."""
        weighted = states * gradient.unsqueeze(-1)
        self._pending = _Step(states, weighted, logsums, alike)


class _LogSumExp(torch.autograd.Function):
    """log Σ exp over unread rows; the rows' gradient stays with them as factors."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, rest: UnreadRows) -> Tensor:
        states = states.detach()
        logsums, mixed, alike = rest._sweep(states)
        ctx.rest, ctx.alike = rest, alike
        ctx.save_for_backward(states, mixed, logsums)
        return logsums.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, mixed, logsums = ctx.saved_tensors
        ctx.rest.take(states, gradients[0], logsums, ctx.alike)
        return mixed * gradients[0].unsqueeze(-1), None
