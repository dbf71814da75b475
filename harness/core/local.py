"""One round's local work, and the engine that a system hands its losses to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

from harness.core.defense import DataPlan
from harness.core.seeds import Seeds


class StepLoss(Protocol):
    """Loss of one local step, for all clients of a chunk at once."""

    def __call__(
        self, step: int, dense: dict[str, Tensor], rows: Float[Tensor, "client row dim"]
    ) -> Float[Tensor, " client"]:
        """Return each client's loss given its own parameters."""
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
    def summable(self) -> bool:
        """Whether clients' deltas add up without weights per client: one plain gradient step."""
        return self.steps == 1 and self.optimizer == "sgd" and self.clip_norm == 0


class LocalTrainer(Protocol):
    """The engine's batched local training, with clients as the leading axis."""

    def train(
        self,
        dense: dict[str, Tensor],
        table: Float[Tensor, "item dim"],
        row_ids: Int[Tensor, "client row"],
        loss: StepLoss,
        spec: LocalSpec,
    ) -> tuple[dict[str, Tensor], Float[Tensor, "client row dim"]]:
        """Return each client's dense deltas and item-row deltas after ``spec.steps`` steps."""
        ...

    def train_summed(
        self,
        dense: dict[str, Tensor],
        table: Float[Tensor, "item dim"],
        row_ids: Int[Tensor, "client row"],
        loss: StepLoss,
        spec: LocalSpec,
    ) -> tuple[dict[str, Tensor], Float[Tensor, "client row dim"]]:
        """Return the clients' dense deltas as sums; only where :attr:`LocalSpec.summable`."""
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
        summed: nobody has to see a single client's dense delta (no attack, no client stage, no
            rule but the system's, no record), so that it may send a `ModelSum`.
    """

    clients: Int[Tensor, " client"]
    round_index: int
    plan: DataPlan
    trainer: LocalTrainer
    seeds: Seeds
    summed: bool = False
