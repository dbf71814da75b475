"""One round's local work, and the engine that a system hands its losses to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

from harness.core.client_weight import Parameter, Parameters
from harness.core.defense import DataPlan
from harness.core.seeds import Seeds
from harness.core.unread_rows import UnreadRows


class StepLoss(Protocol):
    """Loss of one local step, for all clients of a chunk at once."""

    @property
    def factored(self) -> frozenset[str]:
        """Dense parameters that the loss reads by `linear` and `lookup` alone, as it does rows."""
        ...

    @property
    def every_row(self) -> bool:
        """Whether the loss reads every item row of the table, as a full softmax does."""
        ...

    def to(self, device: str) -> StepLoss:
        """Return the same loss with all it reads on ``device``."""
        ...

    def __call__(
        self, step: int, dense: Parameters, rows: Parameter, rest: UnreadRows | None = None
    ) -> Float[Tensor, " client"]:
        """Return each client's loss given its own parameters.

        Args:
            step: from 0.
            dense: parameters with a leading client axis, or shared ones in :attr:`Work.summed`
                training of one plain step.
            rows: each client's item rows ``[client, row, dim]``.
            rest: all other item rows, if the loss reads every row.
        """
        ...


@dataclass(frozen=True)
class LocalSpec:
    """How a client trains.

    Attributes:
        steps: optimiser steps per round.
        optimizer: ``"adam"`` or ``"sgd"``.
        learning_rate: of the local optimiser.
        weight_decay: decoupled decay of the parameters the client touches.
        clip_norm: bound on the ℓ2 norm of each step's gradient; 0 means none.
    """

    steps: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    clip_norm: float

    @property
    def one_plain_step(self) -> bool:
        """Whether the sum of the deltas is the gradient of the summed losses, at shared weights."""
        return self.steps == 1 and self.optimizer == "sgd" and self.clip_norm == 0


@dataclass(frozen=True)
class Trained:
    """What each client of a chunk has changed.

    Attributes:
        dense: parameter name to deltas ``[client, *shape]``.
        rows: deltas of each client's item rows; of all items, in their order, where the loss reads
            every row.
    """

    dense: dict[str, Tensor]
    rows: Float[Tensor, "client row dim"]


@dataclass(frozen=True)
class TrainedSum:
    """What the clients of a chunk have changed together.

    Attributes:
        dense: parameter name to the sum of the deltas.
        item_ids: items whose rows some client reads, each once; all where the loss reads them.
        rows: sums of the deltas of those rows.
        senders: how many clients read each of them.
    """

    dense: dict[str, Tensor]
    item_ids: Int[Tensor, " item"]
    rows: Float[Tensor, "item dim"]
    senders: Int[Tensor, " item"]


@dataclass(frozen=True)
class LocalTask:
    """What a chunk of clients trains.

    Attributes:
        dense: global dense parameters.
        table: global item table.
        row_ids: item rows each client needs, padded with ``PAD``.
        loss: the local objective, one value a client.
        spec: steps, optimiser, clipping.
    """

    dense: dict[str, Tensor]
    table: Float[Tensor, "item dim"]
    row_ids: Int[Tensor, "client row"]
    loss: StepLoss
    spec: LocalSpec


class LocalTrainer(Protocol):
    """The engine's batched local training, with clients as the leading axis."""

    def train(self, task: LocalTask) -> Trained:
        """Return each client's deltas after all steps."""
        ...

    def train_sum(self, task: LocalTask) -> TrainedSum | None:
        """Return the sum of what `train` returns, for less.

        None where it is broken (not finite, or larger than the guard takes from one client): then
        each client's own update has to be seen, for the guard to find who it was.
        """
        ...


@dataclass(frozen=True)
class Work:
    """One round's local work.

    Attributes:
        clients: the cohort.
        round_index: round number, from 0.
        plan: what a defence changed about the data.
        trainer: the engine.
        seeds: streams of this round.
        summed: nobody has to see a single client's delta (no attack, no client stage, no rule but
            the system's, no record), so that it may send a `ModelSum`.
        memory_bytes: what local training may take; None for no bound. A system that would take
            more trains fewer clients at once, which changes results in the last bits only, and
            says so.
        progress: called with a line of text for the person at the terminal.
    """

    clients: Int[Tensor, " client"]
    round_index: int
    plan: DataPlan
    trainer: LocalTrainer
    seeds: Seeds
    summed: bool = False
    memory_bytes: float | None = None
    progress: Callable[[str], None] = lambda text: None
