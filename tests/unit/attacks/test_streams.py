"""What an attack is handed cannot draw the defender's noise, the coins, or an upload's order."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch

from defenses.dp_fedavg import DPFedAvg
from harness.core.attack import PoisoningAttack
from harness.core.messages import ModelUpdate
from harness.core.observe import ThreatModel
from harness.core.params import Paper
from harness.core.seeds import Seeds
from harness.fed.auditing import toss
from harness.fed.loop import federate
from tests.unit.fed.toy import toy_state, toy_training


class Thief(PoisoningAttack):
    """Keeps everything that it is handed."""

    paper = Paper("ours", "baseline")
    reads = (ModelUpdate,)
    threat_model = ThreatModel(
        "client",
        frozenset({"messages", "global model"}),
        frozenset({"catalogue", "defense", "own data"}),
        acts=True,
    )

    def craft(self, view, message, malicious, context, seeds):
        self.loot = [view, message, malicious, context, seeds]
        return message


class Nosy(DPFedAvg):
    """Remembers the streams its server stage was given."""

    def on_server(self, aggregate, federation, seeds):
        self.given = seeds
        return super().on_server(aggregate, federation, seeds)


def held(loot: list[Any]) -> list[Any]:
    """Everything reachable from what was handed over; classes and modules are everybody's."""
    known: dict[int, Any] = {}
    todo = list(loot)
    while todo:
        thing = todo.pop()
        if id(thing) in known or isinstance(thing, type) or type(thing).__name__ == "module":
            continue
        known[id(thing)] = thing
        if not callable(thing):
            todo.extend(gc.get_referents(thing))
    return list(known.values())


def streams(loot: list[Any]) -> list[Seeds]:
    """All streams that the loot holds, or that can be started from a number or text in it."""
    things = held(loot)
    found = [thing for thing in things if isinstance(thing, Seeds)]
    keys = [thing.key for thing in found]
    numbers = {int.from_bytes(key, order) for key in keys for order in ("big", "little")}
    numbers |= {int.from_bytes(key[:8], order) >> 1 for key in keys for order in ("big", "little")}
    return found + [Seeds(number) for number in numbers]


def guesses(found: list[Seeds], *path: str | int) -> list[bytes]:
    """Keys that walking down any tail of a path from any stream at hand leads to."""
    return [seeds.child(*path[start:]).key for seeds in found for start in range(len(path) + 1)]


@pytest.fixture(scope="module")
def robbed():
    root = Seeds(987_654_321)
    attack, defense = Thief(), Nosy(epsilon=None, noise_multiplier=1.0)
    training = toy_training(attack=attack, defenses=[defense], malicious=range(10), rounds=2)
    training = type(training)(**{**vars(training), "seeds": root.child("training")})
    federate(training, toy_state(training))
    return root, attack.loot, defense


def test_an_attack_cannot_draw_the_defenders_noise_again(robbed):
    root, loot, defense = robbed
    noise = ("training", "round", 1, "server stage", 0)
    assert root.child(*noise).key == defense.given.key
    assert defense.given.key not in guesses(streams(loot), *noise)
    wanted = torch.randn(9, generator=defense.given.torch("dp_fedavg", 1, "rows"))
    for seeds in streams(loot):
        for path in (noise, noise[1:], noise[3:], ()):
            stream = seeds.child(*path).torch("dp_fedavg", 1, "rows")
            assert not torch.equal(torch.randn(9, generator=stream), wanted)


def test_nobody_in_the_training_can_toss_the_coins_again(robbed):
    root, loot, defense = robbed
    coins = toss(400, root)
    assert np.array_equal(coins, toss(400, root))
    for seeds in [*streams(loot), *streams([defense.given])]:
        agreed = (toss(400, seeds) == coins).mean()
        assert 0.35 < agreed < 0.65


def test_no_stream_above_or_beside_is_within_reach(robbed):
    root, loot, defense = robbed
    secret = {
        "root": root.key,
        "training": root.child("training").key,
        "upload order": root.child("training", "setup", "upload order").key,
        "round": root.child("training", "round", 1).key,
    }
    for found in (streams(loot), streams([defense.given])):
        assert found and not {seeds.key for seeds in found} & set(secret.values())
        for path in (
            ("training",),
            ("training", "setup", "upload order"),
            ("training", "round", 1),
        ):
            assert not set(guesses(found, *path)) & set(secret.values())


def test_the_search_would_find_a_stream_that_was_left_lying_about(robbed):
    """The test of the tests: hand over the root, or a stream above, and it is found."""
    root, loot, defense = robbed
    noise = ("training", "round", 1, "server stage", 0)
    for leak in (root, root.child("training"), {"deep": [root.child("training", "round", 1)]}):
        assert defense.given.key in guesses(streams([*loot, leak]), *noise)
