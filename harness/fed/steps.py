"""Local steps of a chunk of clients, on whatever device the chunk lies."""

# The fused list operations of torch are public in use, not in its type stubs.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from harness.core.client_weight import ClientWeight, Parameter, SharedRows
from harness.core.item_rows import ReadItems
from harness.core.local import LocalSpec, LocalTask, Trained, TrainedSum
from harness.core.messages import PAD
from harness.core.products import RoundedWeight
from harness.core.unread_rows import UnreadRows
from harness.fed.optimisers import (
    Adam,
    AdamRows,
    clip_per_client,
    clip_weights,
    decay_all,
    shrink_of,
)


@dataclass(frozen=True)
class Chunk(LocalTask):
    """A task, and the number format of its matrix products; None for the parameters' own."""

    products: torch.dtype | None = None

    def to(self, device: str) -> Chunk:
        """Return the chunk on ``device``."""
        if device == "cpu":
            return self
        return replace(
            self,
            dense={name: parameter.to(device) for name, parameter in self.dense.items()},
            table=self.table.to(device),
            row_ids=self.row_ids.to(device),
            loss=self.loss.to(device),
        )

    def rows(self) -> Float[Tensor, "client row dim"]:
        """Return each client's compact item table, zero in padding."""
        rows = F.embedding(self.row_ids.clamp(min=0), self.table)
        rows[self.row_ids == PAD] = 0.0
        return rows

    def rest(self) -> UnreadRows | None:
        """Return the item rows outside the compact tables, if the loss reads them."""
        return _unread(self) if self.loss.every_row else None

    def plain(self, name: str, parameter: Tensor) -> Parameter:
        """Return a parameter whose gradient autograd keeps, as the loss is to see it."""
        if self.products is None or name not in self.loss.factored:
            return parameter
        return RoundedWeight(parameter, self.products)


def _unread(chunk: Chunk) -> UnreadRows:
    spec = chunk.spec
    return UnreadRows(
        chunk.table,
        chunk.row_ids,
        shrink=shrink_of(spec),
        rule=None if spec.optimizer == "sgd" else lambda rows: AdamRows(spec, rows),
        norms=spec.clip_norm > 0,
        products=chunk.products,
    )


Rest = UnreadRows | None
"""The item rows outside the compact tables, if the loss reads them."""

Moved = tuple[dict[str, Tensor], Tensor, Rest]
"""Deltas of the dense parameters, of the compact item tables, and the other rows with theirs."""


def one_shared_step(chunk: Chunk, items: ReadItems) -> TrainedSum:
    """One plain gradient step.

    It moves every client by its own gradient at the *shared* weights, so the sum of the deltas is
    the gradient of the summed losses: no weights and, unless the loss reads every row, no item
    rows per client.
    """
    rest, spec, clients = chunk.rest(), chunk.spec, len(chunk.row_ids)
    anchor = chunk.table.new_zeros((), requires_grad=True)
    shared = {name: p.detach().requires_grad_() for name, p in chunk.dense.items()}
    if rest is None:
        own = SharedRows(chunk.table[items.ids], items.place, anchor)
    else:
        own = ClientWeight(chunk.rows(), clients, anchor, chunk.products)
    seen = {name: chunk.plain(name, parameter) for name, parameter in shared.items()}
    descents = _descents(chunk.loss(0, seen, own, rest), anchor, shared, spec)
    with torch.no_grad():
        decay = clients * (shrink_of(spec) - 1)
        deltas = {n: d + decay * chunk.dense[n] if decay else d for n, d in descents.items()}
        if rest is not None:
            rest.step(shrink_of(spec))
            own.step(shrink_of(spec))
            return sum_up(items, deltas, own.deltas(), rest)
        moved = own.summed_deltas(1.0)
        if decay:
            # Decay is each reader's, not each client's.
            moved += own.start * items.senders.unsqueeze(1) * (shrink_of(spec) - 1)
        return TrainedSum(deltas, items.ids, moved, items.senders)


class Descent:
    """Plain gradient descent of a chunk, with clipping and decoupled decay.

    Args:
        chunk: at the start of the round.
    """

    def __init__(self, chunk: Chunk) -> None:
        dense, rows = chunk.dense, chunk.rows()
        clients, products = len(rows), chunk.products
        self._chunk = chunk
        self._shrink = shrink_of(chunk.spec)
        self._anchor = rows.new_zeros((), requires_grad=True)
        self._factored = {
            name: ClientWeight(parameter, clients, self._anchor, products)
            for name, parameter in dense.items()
            if name in chunk.loss.factored
        }
        self._plain = {
            name: parameter.expand(clients, *parameter.shape).clone().requires_grad_()
            for name, parameter in dense.items()
            if name not in self._factored
        }
        self._rows = ClientWeight(rows, clients, self._anchor, products)
        self._rest = chunk.rest()

    def backpropagate(self, step: int, *, summed: bool = False) -> dict[str, Tensor]:
        """Leave the descents of factored weights and rows with them; return the others'.

        Args:
            step: from 0.
            summed: the descents are for `summed_deltas` and not for `step`.
        """
        rest, spec = self._rest, self._chunk.spec
        if not (summed or spec.clip_norm):
            for weight in self._factored.values():
                weight.step_at_once(self._shrink)
        losses = self._chunk.loss(step, {**self._factored, **self._plain}, self._rows, rest)
        descents = _descents(losses, self._anchor, self._plain, spec)
        if spec.clip_norm:
            weights = [*self._factored.values(), self._rows, *([] if rest is None else [rest])]
            with torch.no_grad():
                clip_weights(weights, descents, spec)
        return descents

    @torch.no_grad()
    def step(self, descents: dict[str, Tensor]) -> None:
        """Take the step that came back."""
        for weight in self._factored.values():
            weight.step(self._shrink)
        self._step_rest(descents)

    @torch.no_grad()
    def deltas(self) -> Moved:
        """Return what all steps have changed, by client."""
        factored = {name: weight.deltas() for name, weight in self._factored.items()}
        return self._in_order({**factored, **self._moved()}), self._rows.deltas(), self._rest

    @torch.no_grad()
    def summed_deltas(self, descents: dict[str, Tensor], items: ReadItems) -> TrainedSum:
        """Take the last step in the sum alone; return what all have changed, summed."""
        total = {n: weight.summed_deltas(self._shrink) for n, weight in self._factored.items()}
        self._step_rest(descents)
        total |= {name: moved.sum(0) for name, moved in self._moved().items()}
        return sum_up(items, self._in_order(total), self._rows.deltas(), self._rest)

    def _step_rest(self, descents: dict[str, Tensor]) -> None:
        """Move all but the factored weights."""
        plain = list(self._plain.values())
        decay_all(plain, self._chunk.spec)
        torch._foreach_add_(plain, list(descents.values()))
        for rows in (self._rows,) if self._rest is None else (self._rows, self._rest):
            rows.step(self._shrink)

    def _moved(self) -> dict[str, Tensor]:
        return {name: p - self._chunk.dense[name] for name, p in self._plain.items()}

    def _in_order(self, deltas: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: deltas[name] for name in self._chunk.dense}


def descend(chunk: Chunk) -> Moved:
    """Take all steps of plain gradient descent."""
    descent = Descent(chunk)
    for step in range(chunk.spec.steps):
        descent.step(descent.backpropagate(step))
    return descent.deltas()


def descend_sum(chunk: Chunk, items: ReadItems) -> TrainedSum:
    """Do as `descend`, for the sum alone."""
    descent = Descent(chunk)
    for step in range(chunk.spec.steps - 1):
        descent.step(descent.backpropagate(step))
    last = descent.backpropagate(chunk.spec.steps - 1, summed=True)
    return descent.summed_deltas(last, items)


def adapt(chunk: Chunk) -> Moved:
    """Take all steps of Adam with clipping and decoupled decay. It needs gradients in full."""
    dense, rows, rest, spec = chunk.dense, chunk.rows(), chunk.rest(), chunk.spec
    start = [*(p.expand(len(rows), *p.shape) for p in dense.values()), rows]
    current = [p.clone().requires_grad_() for p in start]
    update = Adam(spec, current)
    own = current[-1] if chunk.products is None else RoundedWeight(current[-1], chunk.products)
    for step in range(spec.steps):
        seen = {n: chunk.plain(n, p) for n, p in zip(dense, current[:-1], strict=True)}
        losses = chunk.loss(step, seen, own, rest)
        gradients = torch.autograd.grad(losses.sum(), current, materialize_grads=True)
        with torch.no_grad():
            update(current, clip_per_client(list(gradients), spec.clip_norm, rest))
            if rest is not None:
                rest.step(shrink_of(spec))
    deltas = [c.detach() - s for c, s in zip(current, start, strict=True)]
    return dict(zip(dense, deltas[:-1], strict=True)), deltas[-1], rest


def _descents(
    losses: Float[Tensor, " client"], anchor: Tensor, plain: dict[str, Tensor], spec: LocalSpec
) -> dict[str, Tensor]:
    """Return −η times the gradients of ``plain``; those of factored weights arrive there.

    With −η at the losses every gradient comes out as the step to take, and no pass over the
    weights is needed to scale it.
    """
    found = torch.autograd.grad(
        losses,
        [anchor, *plain.values()],
        grad_outputs=torch.full_like(losses, -spec.learning_rate),
        materialize_grads=True,
    )
    return dict(zip(plain, found[1:], strict=True))


def sum_up(items: ReadItems, dense: dict[str, Tensor], moved: Tensor, rest: Rest) -> TrainedSum:
    """Join summed dense deltas with the sums of the item rows' own.

    Args:
        items: of the compact item tables.
        dense: summed already.
        moved: deltas of the compact item tables ``[client, row, dim]``.
        rest: the other rows with theirs.
    """
    if rest is None:
        return TrainedSum(dense, items.ids, items.sum(moved), items.senders)
    ids = torch.arange(len(rest.table), device=moved.device)
    return TrainedSum(dense, ids, rest.summed_deltas(moved), torch.full_like(ids, len(moved)))


@torch.no_grad()
def single(deltas: dict[str, Tensor], moved: Tensor, rest: Rest) -> Trained:
    """Return each client's own deltas, of all rows where the loss has read all."""
    return Trained(deltas, moved if rest is None else rest.deltas(moved))
