"""What crosses the wire: a few kinds of message, each with the sending client as leading axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

PAD = -1
"""Row id that marks unused slots of :attr:`ModelUpdate.row_ids`."""


class Message:
    """Anything a client sends to the server."""

    def __len__(self) -> int:
        """Return the length of the leading axis: clients, or uploaded vectors."""
        return 0

    def bytes_per_client(self) -> float:
        """Return the mean bytes that a client sends."""
        return 0.0


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

    def __len__(self) -> int:
        return len(self.clients)

    def select(self, keep: Bool[Tensor, " client"]) -> ModelUpdate:
        """Return the message of the clients where ``keep`` is true."""
        return ModelUpdate(
            clients=self.clients[keep],
            dense={name: delta[keep] for name, delta in self.dense.items()},
            row_ids=self.row_ids[keep],
            rows=self.rows[keep],
            num_examples=self.num_examples[keep],
        )

    def ordered(self, order: Int[Tensor, " client"]) -> ModelUpdate:
        """Return the message where the client at place ``i`` now stands at ``order[i]``."""
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        return ModelUpdate(
            clients=self.clients[back],
            dense={name: delta[back] for name, delta in self.dense.items()},
            row_ids=self.row_ids[back],
            rows=self.rows[back],
            num_examples=self.num_examples[back],
        )

    def scaled(self, factor: Float[Tensor, " client"]) -> ModelUpdate:
        """Return the message with every client's deltas multiplied by its factor."""

        def scale(delta: Tensor) -> Tensor:
            return delta * factor.to(delta.dtype).reshape(-1, *[1] * (delta.dim() - 1))

        return replace(
            self, dense={n: scale(d) for n, d in self.dense.items()}, rows=scale(self.rows)
        )

    def norms(self) -> Float[Tensor, " client"]:
        """Return each client's ℓ2 norm over all deltas (float64: 1e30 must not overflow)."""
        total = self.rows.double().flatten(1).square().sum(1)
        for delta in self.dense.values():
            total = total + delta.double().flatten(1).square().sum(1)
        return total.sqrt()

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

    def __len__(self) -> int:
        return len(self.clients)

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
        vectors: uploaded vectors; the order inside a domain is its item index.
    """

    domain: Int[Tensor, " upload"]
    vectors: Float[Tensor, "upload dim"]

    def __len__(self) -> int:
        return len(self.domain)

    def bytes_per_client(self) -> float:
        """Mean bytes a domain sends."""
        return (
            self.vectors.numel() * self.vectors.element_size() / max(1, len(self.domain.unique()))
        )


@dataclass(frozen=True)
class Silence(Message):
    """Nothing is sent: the system trains without a federation (an anchor)."""


class Aggregate:
    """What the server makes of a round's messages."""


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
