"""A training that was stopped after three of five rounds, and checkpoints made to lie."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from attacks.a_hum import AHum
from harness.core.errors import Interrupted
from harness.fed.checkpoint import Checkpoints, Progressing
from harness.fed.loop import federate
from harness.fed.training import Outcome, Training
from harness.store import read_tensors, stored, write_tensors
from tests.unit.fed.toy import toy_state, toy_training

ROUNDS, DONE = 5, 3
IDENTITY = {"training": "toy"}


@lru_cache
def training() -> Training:
    """Return the training whose checkpoints these are."""
    return toy_training(rounds=ROUNDS, record=(0, 2, 4), attack=AHum(), malicious=(1, 2))


@lru_cache
def start() -> Any:
    """Return the state that it begins with; no training changes it."""
    return toy_state(training())


def stopped(folder: Path) -> None:
    """Run three rounds into ``folder``, then stop as a signal would."""
    left = iter([False] * (DONE - 1) + [True])

    def pause() -> None:
        if next(left):
            raise Interrupted("now")

    stopping = replace(training(), pause=pause)
    try:
        federate(stopping, start(), Checkpoints(folder, IDENTITY, print, seconds=0))
    except Interrupted:
        return
    raise AssertionError("the training was not stopped")


def rewritten(
    folder: Path, stem: str, change: Callable[[dict[str, Any], dict[str, Any]], Any]
) -> Path:
    """Change a file's tensors and facts in place and give it the name that its hash asks for."""
    (path,) = stored(folder, stem)
    tensors, facts = read_tensors(path)
    change(tensors, facts)
    path.unlink()
    made = write_tensors(folder, stem, tensors, facts)
    if stem.startswith("record-"):
        for name in stored(folder, "round-"):
            old = read_tensors(name)[1]["records"]
            if path.name in old:
                links = [made.name if entry == path.name else entry for entry in old]
                stem_of = name.name[: len("round-000000")]
                rewritten(
                    folder, stem_of, lambda _, facts, links=links: facts.update(records=links)
                )
    return made


def copied(source: Path, target: Path) -> Path:
    """Return a copy of a folder of checkpoints."""
    shutil.copytree(source, target)
    return target


def restored(folder: Path) -> tuple[Progressing, list[str]]:
    """Return where the training would go on, and what was said about it."""
    said: list[str] = []
    whole = training()
    checkpoints = Checkpoints(folder, IDENTITY, said.append, seconds=0)
    return checkpoints.restore(whole, start()), said


def resumed(folder: Path) -> Outcome:
    """Return what the training comes to from here."""
    whole = training()
    checkpoints = Checkpoints(folder, IDENTITY, lambda text: None, seconds=0)
    return federate(whole, start(), checkpoints)
