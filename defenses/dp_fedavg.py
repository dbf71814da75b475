"""User-level central DP-FedAvg: clipped client updates, summed, plus Gaussian noise on all weights.

McMahan, Ramage, Talwar and Zhang, "Learning differentially private recurrent language models",
ICLR 2018, arXiv:1710.06963, algorithm 1 with flat clipping, the fixed-denominator estimator f_f =
Σ D_u / (qN) and unit weights; cohorts by Poisson sampling.

Differs from the paper: the noise is calibrated by Opacus' accountant (Rényi or PRV) instead of the
moments accountant, over all rounds of the training. The server clips again, since malicious clients
skip the client stage; for honest clients that changes nothing. ``server_learning_rate`` multiplies
the noisy mean (post-processing). The item table gets noise on *every* row, sent or not: noise on
the sent rows alone would leave the set of sent rows in the clear. The mean is over qN, not over a
row's senders, because a row's number of senders is private; rows few clients send move little.

Guarantee: (ε, δ) for adding or removing one client with its whole history, against whoever sees the
noisy aggregates or the released model. It is NOT a defence against a curious server, which sees
every client's clipped update before the noise, so inference attacks of the server are expected to
succeed. It bounds, but does not prevent, poisoning by a client (norm at most the clip). δ defaults
to num_clients^−1.1. A round whose cohort is empty must still add its noise for the guarantee to
be exact.

Cost: one pass over the cohort's updates to clip and sum; num_items × dim + dense noise draws a
round; nothing more is sent.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal, TypeVar, cast

import torch
from opacus.accountants import create_accountant
from opacus.accountants.utils import get_noise_multiplier
from pydantic import Field, model_validator
from torch import Tensor

from defenses.clipping import clip_update
from harness.core.averaging import RunningSum
from harness.core.defense import Defense, Federation, PrivacyBudget
from harness.core.errors import RunError, ScenarioError
from harness.core.messages import Aggregate, Message, ModelAggregate, ModelUpdate
from harness.core.params import Paper, Params
from harness.core.registry import DEFENSES
from harness.core.seeds import Seeds

M = TypeVar("M", bound=Message)

TOLERANCE = 1e-3
"""The accountant's ε is at most this share below the target."""
PRV_LIMIT = 50.0
"""Largest ε given to the PRV accountant: its grid, and so its memory, grows with ε."""


class DPFedAvgConfig(Params):
    """Parameters of DP-FedAvg."""

    epsilon: float | None = Field(
        8.0, gt=0, description="total privacy budget; null where noise_multiplier is given"
    )
    noise_multiplier: float | None = Field(
        None, ge=0, description="noise std over clip_norm, instead of epsilon; 0 claims nothing"
    )
    delta: float | None = Field(
        None, gt=0, lt=1, description="total delta; null: num_clients ** -1.1"
    )
    clip_norm: float = Field(1.0, gt=0, description="bound C on the l2 norm of a client's update")
    accountant: Literal["rdp", "prv"] = Field("rdp", description="Opacus accountant")
    server_learning_rate: float = Field(1.0, gt=0, description="factor on the noisy mean")

    @model_validator(mode="after")
    def _one_budget(self) -> DPFedAvgConfig:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError("give exactly one of epsilon and noise_multiplier (the other: null)")
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

    def check(self, federation: Federation, malicious_fraction: float) -> list[str]:
        """Warn about budgets that mean little."""
        found: list[str] = []
        if self._delta(federation) > 1 / federation.num_clients:
            found.append("dp_fedavg: delta above 1/num_clients allows giving one client away")
        if self.config.epsilon is not None and self.config.epsilon > 10:
            found.append(f"dp_fedavg: epsilon {self.config.epsilon:g} is hardly a guarantee")
        return found

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
        scale = self.config.server_learning_rate / federation.cohort_size
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
        std = z * self.config.clip_norm * self.config.server_learning_rate / federation.cohort_size
        place = seeds.child("dp_fedavg", federation.round_index)

        def noisy(values: Tensor, purpose: tuple[str, ...]) -> Tensor:
            stream = place.torch(*purpose)
            return values + std * torch.randn(values.shape, generator=stream, dtype=values.dtype)

        return replace(
            aggregate,
            dense={name: noisy(delta, ("dense", name)) for name, delta in aggregate.dense.items()},
            rows=noisy(aggregate.rows, ("rows",)),
        )

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

    def _delta(self, federation: Federation) -> float:
        if self.config.delta is not None:
            return self.config.delta
        if federation.num_clients < 2:
            raise ScenarioError("dp_fedavg: with a single client, delta must be given")
        return federation.num_clients**-1.1


# Both searches cost seconds and depend on their arguments alone, so their answers are kept: the
# cells of one scenario ask for the same few budgets again and again.


@lru_cache(maxsize=256)
def calibrate(epsilon: float, delta: float, rate: float, steps: int, accountant: str) -> float:
    """Return the smallest noise multiplier (to TOLERANCE in ε) that meets (ε, δ).

    Args:
        epsilon: budget over all rounds.
        delta: budget over all rounds.
        rate: probability that a client is in a round's cohort.
        steps: rounds.
        accountant: ``rdp`` or ``prv``.

    Raises:
        ScenarioError: no noise meets the budget.
    """
    with warnings.catch_warnings():
        # The search passes through noise levels whose best Rényi order is the end of the grid.
        warnings.filterwarnings("ignore", message="Optimal order")
        try:
            return get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=rate,
                steps=steps,
                accountant=accountant,
                epsilon_tolerance=TOLERANCE * epsilon,
                **_orders(accountant),
            )
        except ValueError as error:
            raise ScenarioError(f"dp_fedavg: epsilon {epsilon:g} cannot be met: {error}") from error


@lru_cache(maxsize=256)
def epsilon_spent(z: float, delta: float, rate: float, steps: int, accountant: str) -> float:
    """Return ε of all rounds at noise multiplier ``z``; arguments as for :func:`calibrate`."""
    ledger = create_accountant(accountant)
    ledger.history = [(z, rate, steps)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order")
        return float(ledger.get_epsilon(delta=delta, **_orders(accountant)))


def _orders(accountant: str) -> dict[str, Any]:
    """Return Rényi orders: Opacus' own, and ones that very large and very small budgets need."""
    if accountant != "rdp":
        return {}
    orders = [1 + x / 10 for x in range(1, 100)] + list(range(12, 64))
    return {"alphas": [1.01, 1.02, 1.05, *orders, 80, 128, 256, 512]}
