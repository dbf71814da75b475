"""Which clients of a cohort are written down: an even draw, whatever order they train in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from harness.core.messages import ModelUpdate
from harness.core.seeds import Seeds
from harness.fed.loop import federate
from harness.fed.recorder import Recorder
from tests.unit.fed.toy import toy_state, toy_training


def _message(clients: list[int]) -> ModelUpdate:
    ids = torch.tensor(clients)
    rows = torch.zeros(len(ids), 1, 2)
    return ModelUpdate(ids, {}, ids.unsqueeze(1), rows, torch.ones_like(ids))


def _kept(clients: list[int], count: int, seed: int = 0) -> list[int]:
    recorder = Recorder(frozenset({0}), count, Seeds(seed))
    record = recorder.record(0, _message(clients), None, None)
    assert isinstance(record.message, ModelUpdate)
    assert torch.equal(record.message.row_ids[:, 0], record.message.clients)
    return record.message.clients.tolist()


def test_every_client_is_equally_likely_to_be_kept():
    """4,000 draws of 5 of 20: a client's count has mean 1,000 and deviation 27.4."""
    counts = np.bincount(np.concatenate([_kept(list(range(20)), 5, s) for s in range(4000)]))
    assert len(counts) == 20 and abs(counts - 1000).max() < 4.5 * (4000 * 0.25 * 0.75) ** 0.5


def test_the_order_of_training_and_the_round_do_not_matter():
    clients = list(range(40))
    kept = _kept(clients, 7)
    assert len(kept) == 7 and kept == sorted(kept)
    assert set(_kept(clients[::-1], 7)) == set(kept)
    # Whoever is kept of a cohort is kept of a smaller one.
    half = [client for client in clients if client % 2 or client in kept]
    assert set(_kept(half, 7)) == set(kept)
    assert _kept(clients, 0) == clients == _kept(clients, 40)


def test_short_histories_are_not_preferred():
    """The cohort trains shortest first; keeping the first ones kept the shortest."""
    kept: dict[int | None, list[int]] = {}
    for chunk in (None, 3):
        training = toy_training(keep=5, rounds=1, cohort_fraction=1.0, chunk_clients=chunk)
        histories = tuple(h[: 2 + u % 5] for u, h in enumerate(training.domains[0].histories))
        training = replace(training, domains=(replace(training.domains[0], histories=histories),))
        message = federate(training, toy_state(training)).transcript.rounds[0].message
        assert isinstance(message, ModelUpdate)
        kept[chunk] = sorted(message.clients.tolist())
    assert kept[None] == kept[3] and len(kept[3]) == 5
    # Six of thirty have the shortest history: five of them by chance 1 in 24,000.
    assert {user % 5 for user in kept[3]} != {0}
