"""SF-UBM's exchange of text vectors: what two domains upload, and what a server makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from harness.claims import score_claims
from harness.core.attack import AttackContext, InferenceAttack, PoisoningAttack
from harness.core.defense import Defense, Federation
from harness.core.messages import CentroidReturn, EmbeddingUpload
from harness.core.observe import Catalogue, RoundRecord, Transcript, View
from harness.core.seeds import Seeds
from harness.core.system import Domain, Resources
from harness.fed.population import assign_roles
from harness.metrics.ranking import target_rank
from harness.sheet import Sheet
from harness.truth import Truth
from models.sf_ubm import SfUbm, SfUbmState
from models.upload_order import upload_order


@dataclass(frozen=True)
class TextWorld:
    """Both domains' clean vectors, and SF-UBM around them.

    Attributes:
        system: SF-UBM.
        state: before the exchange.
        test: held-out item of each user of the target; none where there are no users.
    """

    system: SfUbm
    state: SfUbmState
    test: np.ndarray

    @property
    def federation(self) -> Federation:
        return Federation(2, 2, 1, len(self.state.text), round_index=0)

    @property
    def catalogue(self) -> Catalogue:
        return self.system.catalogue(self.state)

    def clean(self) -> EmbeddingUpload:
        """What the domains would send without a defence."""
        return EmbeddingUpload(self.state.owner, self.state.text[self.state.order])

    def sent(self, defenses: Sequence[Defense], seed: int) -> EmbeddingUpload:
        """What they send under the defences' client stages."""
        message = self.clean()
        for place, defense in enumerate(defenses):
            defense.setup(self.federation)
            stage = Seeds(seed).child("client stage", place)
            message = defense.on_client(message, self.federation, stage)
        return message

    def centroids(self, message: EmbeddingUpload, seed: int) -> CentroidReturn:
        """What the server returns."""
        aggregate = self.system.combine(self.state, [message], Seeds(seed).child("combine"))
        assert isinstance(aggregate, CentroidReturn)
        return aggregate

    def crafted(self, attack: PoisoningAttack, message: EmbeddingUpload, seed: int) -> Any:
        """The message after malicious clients replaced their share of the source's uploads."""
        view = View(self._transcript(message, ()), attack.threat_model)
        context = AttackContext(0, 1, (), len(message), {})
        return attack.craft(view, message, self.malicious(seed), context, Seeds(seed))

    def malicious(self, seed: int) -> torch.Tensor:
        """One in five uploads of the source domain."""
        source = self.state.owner == 1
        crafted = torch.zeros(len(source), dtype=torch.bool)
        roles = assign_roles(int(source.sum()), 0.2, 0.0, Seeds(seed).child("uploads"))
        crafted[source] = torch.from_numpy(roles.malicious)
        return crafted

    def utility(self, defenses: Sequence[Defense], seed: int) -> np.ndarray:
        """Stage 1's place for each target user's test item, −1 to 1 and 0 by chance."""
        returned = self.centroids(self.sent(defenses, seed), seed)
        state = self.system.apply(self.state, returned)
        released = self.system.release(state, Seeds(seed).child("release"))
        domain, users = self.state.domains[0], np.flatnonzero(self.test >= 0)
        contexts = [np.append(domain.histories[u], domain.validation[u]) for u in users]
        seen = np.zeros((len(users), domain.num_items), dtype=bool)
        for row, context in enumerate(contexts):
            seen[row, context] = True
        ranks = target_rank(released.scores(users, contexts), self.test[users], excluded=seen)
        return 1 - 2 * (ranks - 1) / ((~seen).sum(1) - 1)

    def identified(
        self, attack: InferenceAttack, defenses: Sequence[Defense], seed: int, metric: str = "top1"
    ) -> tuple[np.ndarray, float]:
        """Success on each upload and its chance, by the real scorer."""
        message = self.sent(defenses, seed)
        transcript = self._transcript(message, defenses)
        claims = attack.infer(View(transcript, attack.threat_model), Seeds(seed).child("attack"))
        sheet = Sheet({"run": "", "cell": "", "system": ""}, Seeds(0), draws=2)
        score_claims(sheet, attack, "attack", claims, self._truth(), {})
        values = next(block.values for block in sheet.samples if block.metric == metric)
        return values, next(row.chance for row in sheet.rows if row.metric == metric)

    def _truth(self) -> Truth:
        domain = self.state.domains[0]
        return Truth(
            domain=domain,
            clean=domain.histories,
            test=np.zeros(0, dtype=np.int64),
            evaluated=np.zeros(0, dtype=np.int64),
            victims=np.zeros(0, dtype=bool),
            honest_uploads=np.ones(len(self.state.text), dtype=bool),
            targets=(),
            upload_items=self.state.order.numpy(),
        )

    def _transcript(self, message: EmbeddingUpload, defenses: Sequence[Defense]) -> Transcript:
        in_force = tuple({"use": d.name, **d.config.model_dump()} for d in defenses)
        return Transcript((RoundRecord(0, message, None, None),), self.catalogue, in_force)


def clustered(sizes: tuple[int, int] = (150, 90), dim: int = 24) -> TextWorld:
    """Unit vectors around twenty centres, as titles of genres are; no encoder is needed."""
    stream = Seeds(0).torch("clustered")
    total = sum(sizes)
    centres = torch.randn(20, dim, generator=stream)
    vectors = centres[torch.arange(total) % 20] + 0.7 * torch.randn(total, dim, generator=stream)
    domains = tuple(_silent(f"domain {place}", size) for place, size in enumerate(sizes))
    return _world(domains, F.normalize(vectors, dim=1), num_clusters=30)


def pairs(distance: float, count: int) -> TextWorld:
    """``count`` domains of two unit vectors each, ``distance`` apart: the case theory solves."""
    angle = 2 * np.arcsin(distance / 2)
    two = torch.tensor([[1.0, 0.0, 0.0], [np.cos(angle), np.sin(angle), 0.0]])
    domains = tuple(_silent(f"domain {place}", 2) for place in range(count))
    return _world(domains, two.repeat(count, 1).float(), num_clusters=2)


def _silent(name: str, num_items: int) -> Domain:
    titles = tuple(f"{name} item {item}" for item in range(num_items))
    return Domain(name, (), titles, titles, np.zeros(0, dtype=np.int64))


def _world(domains: tuple[Domain, ...], vectors: torch.Tensor, num_clusters: int) -> TextWorld:
    sizes = torch.tensor([domain.num_items for domain in domains])
    owner = torch.arange(len(domains)).repeat_interleave(sizes)
    resources = Resources({}, Path("unused"), lambda text: None)
    order = upload_order(owner, Seeds(0).child("upload order"))
    state = SfUbmState(domains, vectors, owner, order, None, resources, Seeds(0))
    system = SfUbm(num_clusters=num_clusters, language_stage=False)
    return TextWorld(system, state, np.zeros(0, dtype=np.int64))


def encoded(domains: tuple[Domain, ...], test: np.ndarray, resources: Resources) -> TextWorld:
    """Real titles through the real sentence encoder."""
    system = SfUbm(language_stage=False)
    return TextWorld(system, system.setup(domains, resources, Seeds(0).child("setup")), test)
