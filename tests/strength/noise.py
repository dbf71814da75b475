"""Rule 5: noise is on everything, as strong as it says, drawn anew; and who adds it to what."""

from __future__ import annotations

from dataclasses import replace

import torch

from defenses.dp_fedavg import DPFedAvg
from defenses.local_dp import LocalDP, whole_table
from defenses.replacement import Replacement
from harness.core.messages import ModelAggregate, ModelUpdate
from harness.core.seeds import Seeds
from harness.strength import (
    require_noise,
)
from tests.strength.cases import (
    CLIP,
    DIM,
    NUM_ITEMS,
    clipped_mean,
    federation,
    flat,
    small_world,
    updates,
)
from tests.strength.lumos import train
from tests.strength.text import clustered


def check_central_noise() -> None:
    """z·C/(qN) on every weight and every row, anew in every round and under every seed.

    Whatever the server makes of the noisy mean comes after it has been seen.
    """
    world, draws = small_world(), []
    z = 0.8
    for seed in range(6):
        defense = DPFedAvg(
            epsilon=None,
            noise_multiplier=z,
            clip_norm=CLIP,
            server_learning_rate=2.0,
            server_optimizer=("average", "adam")[seed % 2],
        )
        run = train(world, [defense], seed=seed, record=(0, 1))
        for record in run.outcome.transcript.rounds:
            assert isinstance(record.message, ModelUpdate)
            assert isinstance(record.aggregate, ModelAggregate)
            sizes = replace(run.outcome.federation, round_index=record.index)
            mean = clipped_mean(record.message, sizes.num_items, 1 / sizes.cohort_size)
            draws.append(flat(record.aggregate) - mean)
    require_noise(torch.cat(draws), z * CLIP / 64)


def check_local_noise() -> None:
    """z·C on every weight and row of the table, beside the update clipped before; per client."""
    # Little noise, so that a clip that is a little off stands out of it.
    z, message, draws = 0.02, updates(6), []
    defense = LocalDP(noise_multiplier=z, clip_norm=CLIP)
    defense.setup(federation(6))
    norms = message.norms().unsqueeze(1)
    clipped = flat(whole_table(message, NUM_ITEMS)) * CLIP / norms
    for seed in (0, 1):
        for index in (0, 1):
            sizes = replace(federation(6, 2), round_index=index)
            sent = defense.on_client(message, sizes, Seeds(seed).child("round", index))
            spread = flat(whole_table(sent, NUM_ITEMS))
            draws.append(spread - clipped)
    require_noise(torch.cat(draws), z * CLIP)


def check_text_noise() -> None:
    """σ on every coordinate of every vector, anew for every domain and seed."""
    world, sigma, draws = clustered((90, 90)), 0.2, []
    for seed in range(6):
        sent = world.sent([Replacement(sigma=sigma, upload="noisy_self")], seed)
        draws.append((sent.vectors - world.clean().vectors).reshape(2, -1))
    require_noise(torch.cat(draws), sigma)


def check_tensors_have_their_own_noise() -> None:
    """The noise of one tensor tells nothing of another's, of the same round and client."""
    shape, sizes = (NUM_ITEMS, DIM), federation(1)
    dense = {name: torch.zeros(1, *shape) for name in ("first", "second")}
    ids, one = torch.arange(NUM_ITEMS).unsqueeze(0), torch.ones(1, dtype=torch.int64)
    silent = ModelUpdate(one, dense, ids, torch.zeros(1, *shape), one)
    central = DPFedAvg(epsilon=None, noise_multiplier=1.0, clip_norm=CLIP)
    local = LocalDP(noise_multiplier=1.0, clip_norm=CLIP)
    for defense in (central, local):
        defense.setup(sizes)
    noisy = central.on_server(central.aggregate([silent], sizes), sizes, Seeds(0))
    for found in (noisy, local.on_client(silent, sizes, Seeds(0))):
        require_noise(flat(found).reshape(3, -1), CLIP)
