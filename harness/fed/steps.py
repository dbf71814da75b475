"""Local steps of a chunk of clients, on whatever device the chunk lies."""

# The fused list operations of torch are public in use, not in its type stubs.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.core.client_weight import ClientWeight, Parameter, RoundedWeight
from harness.core.local import LocalSpec, StepLoss, Trained
from harness.core.messages import PAD
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
class Chunk:
    """What the clients of a chunk train on; see `LocalTrainer.train`."""

    dense: dict[str, Tensor]
    table: Float[Tensor, "item dim"]
    row_ids: Int[Tensor, "client row"]
    loss: StepLoss
    spec: LocalSpec
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
        return self.table[self.row_ids.clamp(min=0)] * (self.row_ids != PAD).unsqueeze(-1)

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


def one_shared_step(chunk: Chunk) -> Trained:
    """One plain gradient step, the dense deltas summed.

    It moves every client by its own gradient at the *shared* weights, so the sum of the deltas is
    the gradient of the summed losses: no weights per client.
    """
    rows, rest, spec = chunk.rows(), chunk.rest(), chunk.spec
    anchor = rows.new_zeros((), requires_grad=True)
    shared = {name: p.detach().clone().requires_grad_() for name, p in chunk.dense.items()}
    own = ClientWeight(rows, len(rows), anchor, chunk.products)
    seen = {name: chunk.plain(name, parameter) for name, parameter in shared.items()}
    descents = _descents(chunk.loss(0, seen, own, rest), anchor, shared, spec)
    decay = len(rows) * spec.learning_rate * spec.weight_decay
    for weight in (own,) if rest is None else (own, rest):
        weight.step(shrink_of(spec))
    deltas = {name: d - decay * chunk.dense[name] if decay else d for name, d in descents.items()}
    return sum_up(deltas, own.deltas(), rest)


Moved = tuple[dict[str, Tensor], Tensor, UnreadRows | None]
"""Deltas of the dense parameters, of the compact item tables, and the other rows with theirs."""


def descend(chunk: Chunk) -> Moved:
    """Plain gradient descent with clipping and decoupled decay."""
    dense, rows, rest, spec = chunk.dense, chunk.rows(), chunk.rest(), chunk.spec
    anchor, clients = rows.new_zeros((), requires_grad=True), len(rows)
    factored = {
        name: ClientWeight(parameter, clients, anchor, chunk.products)
        for name, parameter in dense.items()
        if name in chunk.loss.factored
    }
    own = ClientWeight(rows, clients, anchor, chunk.products)
    plain = {
        name: parameter.expand(clients, *parameter.shape).clone().requires_grad_()
        for name, parameter in dense.items()
        if name not in factored
    }
    weights = [*factored.values(), own, *([] if rest is None else [rest])]
    for step in range(spec.steps):
        losses = chunk.loss(step, {**factored, **plain}, own, rest)
        descents = _descents(losses, anchor, plain, spec)
        with torch.no_grad():
            if spec.clip_norm:
                clip_weights(weights, descents, spec)
            for weight in weights:
                weight.step(shrink_of(spec))
            decay_all(list(plain.values()), spec)
            torch._foreach_add_(list(plain.values()), list(descents.values()))
    with torch.no_grad():
        deltas = {name: weight.deltas() for name, weight in factored.items()}
        deltas |= {name: parameter - dense[name] for name, parameter in plain.items()}
    return {name: deltas[name] for name in dense}, own.deltas(), rest


def adapt(chunk: Chunk) -> Moved:
    """Adam with clipping and decoupled decay. It needs gradients in full."""
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


@torch.no_grad()
def sum_up(
    dense: dict[str, Tensor], moved: Float[Tensor, "client row dim"], rest: UnreadRows | None
) -> Trained:
    """Return summed dense deltas with the rows' own, or with the whole table's sum."""
    if rest is None:
        return Trained(dense, moved, summed=True)
    return Trained(dense, moved[:, :0], summed=True, table=rest.summed_deltas(moved))


@torch.no_grad()
def single(
    deltas: dict[str, Tensor], moved: Float[Tensor, "client row dim"], rest: UnreadRows | None
) -> Trained:
    """Return each client's own deltas, of all rows where the loss has read all."""
    return Trained(deltas, moved if rest is None else rest.deltas(moved), summed=False)
