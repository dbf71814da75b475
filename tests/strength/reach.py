"""Rule 5: what inference attacks can reach under noise and replacement, in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from attacks.inverse_codebook import InverseCodebook
from attacks.nearest_neighbor import NearestNeighbor
from attacks.row_norm import RowNorm
from attacks.span_check import SpanCheck
from defenses.clipping import clip_update
from defenses.local_dp import LocalDP, whole_table
from defenses.replacement import Replacement
from harness.metrics.privacy import gaussian_accuracy, reconstruction_bound
from harness.strength import (
    TooWeak,
    require_bound,
)
from tests.strength.cases import (
    CLIP,
    small_world,
)
from tests.strength.lumos import train
from tests.strength.text import clustered, pairs


def check_row_norm_bound() -> None:
    """AUC ≤ mean over pairs of Φ(|Δ_i − Δ_j|/(√2 σ)): swapping two rows moves an update so far."""
    z, success, bounds = 0.3, [], []
    for seed in range(3):
        clear = train(small_world(), seed=seed, record=(0,), rounds=1)
        noisy = train(
            small_world(),
            [LocalDP(noise_multiplier=z, clip_norm=CLIP)],
            seed=seed,
            record=(0,),
            rounds=1,
        )
        success.append(noisy.recovered(RowNorm(), "auc")[0])
        rows = whole_table(clip_update(clear.message(0), CLIP), clear.world.domain.num_items).rows
        limits = []
        for client, table in zip(clear.message(0).clients.tolist(), rows, strict=True):
            member = torch.zeros(len(table), dtype=torch.bool)
            member[clear.world.domain.histories[client][-clear.world.window :].tolist()] = True
            gaps = torch.cdist(table[member].double(), table[~member].double()).numpy()
            limits.append(gaussian_accuracy(gaps * 2**0.5, z * CLIP).mean())
        bounds.append(np.array(limits))
    require_bound(success, bounds)


def check_span_bound() -> None:
    """Positions named ≤ Φ(Φ⁻¹(p) + 2C/σ), p the most frequent item's share at any position."""
    z, world = 1.5, small_world()
    recent = [h[-world.window :] for h in world.domain.histories]
    length = max(len(h) for h in recent)
    at = [np.array([h[t] for h in recent if len(h) > t]) for t in range(length)]
    prior = max(np.bincount(items).max() / len(items) for items in at)
    runs = [
        train(world, [LocalDP(noise_multiplier=z)], seed=s, record=(0,), rounds=1) for s in (0, 1)
    ]
    for attack in (SpanCheck(), SpanCheck(false_alarm=1.0)):
        success = [run.recovered(attack, "exact_position")[0] for run in runs]
        require_bound(success, reconstruction_bound(float(prior), 2 / z))


def check_self_is_excluded() -> None:
    """In the paper's form nearest neighbour never names the true item, at any σ."""
    for sigma in (0.0, 0.05, 0.5):
        world, defense = clustered(), Replacement(sigma=sigma)
        for seed in (0, 1):
            hits, _ = world.identified(NearestNeighbor(), [defense], seed)
            if hits.any():
                raise TooWeak(f"sigma {sigma:g}: {int(hits.sum())} items were sent as themselves")


def check_replacements_are_items() -> None:
    """What is sent is a unit vector of another item of the same domain, and nothing else."""
    world = clustered()
    longer = replace(world, state=replace(world.state, text=world.state.text * 3))
    sent = longer.sent([Replacement(sigma=0.1)], 0).vectors
    # In float64: cdist in float32 is off by more than the tolerance.
    distance = torch.cdist(sent.double(), world.state.text.double())
    nearest, source = distance.min(1)
    if not bool((nearest < 1e-5).all()):
        raise TooWeak("an uploaded vector is no item's unit vector")
    if not torch.equal(world.state.owner[source], world.state.owner):
        raise TooWeak("an item was replaced by one of another domain")


def check_two_items_law() -> None:
    """Two items, self allowed: no attack names the right one more often than Φ(D/2σ).

    Nearest neighbour, which is the best decision here, must also reach it: noise that is too
    strong or too weak shows on one of the sides.
    """
    for distance, sigma in ((0.8, 0.6), (1.0, 2.0)):
        world = pairs(distance, 1000)
        defense = Replacement(sigma=sigma, self_neighbor="allow", compare="clean")
        sent = world.sent([defense], 0).vectors
        kept = (sent - world.clean().vectors).norm(dim=1) < distance / 2
        best = float(gaussian_accuracy(distance, sigma))
        require_bound([kept.double().numpy()], best)
        require_bound([(~kept).double().numpy()], 1 - best)
        small = pairs(distance, 1)
        for attack in (NearestNeighbor(), InverseCodebook(samples=8)):
            hits = [small.identified(attack, [defense], seed)[0] for seed in range(40)]
            require_bound([np.concatenate(hits)], best)
