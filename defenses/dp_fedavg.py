"""User-level central DP-FedAvg: clipped client updates, summed, plus Gaussian noise on all weights.

McMahan, Ramage, Talwar and Zhang, "Learning differentially private recurrent language models",
ICLR 2018, arXiv:1710.06963, algorithm 1 with flat clipping, the fixed-denominator estimator f_f =
Σ D_u / (qN) and unit weights; cohorts by Poisson sampling.

Sensitivity: one client more or less changes Σ D_u by one clipped update, so by at most C in ℓ2 over
dense weights and item rows together; the noise on the sum has standard deviation zC on every
coordinate. qN, the catalogue and the shapes are public. The item table gets noise on *every* row,
sent or not: noise on the sent rows alone would leave the set of sent rows in the clear. The mean is
over qN, not over a row's senders, because a row's number of senders is private.

Differs from the paper: the noise is calibrated by Opacus' accountant (Rényi or PRV) instead of the
moments accountant, over all rounds of the training. The server clips again, since malicious clients
skip the client stage; for honest clients that changes nothing. The server may make its step by
momentum or Adam of the noisy means (`defenses.server_optimizer`), which is post-processing and
costs no budget: rows few clients send move little by the mean alone.

Guarantee: (ε, δ) for adding or removing one client with its whole history, against whoever sees the
noisy aggregates or the released model. It is NOT a defence against a curious server, which sees
every client's clipped update before the noise, so inference attacks of the server are expected to
succeed. It bounds, but does not prevent, poisoning by a client (norm at most the clip). δ defaults
to num_clients^−1.1. A round whose cohort is empty must still add its noise for the guarantee to
be exact. Clip, rates and optimiser are chosen beforehand; choosing them by looking at trainings on
the same private data is not accounted for (Papernot and Steinke, arXiv:2110.03620).

``clip_norm: null`` and ``noise_multiplier: 0`` are no privacy: the rule alone, and the rule with
its clip, which a scenario runs beside every private setting to tell their prices apart.

Cost: one pass over the cohort's updates to clip and sum; num_items × dim + dense noise draws a
round; with an optimiser two more copies of the model at the server; nothing more is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal, TypeVar, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from defenses.accounting import (
    LARGEST_EPSILON,
    LARGEST_NOISE,
    LEAST_EPSILON,
    LEAST_NOISE,
    PRV_LIMIT,
    calibrate,
    epsilon_spent,
)
from defenses.budget_doubts import budget_doubts
from defenses.clipping import clip_update
from defenses.server_optimizer import ServerOptimizer, server_step
from harness.core.averaging import RunningSum
from harness.core.defense import Defense, Federation, Memory, PrivacyBudget
from harness.core.errors import RunError, ScenarioError
from harness.core.messages import Aggregate, Message, ModelAggregate, ModelUpdate
from harness.core.params import Paper
from harness.core.registry import DEFENSES
from harness.core.seeds import Seeds

M = TypeVar("M", bound=Message)


class DPFedAvgConfig(ServerOptimizer):
    """Parameters of DP-FedAvg."""

    epsilon: float | None = Field(
        8.0,
        ge=LEAST_EPSILON,
        le=LARGEST_EPSILON,
        description="total privacy budget; null where noise_multiplier is given",
    )
    noise_multiplier: float | None = Field(
        None,
        ge=0,
        le=LARGEST_NOISE,
        description="noise std over clip_norm, instead of epsilon; 0 claims nothing",
    )
    delta: float | None = Field(
        None, gt=0, lt=1, description="total delta; null: num_clients ** -1.1"
    )
    clip_norm: float | None = Field(
        1.0,
        gt=0,
        description="bound C on the l2 norm of a client's update; null: none, claims nothing",
    )
    accountant: Literal["rdp", "prv"] = Field("rdp", description="Opacus accountant")

    @model_validator(mode="after")
    def _one_budget(self) -> DPFedAvgConfig:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError("give exactly one of epsilon and noise_multiplier (the other: null)")
        if self.noise_multiplier and self.noise_multiplier < LEAST_NOISE:
            raise ValueError(
                f"noise_multiplier must be 0, or from {LEAST_NOISE:g} to {LARGEST_NOISE:g}"
            )
        if self.clip_norm is None and self.noise_multiplier != 0:
            raise ValueError("noise is a multiple of clip_norm: null needs noise_multiplier: 0")
        if self.accountant == "prv" and (self.epsilon is None or self.epsilon > PRV_LIMIT):
            raise ValueError(f"accountant: prv needs epsilon of at most {PRV_LIMIT:g}; use rdp")
        return self


@DEFENSES.register("dp_fedavg")
class DPFedAvg(Defense):
    """See the module docstring."""

    paper = Paper("arXiv:1710.06963", "reimplementation")
    reads = (ModelUpdate,)
    strength = "epsilon"
    sampling = "poisson"
    Config = DPFedAvgConfig
    _noise_multiplier: float | None = None

    def setup(self, federation: Federation) -> None:
        """Find the noise multiplier z for the budget."""
        config: DPFedAvgConfig = self.config
        if config.noise_multiplier is not None:
            self._noise_multiplier = config.noise_multiplier
        else:
            assert config.epsilon is not None
            self._noise_multiplier = calibrate(
                config.epsilon,
                self._delta(federation),
                federation.sampling_rate,
                federation.num_rounds,
                config.accountant,
            )

    def doubts(self) -> list[str]:
        """Warn about budgets that mean little anywhere."""
        return budget_doubts("dp_fedavg", self.config.epsilon, self.config.delta)

    def check(self, federation: Federation, malicious_fraction: float) -> list[str]:
        """Warn about a delta that means little in this population."""
        if self._delta(federation) > 1 / federation.num_clients:
            return ["dp_fedavg: delta above 1/num_clients allows giving one client away"]
        return []

    def on_client(self, message: M, federation: Federation, seeds: Seeds) -> M:
        """Clip every client's whole update."""
        if not isinstance(message, ModelUpdate):
            return message
        return cast("M", clip_update(message, self.config.clip_norm))

    def aggregate(self, messages: Iterable[Message], federation: Federation) -> ModelAggregate:
        """Return Σ clipped updates / (qN) over the whole table, without noise yet."""
        total: RunningSum | None = None
        dtype = torch.float32
        for message in messages:
            assert isinstance(message, ModelUpdate)
            if total is None:
                total = RunningSum(federation.num_items, message.rows.shape[-1])
                dtype = message.rows.dtype
            total.add(clip_update(message, self.config.clip_norm))
        assert total is not None
        scale = 1 / federation.cohort_size
        return ModelAggregate(
            dense={name: (value * scale).to(dtype) for name, value in total.dense.items()},
            row_ids=torch.arange(federation.num_items),
            rows=(total.table * scale).to(dtype),
        )

    def on_server(self, aggregate: Aggregate, federation: Federation, seeds: Seeds) -> Aggregate:
        """Add N(0, (zC/(qN))²) to every dense weight and every row of the item table."""
        assert isinstance(aggregate, ModelAggregate)
        z = self.noise_multiplier
        if z == 0:
            return aggregate
        assert len(aggregate.row_ids) == federation.num_items
        std = self._noise_std(federation)
        place = seeds.child("dp_fedavg", federation.round_index)

        def noisy(values: Tensor, purpose: tuple[str, ...]) -> Tensor:
            stream = place.torch(*purpose)
            return values + std * torch.randn(values.shape, generator=stream, dtype=values.dtype)

        return replace(
            aggregate,
            dense={name: noisy(delta, ("dense", name)) for name, delta in aggregate.dense.items()},
            rows=noisy(aggregate.rows, ("rows",)),
        )

    def on_apply(self, aggregate: Aggregate, federation: Federation, memory: Memory) -> Aggregate:
        """Turn the noisy mean into the server's step; reads nothing that is not noisy."""
        assert isinstance(aggregate, ModelAggregate)
        return server_step(aggregate, self.config, self._noise_std(federation), memory)

    def effects(self) -> dict[str, dict[str, Any]]:
        """Return the clip and the noise, as far as they are in use."""
        config: DPFedAvgConfig = self.config
        noise = {"epsilon": None, "noise_multiplier": 0.0, "accountant": "rdp"}
        found: dict[str, dict[str, Any]] = {}
        if config.clip_norm is not None:
            found["clip"] = {"clip_norm": None}
        if config.noise_multiplier != 0:
            found["noise"] = noise
        return found

    def spent(self, federation: Federation) -> PrivacyBudget | None:
        """Recompute ε from the noise multiplier in use."""
        z = self.noise_multiplier
        if z == 0:
            return None
        delta, rounds = self._delta(federation), federation.num_rounds
        accountant: str = self.config.accountant
        return PrivacyBudget(
            epsilon=epsilon_spent(z, delta, federation.sampling_rate, rounds, accountant),
            delta=delta,
            unit="one client with its whole history, added or removed",
            sampling="poisson",
            accountant=f"Opacus {accountant}",
            adversary="whoever sees the noisy aggregates or the released model; not the server, "
            "which sees each clipped update before the noise",
            neighbors="add or remove",
            sees="aggregates",
            noise_multiplier=z,
            rounds=rounds,
        )

    @property
    def noise_multiplier(self) -> float:
        """Noise standard deviation of the sum over the clip norm."""
        if self._noise_multiplier is None:
            raise RunError("dp_fedavg: setup was not called before the first round")
        return self._noise_multiplier

    def _noise_std(self, federation: Federation) -> float:
        """Return the standard deviation of the noise on each coordinate of the mean, zC/(qN)."""
        clip: float | None = self.config.clip_norm
        return 0.0 if clip is None else self.noise_multiplier * clip / federation.cohort_size

    def _delta(self, federation: Federation) -> float:
        if self.config.delta is not None:
            return self.config.delta
        if federation.num_clients < 2:
            raise ScenarioError("dp_fedavg: with a single client, delta must be given")
        return federation.num_clients**-1.1
