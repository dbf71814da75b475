"""A-hum and A-ra: malicious clients promote items by fitting their rows to approximated users.

Rong, He and Chen, "Poisoning deep learning based recommender model in federated learning
scenarios", IJCAI 2022, arXiv:2204.13594, sections 4.2 (random approximation, A-ra) and 4.3 (hard
user mining, A-hum).

Differs from the paper: (1) its victim is NCF with a private user vector; here a user is the last
hidden state h of a sequential model and score(u, i) = h · E_i, so only the target's row is
crafted, not shared layers [ours]. (2) Users start from N(mean, covariance) of the states of the
malicious clients' own histories (``start: states`` [ours]), or from N(0, 0.01 I) as in the paper:
0.01 is the variance, the standard deviation is 0.1. (3) Mining lowers mean softplus(h · E_t)
(BCE towards 0) by gradient descent for ``mining_steps`` (30); (4) the row descends mean
softplus(−h · E_t) (BCE towards 1) for ``steps`` steps instead of one, since a client may send any
delta. (5) The delta is multiplied by ``boost`` and then shortened until the row the server would
hold after this upload alone is at most ``max_row_norm_ratio`` times the longest row of the table.
Several targets are crafted independently.

Threat model: malicious clients receive the global model and hold their own data; they read nothing
of other clients, and all send one and the same crafted row. The rest of their update is their own
honest one, or nothing (``rest``).

Cost: one forward pass over at most ``max_histories`` histories a round; (mining_steps + steps) ×
num_users × dim a target.
"""

from __future__ import annotations

from typing import Literal, TypeVar, cast

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from attacks.crafted_rows import insert_rows, replace_dense, replace_rows
from harness.core.attack import AttackContext, PoisoningAttack
from harness.core.errors import RunError
from harness.core.messages import Message, ModelUpdate
from harness.core.observe import ModelHandle, ThreatModel, View
from harness.core.params import Paper, Params
from harness.core.registry import ATTACKS
from harness.core.seeds import Seeds

M = TypeVar("M", bound=Message)

GAUSSIAN_VARIANCE = 0.01


class AHumConfig(Params):
    """Parameters of A-hum and A-ra."""

    users: Literal["mined", "random"] = Field(
        "mined", description="mined: hard users (A-hum); random: as drawn (A-ra)"
    )
    start: Literal["states", "gaussian"] = Field(
        "states", description="users drawn around the own histories' states, or from N(0, 0.01 I)"
    )
    num_users: int = Field(10, ge=1, le=10_000, description="approximated users [paper: 10]")
    mining_steps: int = Field(30, ge=0, le=10_000, description="steps that make a user hard")
    mining_rate: float = Field(0.1, gt=0, description="step size of the mining")
    steps: int = Field(30, ge=1, le=10_000, description="steps on the target's row")
    rate: float = Field(1.0, gt=0, description="step size on the target's row")
    boost: float = Field(1.0, gt=0, le=1e6, description="factor on the crafted delta")
    max_row_norm_ratio: float | None = Field(
        1.0,
        gt=0,
        description="crafted row's norm over the table's longest, at most; null: free",
    )
    rest: Literal["honest", "zero"] = Field(
        "honest", description="what else a malicious client sends"
    )
    max_histories: int = Field(
        256, ge=1, le=1_000_000, description="own histories encoded a round, at most"
    )


@ATTACKS.register("a_hum")
class AHum(PoisoningAttack):
    """See the module docstring."""

    paper = Paper("arXiv:2204.13594", "reimplementation")
    reads = (ModelUpdate,)
    targeted = True
    threat_model = ThreatModel(
        adversary="client",
        sees=frozenset({"global model"}),
        knows=frozenset({"own data"}),
        acts=True,
        words=(
            "Malicious clients see the global model and their own data, and fit the target item's "
            "row to users they approximate."
        ),
    )

    Config = AHumConfig

    def craft(
        self,
        view: View,
        message: M,
        malicious: Bool[Tensor, " row"],
        context: AttackContext,
        seeds: Seeds,
    ) -> M:
        """Return the message where malicious clients send the crafted target rows."""
        assert isinstance(message, ModelUpdate)
        if not bool(malicious.any()) or not context.targets:
            return cast("M", message)
        model = view.model(context.round_index)
        table, targets = model.item_table.detach(), torch.tensor(context.targets)
        states = self._states(view, model, seeds)
        deltas = [
            self._delta(table, table[item], self._users(table, states, seeds.child("users", item)))
            for item in context.targets
        ]
        if self.config.rest == "zero":
            nothing = {name: torch.zeros_like(delta[0]) for name, delta in message.dense.items()}
            silent = replace_dense(message, malicious, nothing)
            return cast("M", replace_rows(silent, malicious, targets, torch.stack(deltas)))
        return cast("M", insert_rows(message, malicious, targets, torch.stack(deltas)))

    def _states(
        self, view: View, model: ModelHandle, seeds: Seeds
    ) -> Float[Tensor, "history dim"] | None:
        """Encode at most ``max_histories`` of the adversary's own histories."""
        if self.config.start == "gaussian":
            return None
        histories = [list(history) for history in view.own_histories if history]
        if not histories:
            raise RunError("a_hum: the malicious clients have no history; use start: gaussian")
        chosen = seeds.numpy("histories").permutation(len(histories))[: self.config.max_histories]
        return model.encode([histories[place] for place in chosen.tolist()]).detach()

    def _users(
        self,
        table: Float[Tensor, "item dim"],
        states: Float[Tensor, "history dim"] | None,
        seeds: Seeds,
    ) -> Float[Tensor, "user dim"]:
        """Draw users as the paper does, or around the states of the adversary's own histories."""
        stream, count = seeds.torch(), self.config.num_users
        if states is None:
            draw = torch.randn(count, table.shape[1], generator=stream, dtype=table.dtype)
            return draw * GAUSSIAN_VARIANCE**0.5
        spread = states - states.mean(0)
        # Xᵀg/√(n−1) with g ~ N(0, I) has exactly the sample covariance, also where it is singular.
        mixing = torch.randn(count, len(states), generator=stream, dtype=states.dtype)
        return states.mean(0) + mixing @ spread / max(1, len(states) - 1) ** 0.5

    def _delta(
        self,
        table: Float[Tensor, "item dim"],
        row: Float[Tensor, " dim"],
        users: Float[Tensor, "user dim"],
    ) -> Float[Tensor, " dim"]:
        """Return the delta that the malicious clients send for one target."""
        if self.config.users == "mined":
            users = mine_hard_users(users, row, self.config.mining_steps, self.config.mining_rate)
        fitted = fit_row(users, row, self.config.steps, self.config.rate)
        delta = (fitted - row) * self.config.boost
        if self.config.max_row_norm_ratio is None:
            return delta
        limit = self.config.max_row_norm_ratio * table.norm(dim=1).max()
        return bound_row(row + delta, limit) - row


def mine_hard_users(
    users: Float[Tensor, "user dim"], row: Float[Tensor, " dim"], steps: int, rate: float
) -> Float[Tensor, "user dim"]:
    """Descend softplus(h · E_t) for every user: its gradient in h is sigmoid(h · E_t) E_t."""
    for _ in range(steps):
        users = users - rate * torch.sigmoid(users @ row).unsqueeze(1) * row
    return users


def fit_row(
    users: Float[Tensor, "user dim"], row: Float[Tensor, " dim"], steps: int, rate: float
) -> Float[Tensor, " dim"]:
    """Descend the mean of softplus(−h · E_t) over users: gradient −mean sigmoid(−h · E_t) h."""
    for _ in range(steps):
        row = row + rate * (torch.sigmoid(-users @ row).unsqueeze(1) * users).mean(0)
    return row


def bound_row(row: Float[Tensor, " dim"], limit: Float[Tensor, ""]) -> Float[Tensor, " dim"]:
    """Shorten a row to norm ``limit``, keeping its direction."""
    norm = row.norm()
    return row * (limit / norm) if bool(norm > limit) else row
