"""Success of a pair's attack at each strength, on small data; every training is run once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.core.attack import InferenceAttack, PoisoningAttack
from harness.core.defense import Defense
from harness.core.messages import EmbeddingUpload
from tests.strength.lumos import Run, World, random_views, train
from tests.strength.pairs import Pair
from tests.strength.text import TextWorld

Success = list[np.ndarray]


@dataclass
class Bench:
    """Worlds of one tier, and the trainings done so far.

    Attributes:
        reading: LUMOS for attacks by the server: short histories, one plain gradient step.
        poisoning: LUMOS for attacks by clients: enough rounds to learn something.
        text: SF-UBM's exchange.
        seeds: of every measurement.
        poison_seeds: the same for poisoning, where a seed costs two trainings.
    """

    reading: World
    poisoning: World
    text: TextWorld
    seeds: tuple[int, ...]
    poison_seeds: tuple[int, ...]
    done: dict[Any, Run] = field(default_factory=dict[Any, Run])

    def success(self, pair: Pair, defenses: tuple[Defense, ...]) -> tuple[Success, float]:
        """Success in every seed, and its chance."""
        attack = pair.attack()
        # Where only power is asked for, one seed of many users answers.
        count = 1 if 3 in pair.excused else None
        if isinstance(attack, PoisoningAttack):
            measure = self._quantisation if self.on_text(pair) else self._changed
            return [measure(pair, attack, defenses, s) for s in self.poison_seeds[:count]], 0.0
        assert isinstance(attack, InferenceAttack)
        found = [self._read(pair, attack, defenses, seed) for seed in self.seeds[:count]]
        return [values for values, _ in found], float(np.mean([chance for _, chance in found]))

    def ladder(self, pair: Pair) -> tuple[list[Success], float]:
        """Success without a defence and at every strength, and its chance."""
        arms = [(), *((make(),) for make in pair.strengths)]
        found = [self.success(pair, arm) for arm in arms]
        return [success for success, _ in found], found[0][1]

    def on_text(self, pair: Pair) -> bool:
        """Whether the pair meets on uploaded text vectors."""
        return EmbeddingUpload in pair.neutral().reads

    def world(self, world: World, defenses: tuple[Defense, ...]) -> World:
        """The world with views, where a defence needs them to do anything."""
        if any(defense.needs for defense in defenses):
            # Views lengthen what a gradient spans, so it needs more dimensions to stand out in.
            settings = {**world.settings, "embedding_size": 64}
            return replace(world, settings=settings, views=random_views(world.domain))
        return world

    def of_size(self, world: World, num_users: int) -> World:
        """The world's first users alone."""
        domain = world.domain
        fewer = replace(
            domain,
            histories=domain.histories[:num_users],
            validation=domain.validation[:num_users],
        )
        return replace(world, domain=fewer, test=world.test[:num_users])

    def utility(self, defenses: tuple[Defense, ...], needed: tuple[Defense, ...] = ()) -> Success:
        """Utility of LUMOS when nobody attacks, in every seed."""
        world = self.world(self.poisoning, needed or defenses)
        return [self._trained(world, None, defenses, seed).utility() for seed in self.poison_seeds]

    def _read(
        self, pair: Pair, attack: InferenceAttack, defenses: tuple[Defense, ...], seed: int
    ) -> tuple[np.ndarray, float]:
        if self.on_text(pair):
            return self.text.identified(attack, defenses, seed)
        metric = {"row_norm": "auc", "span_check": "exact_position"}[attack.name]
        run = self._trained(self.world(self.reading, (pair.neutral(),)), None, defenses, seed, (0,))
        return run.recovered(attack, metric)

    def _changed(
        self, pair: Pair, attack: PoisoningAttack, defenses: tuple[Defense, ...], seed: int
    ) -> np.ndarray:
        world = self.world(self.poisoning, (pair.neutral(),))
        clean, attacked = (self._trained(world, who, defenses, seed) for who in (None, attack))
        if attack.targeted:
            return attacked.exposure() - clean.exposure()
        return clean.utility() - attacked.utility()

    def _quantisation(
        self, pair: Pair, attack: PoisoningAttack, defenses: tuple[Defense, ...], seed: int
    ) -> np.ndarray:
        """How much further an honest item's vector is from its centre because of the attack."""
        message = self.text.sent(defenses, seed)
        honest = ~self.text.malicious(seed)
        crafted = self.text.crafted(attack, message, seed)
        distances = [
            (self.text.centroids(m, seed).vectors - message.vectors)[honest].norm(dim=1)
            for m in (message, crafted)
        ]
        return (distances[1] - distances[0]).double().numpy()

    def _trained(
        self,
        world: World,
        attack: PoisoningAttack | None,
        defenses: tuple[Defense, ...],
        seed: int,
        record: tuple[int, ...] = (),
    ) -> Run:
        names = [(d.name, d.config) for d in defenses]
        who = None if attack is None else (attack.name, attack.config)
        key = (
            world.domain.name,
            world.settings["rounds"],
            world.views is None,
            who,
            tuple(names),
            seed,
            record,
        )
        if key not in self.done:
            self.done[key] = train(world, defenses, attack, seed=seed, record=record)
        return self.done[key]
