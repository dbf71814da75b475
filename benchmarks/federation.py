"""Rounds of the harness on synthetic histories, as the benchmarks of the engine time them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from benchmarks.peers import plain_sasrec as plain
from harness.core.seeds import Seeds
from harness.core.system import Domain, Resources
from harness.fed.loop import federate
from harness.fed.population import Roles
from harness.fed.recorder import Recorder
from harness.fed.training import Threat, Training
from harness.worker import use_large_pages
from models.lumos import Lumos


def with_large_pages() -> None:
    """Start this program again where it has no large pages yet, as the harness starts workers."""
    before = os.environ.get("GLIBC_TUNABLES")
    use_large_pages()
    if os.environ["GLIBC_TUNABLES"] != before:
        os.execv(sys.executable, sys.orig_argv)


def rounds_of(
    histories: Sequence[Int[np.ndarray, " event"]], cohort: int, **settings: Any
) -> Callable[[], None]:
    """Return a function that trains LUMOS without views: cohort, local training, guard, average.

    Args:
        histories: of the population.
        cohort: clients a round.
        settings: of LUMOS; plain SGD without clipping where they say nothing.
    """
    users = len(histories)
    titles = tuple(f"item {i}" for i in range(plain.NUM_ITEMS))
    nobody = np.zeros(users, dtype=bool)
    fixed = {
        "cohort_fraction": cohort / users,
        "optimizer": "sgd",
        "learning_rate": plain.LEARNING_RATE,
        "weight_decay": 0.0,
        "clip_norm": 0.0,
        "future": False,
        "rephrased": False,
        "counterfactual": False,
    }
    training = Training(
        system=Lumos(**{**fixed, **settings}),
        domains=(Domain("work", histories, titles, titles, np.full(users, -1)),),
        defenses=(),
        threat=Threat(None, Roles(nobody, nobody), ()),
        recorder=Recorder(frozenset(), 0, Seeds(0)),
        reject_share=0.5,
        seeds=Seeds(0),
        progress=lambda text: None,
    )
    resources = Resources({}, Path("unused"), lambda text: None)
    state = training.system.setup(training.domains, resources, Seeds(0))

    def run() -> None:
        federate(training, state)

    return run
