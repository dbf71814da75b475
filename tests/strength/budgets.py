"""Rule 5: the claimed ε against Opacus and the noise that is really there, and audits of it."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import torch
from opacus.accountants import RDPAccountant

from defenses.dp_fedavg import DPFedAvg
from defenses.local_dp import LocalDP, whole_table
from harness.core.defense import Federation
from harness.core.seeds import Seeds
from harness.metrics.privacy import audited_epsilon
from harness.strength import (
    TooWeak,
    require_epsilon,
)
from tests.strength.cases import (
    CLIP,
    NUM_ITEMS,
    canary,
    federation,
    flat,
    updates,
)


def check_accountants() -> None:
    """The claimed ε is what Opacus says of the noise that is really added, step by step."""
    for z, cohort, rate, rounds in ((1.1, 8, 0.1, 50), (2.0, 16, 0.25, 20), (0.9, 4, 1.0, 3)):
        sizes = federation(cohort, rounds, rate)
        central = DPFedAvg(epsilon=None, noise_multiplier=z, clip_norm=CLIP, delta=1e-5)
        central.setup(sizes)
        measured = measured_std(central, sizes) * cohort / CLIP
        require_same_epsilon(central.spent(sizes), opacus(measured, rate, rounds), 0.03)
    for z, rounds in ((4.0, 1), (8.0, 16)):
        sizes = federation(8, rounds)
        local = LocalDP(noise_multiplier=z, clip_norm=CLIP, delta=1e-5)
        local.setup(sizes)
        sent = flat(local.on_client(updates(8, 1e-12), sizes, Seeds(0)))
        measured = sent.square().mean().sqrt().item() / (2 * CLIP)
        # Opacus' Rényi bound is looser than the exact curve, never tighter.
        bound, claimed = opacus(measured, 1.0, rounds), local.spent(sizes)
        if claimed is None or not claimed.epsilon <= bound * 1.03 <= claimed.epsilon * 1.3:
            raise TooWeak(f"claimed {claimed}, Opacus says at most {bound:.3g}")


def measured_std(defense: DPFedAvg, sizes: Federation) -> float:
    """Standard deviation of the noise in eight aggregates of silent clients."""
    silent = updates(2).scaled(torch.zeros(2))
    noise = [
        flat(defense.on_server(defense.aggregate([silent], sizes), sizes, Seeds(seed)))
        for seed in range(8)
    ]
    return torch.cat(noise).square().mean().sqrt().item()


def require_same_epsilon(claimed: object, independent: float, tolerance: float) -> None:
    epsilon = getattr(claimed, "epsilon", float("nan"))
    if not abs(epsilon - independent) <= tolerance * epsilon:
        raise TooWeak(f"claimed epsilon {epsilon:.4g}, Opacus says {independent:.4g}")


def opacus(noise_multiplier: float, rate: float, steps: int) -> float:
    """Opacus' own ledger at δ = 1e-5, one step at a time."""
    ledger = RDPAccountant()
    for _ in range(steps):
        ledger.step(noise_multiplier=noise_multiplier, sample_rate=rate)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order")
        return float(ledger.get_epsilon(delta=1e-5))


def check_central_audit() -> None:
    """A client who sends one direction as loud as may be, and a judge who sees both aggregates.

    The client is in each round with probability ½. The judge knows the direction and also looks at
    the difference of the two rounds, where noise that was used twice would vanish.
    """
    sizes = federation(1, rounds=2, rate=0.5)
    defense = DPFedAvg(epsilon=None, noise_multiplier=2.5, clip_norm=CLIP, delta=1e-3)
    defense.setup(sizes)
    loud, silent = canary(1, 1e3), canary(1, 0.0)
    direction = flat(whole_table(canary(1, 1.0), NUM_ITEMS))[0]
    scores: dict[bool, list[float]] = {True: [], False: []}
    for inside in (True, False):
        for trial in range(200):
            seeds, seen = Seeds(trial).child("audit", int(inside)), []
            present = seeds.numpy("present").random(2) < 0.5
            for index in (0, 1):
                place = replace(sizes, round_index=index)
                message = loud if inside and present[index] else silent
                aggregate = defense.aggregate([message], place)
                round_seeds = seeds.child("round", index)
                seen.append(flat(defense.on_server(aggregate, place, round_seeds))[0] @ direction)
            scores[inside].append(max(*seen, abs(seen[1] - seen[0])).item())
    judge(scores[True], scores[False], defense, sizes)


def check_local_audit() -> None:
    """Five hundred clients with one of two opposite updates, and a judge who sees two rounds."""
    count = 500
    sizes = federation(count, rounds=2)
    defense = LocalDP(noise_multiplier=4.0, clip_norm=CLIP, delta=1e-3, releases="every round")
    defense.setup(sizes)
    direction = flat(whole_table(canary(1, 1.0), NUM_ITEMS))[0]
    scores = []
    for sign in (1.0, -1.0):
        seen = [
            flat(
                whole_table(
                    defense.on_client(
                        canary(count, 1e3 * sign),
                        replace(sizes, round_index=index),
                        Seeds(int(sign) + 5).child("round", index),
                    ),
                    NUM_ITEMS,
                )
            )
            @ direction
            for index in (0, 1)
        ]
        scores.append(((seen[0] + seen[1]) / 2).tolist())
    judge(*scores, defense, sizes)


def judge(
    inside: list[float], outside: list[float], defense: DPFedAvg | LocalDP, sizes: Federation
) -> None:
    """Raise where the scores prove more than the defence claims."""
    budget = defense.spent(sizes)
    if budget is None:
        raise TooWeak("a defence with noise claims no budget")
    proved = audited_epsilon(np.array(inside), np.array(outside), budget.delta)
    require_epsilon(proved, budget.epsilon)
