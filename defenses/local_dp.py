"""Local differential privacy: every client clips its whole update and adds the noise itself.

Gaussian mechanism with the exact calibration of Balle and Wang, ICML 2018, arXiv:1805.06530,
theorem 8, on a client's FedAvg update (flat clipping as in arXiv:1710.06963).

Differs from common code (Flower's LocalDpMod): no √(2 ln(1.25/δ))/ε, which holds only for ε < 1;
neighbours are *replaced* updates, so the sensitivity is 2C and not C; releases compose. Noise falls
on every dense weight and on *every* row of the item table, so that neither values nor the set of
sent rows stay in the clear; a client therefore sends the whole table. σ = ``noise_multiplier`` × C
on each coordinate. k releases compose exactly to μ = 2√k / noise_multiplier (Gaussian DP). k is the
expected number of a client's rounds, ⌈q·T⌉ (``expected``), or all T rounds (``every round``), the
worst case that covers every client.

Guarantee: (ε, δ) for one client's updates, replaced by any others, against the server and everyone
else; no amplification by sampling is claimed, and that a client takes part is not hidden. δ
defaults to num_clients^−1.1. Malicious clients skip it. Attack success usually falls to chance at
noise whose formal ε is still enormous.

Cost: num_items × dim + dense noise draws for each client of the cohort; the message holds
cohort × num_items rows.
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from defenses.analytic_gaussian import epsilon_of, mu_of
from defenses.clipping import clip_update
from harness.core.defense import Defense, Federation, PrivacyBudget
from harness.core.errors import RunError, ScenarioError
from harness.core.messages import PAD, Message, ModelUpdate
from harness.core.params import Paper, Params
from harness.core.registry import DEFENSES
from harness.core.seeds import Seeds

M = TypeVar("M", bound=Message)


class LocalDPConfig(Params):
    """Parameters of local DP."""

    noise_multiplier: float | None = Field(
        0.1,
        ge=0,
        description="noise std per coordinate over clip_norm; null if epsilon is given",
    )
    epsilon: float | None = Field(
        None, gt=0, description="total budget over a client's releases, instead of noise_multiplier"
    )
    delta: float | None = Field(
        None, gt=0, lt=1, description="total delta; null: num_clients ** -1.1"
    )
    clip_norm: float = Field(1.0, gt=0, description="bound C on the l2 norm of a client's update")
    releases: Literal["expected", "every round"] = Field(
        "expected", description="rounds of a client that the budget covers"
    )

    @model_validator(mode="after")
    def _one_budget(self) -> LocalDPConfig:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError("give exactly one of noise_multiplier and epsilon (the other: null)")
        return self


@DEFENSES.register("local_dp")
class LocalDP(Defense):
    """See the module docstring."""

    paper = Paper("arXiv:1805.06530", "reimplementation")
    reads = (ModelUpdate,)
    strength = "noise_multiplier"
    Config = LocalDPConfig
    _noise_multiplier: float | None = None

    def setup(self, federation: Federation) -> None:
        """Find the noise multiplier for the budget."""
        config: LocalDPConfig = self.config
        if config.noise_multiplier is not None:
            self._noise_multiplier = config.noise_multiplier
            return
        assert config.epsilon is not None
        mu = mu_of(config.epsilon, self._delta(federation))
        self._noise_multiplier = 2 * math.sqrt(self._releases(federation)) / mu

    def on_client(self, message: M, federation: Federation, seeds: Seeds) -> M:
        """Clip, spread the rows over the whole table, and add noise to every coordinate."""
        if not isinstance(message, ModelUpdate):
            return message
        clipped = clip_update(message, self.config.clip_norm)
        std = self.noise_multiplier * self.config.clip_norm
        if std == 0:
            return cast("M", clipped)
        whole = whole_table(clipped, federation.num_items)
        place = seeds.child("local_dp", federation.round_index)
        for row, client in enumerate(whole.clients.tolist()):
            for name, delta in (*sorted(whole.dense.items()), ("item rows", whole.rows)):
                add_noise(delta[row], std, place.torch(client, name))
        return cast("M", whole)

    def spent(self, federation: Federation) -> PrivacyBudget | None:
        """Return the budget of a client's releases; no noise claims nothing."""
        z = self.noise_multiplier
        if z == 0:
            return None
        delta, releases = self._delta(federation), self._releases(federation)
        return PrivacyBudget(
            epsilon=epsilon_of(delta, 2 * math.sqrt(releases) / z),
            delta=delta,
            unit=f"one client's updates in {releases} of {federation.num_rounds} rounds, replaced",
            sampling="any; no amplification",
            accountant="analytic Gaussian (Balle and Wang 2018), exact composition",
            adversary="the server and everyone else",
            neighbors="replace",
            sees="messages",
            noise_multiplier=z,
            rounds=federation.num_rounds,
            releases=releases,
        )

    @property
    def noise_multiplier(self) -> float:
        """Noise standard deviation of a coordinate over the clip norm."""
        if self._noise_multiplier is None:
            raise RunError("local_dp: setup was not called before the first round")
        return self._noise_multiplier

    def _releases(self, federation: Federation) -> int:
        if self.config.releases == "every round":
            return federation.num_rounds
        return max(1, math.ceil(federation.sampling_rate * federation.num_rounds - 1e-9))

    def _delta(self, federation: Federation) -> float:
        if self.config.delta is not None:
            return self.config.delta
        if federation.num_clients < 2:
            raise ScenarioError("local_dp: with a single client, delta must be given")
        return federation.num_clients**-1.1


def add_noise(values: Tensor, std: float, stream: torch.Generator) -> None:
    """Add N(0, std²) to a tensor that the caller owns, in place."""
    values.add_(torch.randn(values.shape, generator=stream, dtype=values.dtype), alpha=std)


def whole_table(update: ModelUpdate, num_items: int) -> ModelUpdate:
    """Return a copy in which every client sends every item's row, zero where it sent none."""
    client, slot = (update.row_ids != PAD).nonzero(as_tuple=True)
    rows = update.rows.new_zeros(len(update), num_items, update.rows.shape[-1])
    rows[client, update.row_ids[client, slot]] = update.rows[client, slot]
    return ModelUpdate(
        clients=update.clients,
        dense={name: delta.clone() for name, delta in update.dense.items()},
        row_ids=torch.arange(num_items).repeat(len(update), 1),
        rows=rows,
        num_examples=update.num_examples,
    )
