"""A system whose clients are users, on two domains: the target is trained, everywhere alike."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import defenses
from harness.core.messages import EmbeddingUpload, ModelUpdate
from harness.core.registry import DEFENSES
from harness.core.system import Domain
from harness.fed.loop import federate
from models.sf_ubm import SfUbm
from tests.unit.fed.toy import toy_state, toy_training

for module in pkgutil.iter_modules(defenses.__path__):
    importlib.import_module(f"defenses.{module.name}")
ON_UPDATES = [
    cls
    for _, cls in DEFENSES
    if cls.__module__.startswith("defenses.") and ModelUpdate in cls.reads
]


def _domain(name: str, num_items: int, num_users: int) -> Domain:
    histories = tuple((start + np.arange(5)) % num_items for start in range(num_users))
    titles = tuple(f"{name} {item}" for item in range(num_items))
    return Domain(name, histories, titles, titles, np.full(num_users, -1))


TWO = (_domain("target", 20, 12), _domain("source", 30, 25))


def _training(**more):
    return replace(toy_training(rounds=2, **more), domains=TWO)


@pytest.mark.parametrize("cls", ON_UPDATES, ids=lambda cls: cls.name)
def test_every_defence_runs_where_the_other_domain_is_larger(cls):
    training = _training(defenses=[cls()])
    outcome = federate(training, toy_state(training))
    assert outcome.released.table.shape == (20, 8)
    assert torch.isfinite(outcome.released.table).all()
    assert outcome.federation.num_items == 20
    assert outcome.federation.num_clients == 12


def test_the_other_domain_changes_no_number():
    alone = replace(toy_training(rounds=2), domains=TWO[:1])
    one, two = (federate(t, toy_state(t)) for t in (alone, _training()))
    assert torch.equal(one.released.table, two.released.table)
    assert one.federation == two.federation


def test_the_record_the_defence_and_the_plan_mean_the_same_catalogue():
    training = _training()
    outcome = federate(training, toy_state(training))
    users, items = ([d.num_users for d in TWO], [d.num_items for d in TWO])
    assert training.system.federation(users, items) == outcome.federation
    assert len(outcome.transcript.catalogue.titles) == outcome.federation.num_items
    assert outcome.transcript.rounds[0].model.item_table.shape[0] == outcome.federation.num_items


def test_where_a_domain_is_a_client_both_take_part():
    system = SfUbm()
    assert system.emits is EmbeddingUpload
    federation = system.federation([12, 25], [20, 30])
    assert (federation.num_clients, federation.num_items) == (2, 50)
    assert system.trained(TWO) == TWO
