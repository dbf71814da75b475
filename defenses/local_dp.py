"""Local differential privacy: every client clips its whole update and adds the noise itself.

Gaussian mechanism with the exact calibration of Balle and Wang, ICML 2018, arXiv:1805.06530,
theorem 8, on a client's FedAvg update (flat clipping as in arXiv:1710.06963).

Differs from common code (Flower's LocalDpMod): no √(2 ln(1.25/δ))/ε, which holds only for ε < 1;
neighbours are *replaced* updates, so the sensitivity is 2C and not C; releases compose. Noise falls
on every dense weight and on *every* row of the item table, so that neither values nor the set of
sent rows stay in the clear; a client therefore sends the whole table. σ = ``noise_multiplier`` × C
on each coordinate. k releases compose exactly to μ = 2√k / noise_multiplier (Gaussian DP).

How many releases: a client is in each of T rounds with probability q, independently, so its number
of rounds is binomial. k is its 95th percentile (the default: no more than 5 % of clients release
more often, and for them the claim does not hold), ⌈qT⌉ (``expected``, which a third of the clients
or more exceed), or T (``every round``, the worst case that covers everybody). The budget says how
many are covered and, beside it, what holds on average and for everybody.

The server may make its step by momentum or Adam of the mean of the noisy updates
(`defenses.server_optimizer`): post-processing, which costs no budget.

Guarantee: (ε, δ) for one client's updates, replaced by any others, against the server and everyone
else; no amplification by sampling is claimed, and that a client takes part is not hidden. δ
defaults to num_clients^−1.1. ``clip_norm: null`` and ``noise_multiplier: 0`` claim nothing: they
are there to tell the price of clip and noise. Malicious clients skip it. Attack success usually
falls to chance at noise whose formal ε is still enormous.

Cost: num_items × dim + dense noise draws for each client of the cohort; the message holds
cohort × num_items rows; with an optimiser two more copies of the model at the server.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeVar, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from defenses.analytic_gaussian import epsilon_of, mu_of
from defenses.budget_doubts import budget_doubts
from defenses.clipping import clip_update
from defenses.server_optimizer import ServerOptimizer, server_step
from harness.core.defense import Defense, Federation, Memory, PrivacyBudget
from harness.core.errors import RunError, ScenarioError
from harness.core.messages import PAD, Aggregate, Message, ModelAggregate, ModelUpdate
from harness.core.params import Paper
from harness.core.registry import DEFENSES
from harness.core.seeds import Seeds

M = TypeVar("M", bound=Message)

COVERED = 0.95
"""Share of clients whose rounds the default budget covers."""
LEAST_NOISE, LARGEST_NOISE = 1e-9, 1e6
"""Noise multipliers at which the exact curve can be computed; 0 beside them."""
LEAST_EPSILON, LARGEST_EPSILON = 1e-6, 1e12
"""Budgets whose noise can be found."""


class LocalDPConfig(ServerOptimizer):
    """Parameters of local DP."""

    noise_multiplier: float | None = Field(
        0.1,
        ge=0,
        le=LARGEST_NOISE,
        description="noise std per coordinate over clip_norm; null if epsilon is given",
    )
    epsilon: float | None = Field(
        None,
        ge=LEAST_EPSILON,
        le=LARGEST_EPSILON,
        description="total budget over a client's releases, instead of noise_multiplier",
    )
    delta: float | None = Field(
        None, gt=0, lt=1, description="total delta; null: num_clients ** -1.1"
    )
    clip_norm: float | None = Field(
        1.0,
        gt=0,
        description="bound C on the l2 norm of a client's update; null: none, claims nothing",
    )
    releases: Literal["95th percentile", "expected", "every round"] = Field(
        "95th percentile",
        description="rounds of a client that the budget covers: those that 95 % of clients stay "
        "within, the average, or all",
    )

    rows: Literal["whole table", "sent"] = Field(
        "whole table",
        description="item rows that a client sends; those that it trained alone only without noise",
    )

    @model_validator(mode="after")
    def _one_budget(self) -> LocalDPConfig:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError("give exactly one of noise_multiplier and epsilon (the other: null)")
        if self.noise_multiplier and self.noise_multiplier < LEAST_NOISE:
            raise ValueError(
                f"noise_multiplier must be 0, or from {LEAST_NOISE:g} to {LARGEST_NOISE:g}"
            )
        if self.clip_norm is None and self.noise_multiplier != 0:
            raise ValueError("noise is a multiple of clip_norm: null needs noise_multiplier: 0")
        if self.rows == "sent" and self.noise_multiplier != 0:
            raise ValueError("noise on the sent rows alone shows which: give rows: whole table")
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

    def doubts(self) -> list[str]:
        """Warn about budgets that mean little anywhere."""
        return budget_doubts("local_dp", self.config.epsilon, self.config.delta)

    def check(self, federation: Federation, malicious_fraction: float) -> list[str]:
        """Warn about budgets that mean little, and about clients that the claim leaves out."""
        found: list[str] = []
        if self._delta(federation) > 1 / federation.num_clients:
            found.append("local_dp: delta above 1/num_clients allows giving one client away")
        covered = self._covered(federation)
        if covered < COVERED:
            found.append(
                f"local_dp: the budget covers {self._releases(federation)} rounds of a client; "
                f"{1 - covered:.0%} of clients take part more often"
            )
        return found

    def on_client(self, message: M, federation: Federation, seeds: Seeds) -> M:
        """Clip, spread the rows over the whole table, and add noise to every coordinate."""
        if not isinstance(message, ModelUpdate):
            return message
        clipped = clip_update(message, self.config.clip_norm)
        if self.config.rows == "sent":
            return cast("M", clipped)
        whole = whole_table(clipped, federation.num_items)
        std = self._noise_std()
        place = seeds.child("local_dp", federation.round_index)
        for row, client in enumerate(whole.clients.tolist() if std else ()):
            for name, delta in (*sorted(whole.dense.items()), ("item rows", whole.rows)):
                add_noise(delta[row], std, place.torch(client, name))
        return cast("M", whole)

    def on_apply(self, aggregate: Aggregate, federation: Federation, memory: Memory) -> Aggregate:
        """Turn the mean of noisy updates into the server's step; reads nothing that is not noisy.

        The noise of a mean over n clients is the clients' over √n; n is public, and fixed where no
        other defence asks for Poisson cohorts.
        """
        if not isinstance(aggregate, ModelAggregate):
            return aggregate
        std = self._noise_std() / math.sqrt(federation.cohort_size)
        return server_step(aggregate, self.config, std, memory)

    def effects(self) -> dict[str, dict[str, Any]]:
        """Return the clip and the noise, as far as they are in use."""
        config: LocalDPConfig = self.config
        found: dict[str, dict[str, Any]] = {}
        if config.clip_norm is not None:
            found["clip"] = {"clip_norm": None}
        if config.noise_multiplier != 0:
            found["noise"] = {"epsilon": None, "noise_multiplier": 0.0}
        return found

    def spent(self, federation: Federation) -> PrivacyBudget | None:
        """Return the budget of a client's releases; no noise claims nothing."""
        z = self.noise_multiplier
        if z == 0:
            return None
        releases, covered = self._releases(federation), self._covered(federation)
        average = _average(federation)
        return PrivacyBudget(
            epsilon=self._epsilon(federation, releases),
            delta=self._delta(federation),
            unit=f"one client's updates in {releases} of {federation.num_rounds} rounds, replaced",
            sampling="any; no amplification",
            accountant="analytic Gaussian (Balle and Wang 2018), exact composition",
            adversary="the server and everyone else",
            neighbors="replace",
            sees="messages",
            noise_multiplier=z,
            rounds=federation.num_rounds,
            releases=releases,
            note=f"{covered:.1%} of clients are drawn at most so often; at the average of "
            f"{average:g} rounds epsilon is {self._epsilon(federation, average):.4g}, and in every "
            f"round {self._epsilon(federation, federation.num_rounds):.4g}",
        )

    @property
    def noise_multiplier(self) -> float:
        """Noise standard deviation of a coordinate over the clip norm."""
        if self._noise_multiplier is None:
            raise RunError("local_dp: setup was not called before the first round")
        return self._noise_multiplier

    def _noise_std(self) -> float:
        clip: float | None = self.config.clip_norm
        return 0.0 if clip is None else self.noise_multiplier * clip

    def _epsilon(self, federation: Federation, releases: float) -> float:
        mu = 2 * math.sqrt(releases) / self.noise_multiplier
        return epsilon_of(self._delta(federation), mu)

    def _releases(self, federation: Federation) -> int:
        """Return how many of a client's rounds the budget covers."""
        rounds, wanted = federation.num_rounds, self.config.releases
        if wanted == "every round":
            return max(1, rounds)
        if wanted == "expected":
            return max(1, math.ceil(_average(federation) - 1e-9))
        from scipy.stats import binom  # slow: not at every start

        return max(1, int(binom.ppf(COVERED, rounds, federation.sampling_rate)))

    def _covered(self, federation: Federation) -> float:
        """Return the share of clients whose rounds the budget covers."""
        from scipy.stats import binom  # slow: not at every start

        rate = federation.sampling_rate
        return float(binom.cdf(self._releases(federation), federation.num_rounds, rate))

    def _delta(self, federation: Federation) -> float:
        if self.config.delta is not None:
            return self.config.delta
        if federation.num_clients < 2:
            raise ScenarioError("local_dp: with a single client, delta must be given")
        return federation.num_clients**-1.1


def _average(federation: Federation) -> float:
    """Return the mean number of a client's rounds, at least one."""
    return max(1.0, federation.sampling_rate * federation.num_rounds)


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
