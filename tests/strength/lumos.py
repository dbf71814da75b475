"""LUMOS on a few users, trained by the real loop and scored by the real scorer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.claims import score_claims
from harness.core.attack import InferenceAttack, PoisoningAttack
from harness.core.defense import Defense
from harness.core.observe import View
from harness.core.seeds import Seeds
from harness.core.system import Domain, Resources
from harness.data import DatasetConfig
from harness.fed.loop import federate
from harness.fed.population import Roles, assign_roles, popularity
from harness.fed.recorder import Recorder
from harness.fed.training import Outcome, Threat, Training
from harness.metrics.exposure import exposed_target_ranks
from harness.metrics.ranking import hit_ratio, target_rank
from harness.prepared import prepared_data
from harness.sheet import Sheet
from harness.truth import Truth
from models.lumos import Lumos
from models.lumos_device import WrittenViews

SMALL = {"embedding_size": 16, "num_blocks": 1, "optimizer": "sgd", "weight_decay": 0.0}
BLIND = {"future": False, "rephrased": False, "counterfactual": False}


@dataclass(frozen=True)
class World:
    """Users, their held-out items, and how LUMOS is set.

    Attributes:
        domain: training data.
        test: held-out item of each user.
        settings: of LUMOS.
        malicious: fraction of clients that attack where somebody does.
        num_targets: least popular items that targeted attacks promote.
        k: length of the list that exposure is measured in.
        views: what the devices train on besides the history; None trains without views.
    """

    domain: Domain
    test: np.ndarray
    settings: dict[str, Any]
    malicious: float = 0.2
    num_targets: int = 10
    k: int = 10
    views: WrittenViews | None = None

    @property
    def window(self) -> int:
        """Items of a history that a client trains on."""
        return Lumos(**{**self.settings, **BLIND}).config.window

    def roles(self, seed: int, attacked: bool) -> Roles:
        fraction = self.malicious if attacked else 0.0
        return assign_roles(self.domain.num_users, fraction, 0.0, Seeds(seed))

    def targets(self, seed: int) -> tuple[int, ...]:
        order = Seeds(seed).numpy("targets").permutation(self.domain.num_items)
        rare = order[np.argsort(popularity(self.domain)[order], kind="stable")]
        return tuple(int(item) for item in rare[: self.num_targets])


@dataclass(frozen=True)
class Run:
    """One training and what came of it.

    Attributes:
        honest: users who are honest whenever somebody attacks, so that runs pair.
    """

    world: World
    training: Training
    outcome: Outcome
    honest: np.ndarray = field(repr=False)

    def recovered(self, attack: InferenceAttack, metric: str) -> tuple[np.ndarray, float]:
        """Success of an attack of the server on each victim and its chance, by the real scorer."""
        truth = Truth(
            domain=self.world.domain,
            clean=self.world.domain.histories,
            test=self.world.test,
            evaluated=self.honest,
            victims=~self.training.threat.roles.malicious,
            honest_uploads=np.ones(0, dtype=bool),
            targets=(),
        )
        view = View(self.outcome.transcript, attack.threat_model)
        assert attack.declines(view) is None
        claims = attack.infer(view, self.training.seeds.child("attack"))
        sheet = Sheet({"run": "", "cell": "", "system": ""}, Seeds(0), draws=2)
        score_claims(sheet, attack, "attack", claims, truth, self.outcome.transcript.protocol)
        place = [block.metric for block in sheet.samples].index(metric)
        chance = next(row.chance for row in sheet.rows if row.metric == metric)
        return sheet.samples[place].values, chance

    def utility(self) -> np.ndarray:
        """Share of items ranked behind each honest user's test item, −1 to 1 and 0 by chance."""
        scores, seen = self._scores()
        ranks = target_rank(scores, self.world.test[self.honest], excluded=seen)
        return 1 - 2 * (ranks - 1) / ((~seen).sum(1) - 1)

    def exposure(self) -> np.ndarray:
        """Share of the honest users without it who are shown each target.

        By target and not by user: all users are shown a promoted item or none of them is, so users
        are no independent observations of a promotion.
        """
        scores, seen = self._scores()
        targets = np.array(self.training.threat.targets)
        ranks = exposed_target_ranks(scores, targets, seen)
        return np.nanmean(hit_ratio(ranks, self.world.k), axis=0)

    def weights(self) -> dict[str, Any]:
        """Every parameter of the released model."""
        return self.training.system.weights(self.outcome.state) or {}

    def message(self, round_index: int) -> Any:
        """What arrived in a recorded round."""
        return next(r.message for r in self.outcome.transcript.rounds if r.index == round_index)

    def _scores(self) -> tuple[np.ndarray, np.ndarray]:
        domain = self.world.domain
        contexts = [np.append(domain.histories[u], domain.validation[u]) for u in self.honest]
        seen = np.zeros((len(contexts), domain.num_items), dtype=bool)
        for row, context in enumerate(contexts):
            seen[row, context] = True
        return self.outcome.released.scores(self.honest, contexts), seen


def make_world(dataset: DatasetConfig, k: int = 10, **settings: Any) -> World:
    """Split a data set and set LUMOS up on it, without views."""
    data = prepared_data(dataset.model_dump_json())
    return World(data.domains[0], data.test, {**SMALL, **settings}, k=k)


def random_views(domain: Domain) -> WrittenViews:
    """Return views of random items in the form in which an LLM's are kept; no model is needed.

    What a defence does with the counterfactual view's weight does not hang on who wrote the view.
    """
    stream = Seeds(0).numpy("views")
    drawn = [stream.permutation(domain.num_items)[:10].tolist() for _ in domain.histories]
    pairs = [(h.tolist(), d) for h, d in zip(domain.histories, drawn, strict=True)]
    return WrittenViews(
        future=[[*h, *d[:3]] for h, d in pairs],
        rephrased=[[*h[:-1], d[3]] for h, d in pairs],
        counterfactual=[d[4:] for _, d in pairs],
        findings={},
    )


def train(
    world: World,
    defenses: Sequence[Defense] = (),
    attack: PoisoningAttack | None = None,
    *,
    seed: int = 0,
    record: Sequence[int] = (),
    **settings: Any,
) -> Run:
    """Run a whole training under one seed."""
    blind = Lumos(**{**world.settings, **settings, **BLIND})
    system = blind if world.views is None else Lumos(**{**world.settings, **settings})
    training = Training(
        system=system,
        domains=(world.domain,),
        defenses=tuple(defenses),
        threat=Threat(attack, world.roles(seed, attack is not None), world.targets(seed)),
        recorder=Recorder(frozenset(record), 0, Seeds(0)),
        reject_share=0.5,
        seeds=Seeds(seed).child("training"),
        progress=lambda text: None,
    )
    resources = Resources({}, Path("unused"), training.progress)
    state = blind.setup(training.domains, resources, training.seeds.child("setup"))
    outcome = federate(training, replace(state, views=world.views))
    honest = ~world.roles(seed, True).malicious & (world.test >= 0)
    return Run(world, training, outcome, np.flatnonzero(honest))
