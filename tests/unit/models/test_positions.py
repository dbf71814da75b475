"""No position is read at test time that was never trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.core.seeds import Seeds
from harness.core.system import Domain
from harness.fed.loop import federate
from models.central import CentralConfig, fit_central
from models.sequences import readable
from tests.unit.fed.toy import toy_state, toy_training

LONGEST, ITEMS = 8, 30


def _domain(lengths: list[int]) -> Domain:
    titles = tuple(str(item) for item in range(ITEMS))
    histories = tuple((np.arange(n) + 3 * u) % ITEMS for u, n in enumerate(lengths))
    validation = np.array([(n + 3 * u) % ITEMS for u, n in enumerate(lengths)])
    return Domain("walks", histories, titles, titles, validation)


def _federated(domain: Domain) -> tuple[torch.Tensor, torch.Tensor, object]:
    """Position table before and after a round in which everybody takes part."""
    training = toy_training(rounds=1, cohort_fraction=1.0, max_length=LONGEST, weight_decay=0)
    training = replace(training, domains=(domain,))
    state = toy_state(training)
    released = federate(training, state).released
    return state.model.dense["positions"], released.dense["positions"], released


def _central(domain: Domain) -> tuple[torch.Tensor, torch.Tensor, object]:
    config = CentralConfig(
        embedding_size=8, num_blocks=1, max_length=LONGEST, epochs=1, dropout=0.0
    )
    released = fit_central(domain, config, Seeds(0))
    return released.backbone.initial(Seeds(0))["positions"], released.dense["positions"], released


@pytest.mark.parametrize("train", [_federated, _central])
@pytest.mark.parametrize("lengths", [[3, 12, 9, 5], [3, 9, 5], [3, 8, 5], [2, 4, 3]])
def test_every_position_read_at_test_time_was_trained(train, lengths):
    """Twin: which position rows moved, by comparing them with what was drawn."""
    domain = _domain(lengths)
    before, after, released = train(domain)
    moved = (before != after).any(1)
    trained = min(max(lengths) - 1, LONGEST)
    assert moved[:trained].all() and not moved[trained:].any()
    assert released.max_length == trained == readable(domain.histories, LONGEST)
    # A test context, one item longer than training's, cannot tell what the rows beyond hold.
    contexts = [np.append(h, v) for h, v in zip(domain.histories, domain.validation, strict=True)]
    wild = released.dense["positions"].clone()
    wild[trained:] = 1e3
    other = replace(released, dense={**released.dense, "positions": wild})
    users = np.arange(len(lengths))
    assert np.array_equal(released.scores(users, contexts), other.scores(users, contexts))


def test_a_full_history_reads_all_positions():
    """As in the reference code: all positions are trained on, and all are read."""
    assert readable(_domain([60, 4]).histories, 50) == 50
    assert readable(_domain([51, 4]).histories, 50) == 50
    assert readable(_domain([50, 4]).histories, 50) == 49
    assert readable(_domain([1]).histories, 50) == readable((), 50) == 1
