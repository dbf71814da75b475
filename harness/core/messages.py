"""What crosses the wire: a few kinds of message, each with the sending client as leading axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.core.wire import Aggregate as Aggregate
from harness.core.wire import Form as Form
from harness.core.wire import Message as Message

PAD = -1
"""Row id that marks unused slots of :attr:`ModelUpdate.row_ids`."""

MAX_EXAMPLES = 1_000_000
"""Largest number of training positions that a single user can have."""


@dataclass(frozen=True)
class ModelUpdate(Message):
    """Weight deltas ``θ_u − θ`` of the cohort's clients (FedAvg).

    Item rows travel sparsely: a client sends the rows its training changed, never the table.

    Attributes:
        clients: client ids.
        dense: parameter name to deltas ``[client, *shape]``, the item table left out.
        row_ids: item ids of the rows sent, padded with :data:`PAD`; each id at most once a client.
        rows: deltas of those rows; padding rows are zero.
        num_examples: training positions each client says it used (untrusted).
    """

    clients: Int[Tensor, " client"]
    dense: dict[str, Float[Tensor, "client *shape"]]
    row_ids: Int[Tensor, "client row"]
    rows: Float[Tensor, "client row dim"]
    num_examples: Int[Tensor, " client"]
    ragged: ClassVar[Mapping[str, float]] = {"row_ids": PAD, "rows": 0.0}

    @classmethod
    def of_nobody(
        cls, dense: Mapping[str, Tensor], table: Float[Tensor, "item dim"]
    ) -> ModelUpdate:
        """Return the message of no client about this model."""
        none = torch.zeros(0, dtype=torch.int64)
        deltas = {
            name: parameter.new_zeros(0, *parameter.shape) for name, parameter in dense.items()
        }
        return cls(none, deltas, none.reshape(0, 0), table.new_zeros(0, 0, table.shape[1]), none)

    def scaled(self, factor: Float[Tensor, " client"]) -> ModelUpdate:
        """Return the message with every client's deltas multiplied by its factor."""

        def scale(delta: Tensor) -> Tensor:
            return delta * factor.to(delta.dtype).reshape(-1, *[1] * (delta.dim() - 1))

        return replace(
            self, dense={n: scale(d) for n, d in self.dense.items()}, rows=scale(self.rows)
        )

    def values(self) -> list[Tensor]:
        """Return all deltas."""
        return [self.rows, *self.dense.values()]

    def misfit(self, form: Form | None) -> str:
        """Return why this is no message of the announced form: rows and ids must match too."""
        if said := super().misfit(form):
            return said
        if self.row_ids.dtype != torch.int64 or self.row_ids.dim() != 2 or self.rows.dim() != 3:
            return "row_ids and rows are no ids and rows"
        if self.row_ids.shape[1] != self.rows.shape[1]:
            return f"row_ids has {self.row_ids.shape[1]} slots, rows has {self.rows.shape[1]}"
        if self.num_examples.dim() != 1 or self.num_examples.is_floating_point():
            return "num_examples is no whole number for each client"
        return ""

    def faults(self, form: Form | None) -> list[tuple[str, Bool[Tensor, " client"]]]:
        """Return clients whose ids or counts are impossible."""
        ordered = self.row_ids.sort(1).values
        twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PAD)
        beyond = torch.zeros(len(self), dtype=torch.bool)
        if ordered.numel():
            top = None if form is None else form.below.get("row_ids")
            beyond = ordered[:, 0] < PAD
            beyond = beyond if top is None else beyond | (ordered[:, -1] >= top)
        return [
            ("row_ids out of range", beyond),
            ("row repeated", twice.any(1)),
            ("no examples", self.num_examples <= 0),
            ("too many examples", self.num_examples > MAX_EXAMPLES),
        ]

    def bytes_per_client(self) -> float:
        """Mean bytes a client sends: its dense deltas, its rows, and an 8-byte id a row."""
        dense = (
            sum(d[0].numel() * d.element_size() for d in self.dense.values()) if len(self) else 0
        )
        rows = (self.row_ids != PAD).sum(1).double().mean().item() if len(self) else 0.0
        return dense + rows * (self.rows.shape[-1] * self.rows.element_size() + 8)


@dataclass(frozen=True)
class ModelSum(Message):
    """Weight deltas of some clients, summed already.

    What remains of a :class:`ModelUpdate` where nobody has to see a single client's delta: after
    one plain gradient step it costs no weights per client, and it does not grow with the clients.

    Attributes:
        clients: client ids.
        dense: parameter name to the clients' summed delta.
        item_ids: items whose rows were sent, each once.
        rows: summed deltas of those rows.
        senders: how many of the clients sent each row.
        num_examples: as in :class:`ModelUpdate`.
    """

    clients: Int[Tensor, " client"]
    dense: dict[str, Float[Tensor, "*shape"]]
    item_ids: Int[Tensor, " row"]
    rows: Float[Tensor, "row dim"]
    senders: Int[Tensor, " row"]
    num_examples: Int[Tensor, " client"]
    sums: ClassVar[type[Message] | None] = ModelUpdate

    def values(self) -> list[Tensor]:
        """Return all sums."""
        return [*self.dense.values(), self.rows]

    def misfit(self, form: Form | None) -> str:
        """Return why this is no sum of messages of the announced form."""
        if any(not isinstance(part, Tensor) or part.is_meta for _, part in self.contents()):
            return "something in the sum is no tensor"
        ids, rows = self.item_ids, self.rows
        if (
            ids.dtype != torch.int64
            or ids.dim() != 1
            or not len(ids) == len(rows) == len(self.senders)
        ):
            return "item_ids, rows and senders do not match"
        if self.clients.dtype != torch.int64 or self.clients.shape != self.num_examples.shape:
            return "clients and num_examples do not match"
        if len(ids.unique()) != len(ids) or (len(ids) and int(ids.min()) < 0):
            return "item_ids repeat an item or are negative"
        return "" if form is None else _summed_misfit(self.dense, self.item_ids, self.rows, form)

    def bytes_per_client(self) -> float:
        """Mean bytes a client would send in the open."""
        dense = sum(d.numel() * d.element_size() for d in self.dense.values())
        rows = self.senders.sum().item() / len(self) if len(self) else 0.0
        return dense + rows * (self.rows.shape[-1] * self.rows.element_size() + 8)


@dataclass(frozen=True)
class EmbeddingUpload(Message):
    """One text vector for each item of each domain (SF-UBM); a domain is a client.

    Attributes:
        domain: client (domain) that sent each vector, sorted.
        vectors: uploaded vectors; the order inside a domain is the domain's secret.
    """

    domain: Int[Tensor, " upload"]
    vectors: Float[Tensor, "upload dim"]
    many_rows: ClassVar[bool] = True

    @property
    def sent_by(self) -> Int[Tensor, " upload"]:
        """Client (domain) of each vector."""
        return self.domain

    def bytes_per_client(self) -> float:
        """Mean bytes a domain sends."""
        return self.vectors.nbytes / max(1, len(self.domain.unique()))

    def misfit(self, form: Form | None) -> str:
        """Return why this is no upload of the announced form: domains must come in order."""
        if said := super().misfit(form):
            return said
        return "domain is not sorted" if bool((self.domain.diff() < 0).any()) else ""


@dataclass(frozen=True)
class Silence(Message):
    """Nothing is sent: the system trains without a federation (an anchor)."""

    @property
    def sent_by(self) -> Int[Tensor, " row"]:
        """Nobody."""
        return torch.zeros(0, dtype=torch.int64)


@dataclass(frozen=True)
class ModelAggregate(Aggregate):
    """A change of the global model.

    Attributes:
        dense: parameter name to delta.
        row_ids: items whose row changes, each once.
        rows: deltas of those rows.
    """

    dense: dict[str, Float[Tensor, "*shape"]]
    row_ids: Int[Tensor, " row"]
    rows: Float[Tensor, "row dim"]

    def misfit(self, form: Form | None) -> str:
        """Return why this is no change of the model that the form is about."""
        if said := super().misfit(form):
            return said
        if self.row_ids.dim() != 1 or len(self.row_ids) != len(self.rows):
            return "row_ids and rows do not match"
        if len(self.row_ids.unique()) != len(self.row_ids) or bool((self.row_ids < 0).any()):
            return "row_ids repeat an item or are negative"
        return "" if form is None else _summed_misfit(self.dense, self.row_ids, self.rows, form)


@dataclass(frozen=True)
class CentroidReturn(Aggregate):
    """The server's cluster centre for every uploaded vector (SF-UBM, equation 7 on).

    Attributes:
        domain: client that each row is returned to.
        vectors: cluster centre of the item's cluster.
        assignment: cluster of each upload (server side only).
    """

    domain: Int[Tensor, " upload"]
    vectors: Float[Tensor, "upload dim"]
    assignment: Int[Tensor, " upload"]


@dataclass(frozen=True)
class RowGroups:
    """Rows of a :class:`ModelUpdate` gathered by item.

    Attributes:
        item_ids: items with equal numbers of senders.
        members: their deltas, one for each sending client.
        senders: position in the cohort of each delta's client.
    """

    item_ids: Int[Tensor, " item"]
    members: Float[Tensor, "item sender dim"]
    senders: Int[Tensor, "item sender"]


def _summed_misfit(
    dense: Mapping[str, Tensor],
    item_ids: Int[Tensor, " row"],
    rows: Float[Tensor, "row dim"],
    form: Form,
) -> str:
    """Return in what deltas without a client axis differ from the announced updates."""
    announced = {name for name in form.shapes if name.startswith("dense.")}
    if odd := {f"dense.{name}" for name in dense} ^ announced:
        return f"{min(odd)} is missing or was not announced"
    for name, delta in dense.items():
        if said := form.difference(f"dense.{name}", delta.dtype, tuple(delta.shape)):
            return said
    if said := form.difference("rows", rows.dtype, (0, *rows.shape[1:])):
        return said
    top = form.below.get("row_ids")
    return "item ids out of range" if top is not None and bool((item_ids >= top).any()) else ""


def largest(dense: Mapping[str, Tensor], rows: Float[Tensor, "row dim"]) -> float:
    """Return the largest absolute value of a sum of updates; NaN where there is one."""
    # Many small tensors are faster joined than one by one.
    joined = torch.cat([delta.flatten() for delta in dense.values()]) if dense else rows
    ends = [end for tensor in (joined, rows) if tensor.numel() for end in torch.aminmax(tensor)]
    return torch.stack(ends).abs().max().item() if ends else 0.0


def rows_by_item(update: ModelUpdate) -> list[RowGroups]:
    """Gather the sent rows by item, one group for each number of senders.

    Robust rules work on a fixed number of values, so items that the same number of clients sent
    are stacked together.
    """
    client, slot = (update.row_ids != PAD).nonzero(as_tuple=True)
    items = update.row_ids[client, slot]
    order = torch.argsort(items, stable=True)
    client, slot, items = client[order], slot[order], items[order]
    unique, counts = torch.unique_consecutive(items, return_counts=True)
    starts = counts.cumsum(0) - counts
    groups: list[RowGroups] = []
    for count in counts.unique().tolist():
        chosen = counts == count
        index = starts[chosen].unsqueeze(1) + torch.arange(count)
        groups.append(
            RowGroups(unique[chosen], update.rows[client[index], slot[index]], client[index])
        )
    return groups
