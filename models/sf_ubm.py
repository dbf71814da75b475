"""SF-UBM: two domains share perturbed item-text vectors, the server clusters them, an LLM answers.

Guo et al., arXiv:2604.14833v1 (2026), section 3. Each domain is a client. Stage 1a (equations 1-7):
SentenceBERT vectors of all its items, perturbed by the defence ``replacement`` (kept apart here so
that it can be switched off and swept), are uploaded once [inferred: nothing uploaded changes with
training], in an order that the domain draws and keeps [ours]: in the catalogue's own, a vector's
place would name its item at any noise. Stage 1b: k-means++ on the server returns each item its
cluster centre. Stage 1c (equations 8-14): :mod:`models.fkd`. Stage 2 (equations 15-17):
:mod:`models.llm_stage` injects soft prompts into an LLM that names one of 20 candidates.

The server sees one vector an item and nothing of the interactions; no gradient is ever sent, so
gradient inversion does not apply and interaction membership is undefined on this channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.core.clusters import k_means
from harness.core.errors import RunError
from harness.core.local import Work
from harness.core.messages import Aggregate, CentroidReturn, EmbeddingUpload, Form, Message
from harness.core.observe import Catalogue
from harness.core.params import Paper
from harness.core.registry import SYSTEMS
from harness.core.seeds import Seeds
from harness.core.system import Answers, Deviation, Domain, Part, Resources, System, Variant
from harness.language.encoder import SentenceEncoder
from models.backbone import SequenceModel
from models.fkd import FkdData, Mapping, fit_fkd
from models.llm_stage import ItemSide, LLMStage
from models.pretrain import pretrained
from models.sf_ubm_config import SfUbmConfig
from models.stage2_data import draw_questions
from models.upload_order import upload_order


@dataclass(frozen=True)
class SfUbmState:
    """What the two domains and the server hold.

    Attributes:
        domains: target first, source second.
        text: clean unit-length text vectors of all items, target's first.
        owner: domain of each item, and so of each upload.
        order: item behind each uploaded vector; its domain's secret.
        centroids: returned vectors of all items; None before the exchange.
        resources: where models lie.
        backbone_seeds: stream of the pre-training.
    """

    domains: tuple[Domain, ...]
    text: Float[Tensor, "item dim"]
    owner: Int[Tensor, " item"]
    order: Int[Tensor, " upload"]
    centroids: Float[Tensor, "item dim"] | None
    resources: Resources
    backbone_seeds: Seeds


@dataclass(frozen=True)
class SfUbmReleased:
    """The target domain's recommender.

    Attributes:
        model: frozen sequence model.
        decoded: decoded enhanced item embeddings, which stage 1 scores against.
        stage2: trained language stage, or None where it is left out.
        answer_limit: users that stage 2 answers for.
    """

    model: SequenceModel
    decoded: Float[Tensor, "item dim"]
    stage2: LLMStage | None
    answer_limit: int

    @property
    def caveat(self) -> str:
        """What a reader should know of the pre-training."""
        return self.model.caveat

    @property
    def references(self) -> dict[str, SequenceModel]:
        """Return the frozen SASRec before the distillation: what stage 1c adds or costs."""
        return {"backbone": self.model}

    def scores(
        self, users: Int[np.ndarray, " user"], histories: Sequence[Int[np.ndarray, " event"]]
    ) -> Float[np.ndarray, "user item"]:
        """Return stage 1's scores ⟨x_u, Dec_ID(f_ID(E_i))⟩ (equation 13)."""
        del users
        return (self.model.encode([h.tolist() for h in histories]) @ self.decoded.T).numpy()

    def answer(
        self,
        users: Int[np.ndarray, " user"],
        histories: Sequence[Int[np.ndarray, " event"]],
        candidates: Int[np.ndarray, "user candidate"],
    ) -> dict[str, Answers]:
        """Return stage 2's answers, and those of the LLM without soft prompts or training."""
        assert self.stage2 is not None
        states = self.model.encode([h.tolist() for h in histories])
        return {
            "stage 2": self.stage2.answer(states, histories, candidates),
            "LLM only": self.stage2.base_answer(histories, candidates),
        }


@SYSTEMS.register("sf_ubm")
class SfUbm(System):
    """SF-UBM with one domain a client; the first domain is the target."""

    paper = Paper("arXiv:2604.14833v1", "reimplementation")
    Config = SfUbmConfig
    emits = EmbeddingUpload
    client_unit = "domain"
    deviations = (
        Deviation(
            "The LLM is SmolLM2-135M-Instruct, the encoder MiniLM (384-d)",
            "the paper's OPT-6.7B and 768-d SentenceBERT need a GPU and a model hub; any path or "
            "hub name works in the same fields",
        ),
        Deviation(
            "Stage 2 puts each soft token before its title and the user's last, warms up the "
            "choice itself, and tunes the whole LLM",
            "with the token loss alone a small LLM learns to copy a candidate and chooses at "
            "chance; scenarios/paper/sf_ubm.yaml gives the paper's form",
        ),
        Deviation(
            "FKD runs at learning rate 1e-3 instead of 1e-4",
            "ten epochs at 1e-4 do not converge on data of this size",
        ),
        Deviation(
            "The source domain trains no recommender",
            "only its text vectors reach the server, so nothing of its training could matter",
        ),
        Deviation(
            "Sequences are pooled item by item in equations 8-12",
            "the paper does not say how a sequence becomes one vector",
        ),
    )

    def assets(self) -> dict[str, str]:
        """Return the encoder, and the LLM where stage 2 runs."""
        config: SfUbmConfig = self.config
        llm = {"llm": config.llm} if config.language_stage else {}
        return {"encoder": config.encoder, **llm}

    def num_rounds(self) -> int:
        """The exchange is one-shot [inferred]."""
        return 1

    def encode(self, variants: Sequence[Variant], resources: Resources, part: Part) -> None:
        """Embed this part of both catalogues' texts, into the cache."""
        encoder = _encoder(resources)
        for domain in variants[0].domains:
            encoder.encode_part(list(domain.item_text), part.index, part.count)

    def prepare(self, variants: Sequence[Variant], resources: Resources, part: Part) -> None:
        """Pre-train this part of the target's sequence models, into the cache."""
        for variant in variants[part.index :: part.count]:
            self._pretrained(self.setup(variant.domains, resources, variant.seeds))

    def _pretrained(self, state: SfUbmState) -> SequenceModel:
        resources = state.resources
        return pretrained(
            state.domains[0],
            self.config.backbone,
            state.backbone_seeds,
            resources.cache,
            resources.progress,
        )

    def setup(self, domains: tuple[Domain, ...], resources: Resources, seeds: Seeds) -> SfUbmState:
        """Encode both catalogues (equation 1, unit length)."""
        encoder = _encoder(resources)
        texts = [torch.from_numpy(encoder.encode(list(d.item_text))) for d in domains]
        owner = [torch.full((len(t),), d, dtype=torch.int64) for d, t in enumerate(texts)]
        return SfUbmState(
            domains=domains,
            text=torch.cat(texts),
            owner=torch.cat(owner),
            order=upload_order(torch.cat(owner), seeds.child("upload order")),
            centroids=None,
            resources=resources,
            backbone_seeds=seeds.child("backbone"),
        )

    def local(self, state: SfUbmState, work: Work) -> Iterator[EmbeddingUpload]:
        """Upload every item's text vector; perturbation is the defence's client stage."""
        yield EmbeddingUpload(state.owner, state.text[state.order])

    def form(self, state: SfUbmState) -> Form:
        """Return the form of an upload: one vector for each item of the domain."""
        nobody = EmbeddingUpload(state.owner[:0], state.text[:0])
        rows = {place: domain.num_items for place, domain in enumerate(state.domains)}
        return Form.like(nobody, rows=rows)

    def combine(
        self, state: SfUbmState, messages: Iterable[Message], seeds: Seeds
    ) -> CentroidReturn:
        """Cluster all uploads (or each domain's own) and return each item its centre."""
        message = EmbeddingUpload.join([m for m in messages if isinstance(m, EmbeddingUpload)])
        config: SfUbmConfig = self.config
        groups = torch.zeros_like(message.domain) if config.federated else message.domain
        vectors = torch.zeros_like(message.vectors)
        assignment = torch.zeros_like(message.domain)
        for group in groups.unique().tolist():
            rows = groups == group
            centres, labels = k_means(
                message.vectors[rows],
                config.num_clusters,
                max_iterations=config.max_iterations,
                tolerance=config.tolerance,
                seeds=seeds.child("group", group),
            )
            vectors[rows] = centres[labels]
            assignment[rows] = labels + group * config.num_clusters
        return CentroidReturn(message.domain, vectors, assignment)

    def apply(self, state: SfUbmState, aggregate: Aggregate) -> SfUbmState:
        """Give centroids back to the items whose vectors were sent; a refused domain gets none.

        Raises:
            RunError: the target domain gets none.
        """
        assert isinstance(aggregate, CentroidReturn)
        if not bool((aggregate.domain == 0).any()):
            raise RunError("the target domain's upload was refused, so it gets no centroids")
        centroids = torch.full_like(state.text, float("nan"))
        centroids[state.order[torch.isin(state.owner, aggregate.domain)]] = aggregate.vectors
        return replace(state, centroids=centroids)

    def upload_items(self, state: SfUbmState) -> Int[Tensor, " upload"]:
        """Return the order in which the domains sent their items."""
        return state.order

    def release(self, state: SfUbmState, seeds: Seeds) -> SfUbmReleased:
        """Pre-train SASRec, distil (stage 1c) and train the language stage (stage 2)."""
        config, model = self.config, self._pretrained(state)
        mapping = self._distil(state, model, seeds)
        decoded = mapping.decoded(model.table)
        stage2 = self._language_stage(state, model, mapping, seeds)
        return SfUbmReleased(model, decoded, stage2, config.answer_users if stage2 else 0)

    def _distil(self, state: SfUbmState, model: SequenceModel, seeds: Seeds) -> Mapping:
        target = state.domains[0]
        own = state.owner == 0
        assert state.centroids is not None
        data = FkdData(
            model=model,
            histories=target.histories,
            states=model.encode([h[:-1].tolist() for h in target.histories]),
            federated=state.centroids[own],
            text=state.text[own],
        )
        return fit_fkd(data, self.config.fkd, seeds.child("fkd"))

    def _language_stage(
        self, state: SfUbmState, model: SequenceModel, mapping: Mapping, seeds: Seeds
    ) -> LLMStage | None:
        """Train stage 2 on every moment of the training histories; None where it is left out."""
        config, target = self.config, state.domains[0]
        if not config.language_stage:
            return None
        items = ItemSide(
            titles=target.titles,
            code=mapping.codes(model.table),
            decoded=mapping.decoded(model.table),
        )
        return LLMStage.fit(
            config.stage2,
            Path(state.resources.paths["llm"]),
            items,
            draw_questions(model, target.histories, config.stage2.num_train, seeds),
            seeds.child("stage 2"),
            state.resources.progress,
            state.resources.cache / "texts.sqlite",
            state.resources.device,
        )

    def catalogue(self, state: SfUbmState) -> Catalogue:
        """Return both domains' public titles with the public encoder's vectors."""
        titles = tuple(title for domain in state.domains for title in domain.titles)
        return Catalogue(titles, state.text, state.owner)

    def protocol(self) -> dict[str, Any]:
        """Return what every participant knows."""
        return {"num_clusters": self.config.num_clusters, "encoder": self.config.encoder}


def _encoder(resources: Resources) -> SentenceEncoder:
    cache, say = resources.cache / "embeddings", resources.progress
    return SentenceEncoder(resources.paths["encoder"], cache=cache, progress=say)
