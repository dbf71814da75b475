"""A small federation for tests: LUMOS without views on histories with structure."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.core.seeds import Seeds
from harness.core.system import Domain, Resources
from harness.fed.population import Roles
from harness.fed.recorder import Recorder
from harness.fed.training import Threat, Training
from models.lumos import Lumos

NUM_ITEMS = 40


def toy_domain(num_users: int = 30) -> Domain:
    """Users walk round a ring of items, so that the next item can be learnt."""
    stream = np.random.default_rng(0)
    starts = stream.integers(0, NUM_ITEMS, num_users)
    histories = tuple((s + np.arange(6)) % NUM_ITEMS for s in starts)
    titles = tuple(f"item {i}" for i in range(NUM_ITEMS))
    return Domain("ring", histories, titles, titles, (starts + 6) % NUM_ITEMS)


def toy_training(
    *, defenses=(), attack=None, malicious=(), rounds=3, seed=0, record=(0,), keep=0, **params
) -> Training:
    """Return a training of LUMOS without views on :func:`toy_domain`."""
    domain = toy_domain()
    bad = np.isin(np.arange(domain.num_users), malicious)
    settings = {
        "embedding_size": 8,
        "num_blocks": 1,
        "max_length": 8,
        "cohort_fraction": 0.5,
        "learning_rate": 0.01,
        "future": False,
        "rephrased": False,
        "counterfactual": False,
        **params,
    }
    return Training(
        system=Lumos(rounds=rounds, **settings),
        domains=(domain,),
        defenses=tuple(defenses),
        threat=Threat(attack, Roles(bad, np.zeros_like(bad)), targets=(0,)),
        recorder=Recorder(frozenset(record), keep, Seeds(seed).child("recorded clients")),
        reject_share=0.5,
        seeds=Seeds(seed).child("training"),
        progress=lambda text: None,
    )


def toy_state(training: Training):
    """Return the system's initial state; no model files are needed."""
    resources = Resources({}, Path("unused"), lambda text: None)
    return training.system.setup(training.domains, resources, training.seeds.child("setup"))
