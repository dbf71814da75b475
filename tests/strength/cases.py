"""What the checks work on: a small training, and messages whose closed form is known."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from defenses.local_dp import whole_table
from harness.core.defense import Federation
from harness.core.messages import ModelAggregate, ModelUpdate
from harness.core.seeds import Seeds
from harness.data import DatasetConfig
from tests.strength.lumos import World, make_world

NUM_ITEMS, DIM = 120, 8
CLIP = 0.5


@cache
def small_world() -> World:
    """Sixty-four made-up users, all in both rounds of one plain step; some items nobody sends."""
    options = {"num_users": 64, "num_items": 600}
    dataset = DatasetConfig(use="synthetic", options=options)
    settings = {"rounds": 2, "local_epochs": 1, "learning_rate": 0.5, "cohort_fraction": 1.0}
    return make_world(dataset, max_length=9, **settings)


def updates(num_clients: int, size: float = 3.0, seed: int = 0) -> ModelUpdate:
    """Updates of norm ``size`` with a few rows each, so that most of the table is not sent."""
    stream = Seeds(seed).torch("updates")
    ids = torch.stack([torch.randperm(NUM_ITEMS, generator=stream)[:6] for _ in range(num_clients)])
    made = ModelUpdate(
        torch.arange(num_clients) + 7,
        {"weight": torch.randn(num_clients, DIM, DIM, generator=stream)},
        ids,
        torch.randn(num_clients, 6, DIM, generator=stream),
        torch.ones(num_clients, dtype=torch.int64),
    )
    return made.scaled((size / made.norms()).float())


def federation(cohort: int, rounds: int = 1, rate: float = 1.0) -> Federation:
    return Federation(round(cohort / rate), cohort, rounds, NUM_ITEMS, round_index=0)


def flat(message: ModelUpdate | ModelAggregate) -> Tensor:
    """Every number of a message or aggregate, one row a client, in float64."""
    tensors = [*message.dense.values(), message.rows]
    clients = len(message) if isinstance(message, ModelUpdate) else 1
    return torch.cat([tensor.double().reshape(clients, -1) for tensor in tensors], 1)


def clipped_mean(message: ModelUpdate, num_items: int, scale: float) -> Tensor:
    """The noise-free aggregate, written out: Σ clipped updates × scale over the whole table."""
    norms = message.norms().clamp_min(1e-300)
    wide = flat(whole_table(message, num_items)) * (CLIP / norms).clamp_max(1.0).unsqueeze(1)
    return wide.sum(0, keepdim=True) * scale


def canary(num_clients: int, size: float) -> ModelUpdate:
    """Clients who all send the same update of a given norm."""
    one = updates(1, 1.0)
    return ModelUpdate(
        torch.arange(num_clients),
        {name: delta.repeat(num_clients, 1, 1) * size for name, delta in one.dense.items()},
        one.row_ids.repeat(num_clients, 1),
        one.rows.repeat(num_clients, 1, 1) * size,
        torch.ones(num_clients, dtype=torch.int64),
    )
