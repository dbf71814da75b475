"""The part of a privacy audit that is not the auditor's: the coins, and what it may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from harness.core.attack import AttackContext
from harness.core.audit import Audit, CanaryScores, Game
from harness.core.defense import Defense, Federation, PrivacyBudget
from harness.core.messages import ModelUpdate
from harness.core.observe import RoundRecord, Transcript, View
from harness.core.seeds import Seeds
from harness.fed.training import Outcome, Threat, Training


def toss(num_clients: int, seeds: Seeds) -> Bool[np.ndarray, " client"]:
    """Return a fair coin for every client, from a stream that no attack is given."""
    return seeds.numpy("canary coins").random(num_clients) < 0.5


def claimed(defenses: Sequence[Defense], federation: Federation) -> PrivacyBudget | None:
    """Return the budget that is claimed; None if there is none, or several that don't add up."""
    budgets = [budget for d in defenses if (budget := d.spent(federation)) is not None]
    return budgets[0] if len(budgets) == 1 else None


def game_of(defenses: Sequence[Defense], federation: Federation) -> Game:
    """Return the game of the claim; where nothing is claimed, that of central privacy."""
    budget, rate = claimed(defenses, federation), federation.sampling_rate
    if budget is None:
        return Game(sampling_rate=rate)
    return Game(budget.neighbors, budget.sees, rate, budget.releases)


def play(
    crafted: ModelUpdate, malicious: Bool[Tensor, " row"], threat: Threat, game: Game
) -> tuple[ModelUpdate, Bool[Tensor, " row"]]:
    """Let the coins decide.

    Args:
        crafted: the cohort's message with every canary in it.
        malicious: the canaries' rows.
        threat: holds the coins.
        game: says what tails means.

    Returns:
        The message, and which of its rows exist.
    """
    assert threat.coins is not None
    tails = malicious & ~torch.from_numpy(threat.coins)[crafted.clients]
    if game.neighbors == "add or remove":
        return crafted, ~tails
    sign = torch.where(tails, -1.0, 1.0).to(crafted.rows.dtype)
    return crafted.scaled(sign), torch.ones_like(tails)


def watch(
    training: Training,
    federation: Federation,
    facts: Transcript,
    record: RoundRecord,
    memory: dict[str, object],
) -> None:
    """Show the auditor one round: what the adversary of the claim sees of it."""
    attack = training.threat.attack
    assert isinstance(attack, Audit)
    game = game_of(training.defenses, federation)
    view = View(replace(facts, rounds=(record,)), attack.watching(game))
    context = AttackContext(
        round_index=federation.round_index,
        num_rounds=federation.num_rounds,
        targets=training.threat.targets,
        num_items=federation.num_items,
        state=memory,
    )
    attack.watch(view, canaries_of(training.threat), game, context, audit_seeds(training))


def canary_claims(training: Training, outcome: Outcome) -> CanaryScores:
    """Return the auditor's scores after the training."""
    attack = training.threat.attack
    assert isinstance(attack, Audit)
    game = game_of(training.defenses, outcome.federation)
    return attack.claims(canaries_of(training.threat), game, outcome.memory)


def canaries_of(threat: Threat) -> Int[Tensor, " canary"]:
    """Return the ids of the canary clients."""
    return torch.from_numpy(np.flatnonzero(threat.roles.malicious))


def audit_seeds(training: Training) -> Seeds:
    """Return the auditor's own streams: the same in every round, and none of the coins'."""
    return training.seeds.child("audit")
