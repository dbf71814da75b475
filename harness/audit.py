"""A claimed privacy budget and, where canaries took part, what their audit proves of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.case import Case
from harness.core.audit import Audit
from harness.core.defense import Federation, PrivacyBudget
from harness.fed.auditing import canary_claims, claimed, game_of
from harness.fed.training import Outcome
from harness.metrics.one_run import (
    gaussian_estimate,
    margins,
    one_run_epsilon,
    provable_epsilon,
    separation,
)
from harness.sheet import NAN, Sheet

NOTHING_CLAIMED = "no privacy budget is claimed, so there is nothing to exceed"


def score_budget(sheet: Sheet, case: Case, outcome: Outcome) -> None:
    """Enter the ε that the defence claims, and the noise behind it; nothing if it claims none."""
    budget = claimed(case.training.defenses, outcome.federation)
    if budget is None:
        return
    shared: dict[str, Any] = {"side": "privacy", "threat_model": budget.adversary}
    shared["reason"] = budget_words(budget)
    sheet.figure("epsilon_claimed", budget.epsilon, better="lower", n=budget.rounds, **shared)
    z = budget.noise_multiplier
    sheet.figure("noise_multiplier", z, better="higher", n=budget.rounds, **shared)


def budget_words(budget: PrivacyBudget) -> str:
    """Return what a budget protects and how it was computed, in words."""
    place = "central" if budget.sees == "aggregates" else "local"
    words = f"{place}: {budget.unit}; sampling {budget.sampling}; {budget.accountant}"
    return f"{words}; {budget.note}" if budget.note else words


def score_audit(sheet: Sheet, case: Case, outcome: Outcome, label: str) -> None:
    """Enter what the canaries prove, if there are any: the only place that sees their coins."""
    attack, coins = case.training.threat.attack, case.truth.coins
    if not isinstance(attack, Audit) or coins is None:
        return
    claims = canary_claims(case.training, outcome)
    clients = claims.clients.numpy()
    heads, sums = coins[clients], claims.sums.numpy()
    found = margins(claims.scores.numpy(), heads)
    budget = claimed(case.training.defenses, outcome.federation)
    delta = budget.delta if budget else default_delta(outcome.federation)
    game = game_of(case.training.defenses, outcome.federation)
    shared: dict[str, Any] = {"side": "privacy", "attack": label, "better": "lower"}
    shared["threat_model"] = attack.watching(game).words
    sheet.measure("canary_margin", clients, found, chance=0.0, **shared)
    shared["n"] = len(clients)
    nobody = "no client is a canary" if not len(clients) else ""
    unclaimed = NOTHING_CLAIMED if budget is None else ""
    proved = one_run_epsilon([found], delta)
    sheet.figure("delta_audited", delta, **shared)
    sheet.figure("epsilon_audited", proved, reason=nobody or unclaimed, **shared)
    limit = provable_epsilon(len(clients), delta) if len(clients) else NAN
    sheet.figure("epsilon_provable", limit, reason=nobody, **shared)
    estimate = gaussian_estimate(sums[heads], sums[~heads], delta)
    why = "too few canaries, or none was ever seen" if np.isnan(estimate) else ""
    sheet.figure("epsilon_estimate", estimate, reason=why, **shared)
    apart = separation(sums[heads], sums[~heads])
    sheet.figure("canary_separation", apart, reason=why, **shared)
    # Without a claim there is no row: one that is not applicable would speak of the whole audit.
    if budget is not None:
        sheet.figure("epsilon_excess", proved - budget.epsilon, reason=nobody, **shared)


def default_delta(federation: Federation) -> float:
    """Return the δ at which an arm without a claim is audited: what defences claim by default."""
    return max(2, federation.num_clients) ** -1.1
