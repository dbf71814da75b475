"""LUMOS: an on-device LLM writes three views of a user's history; contrastive learning; FedAvg.

Nguyen et al., "Local LLM-driven Multi-view Optimization for Sequential recommendation",
arXiv:2602.09306v1 (2026). No code is public and the full text was read by a digest only; each
choice below carries its mark: [paper] the abstract, [digest-A] a third-party digest of sections 3
and 4, [lineage] the group's earlier systems (PTF-FSR, FELLAS), [ours] open in every source.

Objective of client u (section 3): L = L_rec + λ·L_CL; with cosine similarities s to the history's
last hidden state and Z = Σ_v exp(s_v/τ) over the three views,
L_CL = −log(exp(s_F/τ)/Z) − log(exp(s_P/τ)/Z); the counterfactual N stands in Z only [digest-A].
L_rec is binary cross-entropy with one sampled negative a position [lineage]. The server averages
the cohort's weights without weighting [digest-A].

The server sees every sampled client's weight delta, item rows included; the LLM's texts and views
never leave the device [paper].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.core.averaging import average
from harness.core.local import LocalSpec, Work
from harness.core.messages import Aggregate, Message, ModelAggregate, ModelSum, ModelUpdate
from harness.core.observe import Catalogue
from harness.core.params import Paper
from harness.core.registry import SYSTEMS
from harness.core.seeds import Seeds
from harness.core.system import Deviation, Domain, Part, Resources, System, Variant
from models.backbone import SequenceModel, build_backbone, initial_table
from models.compact import compact
from models.lumos_config import MAX_FUTURE, LumosConfig
from models.lumos_device import WrittenViews, packed_user, prepare_texts, write_views
from models.lumos_memory import chunk_size, client_bytes
from models.lumos_objective import ChunkLoss
from models.negatives import sample_negatives
from models.packing import PackedBatch, collate, collate_histories

_TABLE = "item table"


@dataclass(frozen=True)
class LumosState:
    """Global model and what each device keeps.

    Attributes:
        model: global weights.
        domain: each user's history, and the titles.
        views: what each device's LLM wrote; None where no view is in use.
    """

    model: SequenceModel
    domain: Domain
    views: WrittenViews | None


@SYSTEMS.register("lumos")
class Lumos(System):
    """LUMOS with one user a client."""

    paper = Paper("arXiv:2602.09306v1", "reimplementation")
    Config = LumosConfig
    emits = ModelUpdate
    features = frozenset({"counterfactual view"})
    deviations = (
        Deviation(
            "An item row is averaged over the clients that sent it, not over the cohort",
            "the literal mean divides a row that few clients touch by the whole cohort and stays "
            "at popularity; option item_aggregation: cohort gives it",
        ),
        Deviation(
            "L_rec is binary cross-entropy with one negative a position",
            "the sources say only 'standard next-item prediction loss'; lineage: PTF-FSR, FELLAS",
        ),
        Deviation(
            "The on-device LLM is SmolLM2-135M-Instruct, with prompts of our own",
            "neither the LLM nor its prompts are named in any source",
        ),
        Deviation(
            "Weight decay is decoupled and applies to the rows a client reads",
            "coupled decay under Adam would move every untouched row by a full step",
        ),
        Deviation(
            "Views are item sequences, aligned left",
            "an ID-based encoder cannot read text; left alignment lets views share their prefix",
        ),
    )

    def assets(self) -> dict[str, str]:
        """Return the LLM and the sentence encoder, if a view is in use."""
        config: LumosConfig = self.config
        if not (config.future or config.rephrased or config.counterfactual):
            return {}
        return {"llm": config.llm, "encoder": config.encoder}

    def num_rounds(self) -> int:
        """Return the number of rounds."""
        return self.config.rounds

    def cohort_size(self, num_clients: int) -> int:
        """Return the number of clients sampled a round, at least one."""
        return max(1, round(self.config.cohort_fraction * num_clients))

    def prepare(self, variants: Sequence[Variant], resources: Resources, part: Part) -> None:
        """Let the LLM write this part of all texts, into the cache."""
        if self.assets():
            prepare_texts([v.domains[0] for v in variants], self.config, resources, part)

    def setup(self, domains: tuple[Domain, ...], resources: Resources, seeds: Seeds) -> LumosState:
        """Write the views on every device and draw the initial weights."""
        domain, config = domains[0], self.config
        backbone = build_backbone(
            config.backbone,
            embedding_size=config.embedding_size,
            num_blocks=config.num_blocks,
            num_heads=config.num_heads,
            max_positions=config.max_length + MAX_FUTURE,
        )
        model = SequenceModel(
            backbone,
            backbone.initial(seeds),
            initial_table(domain.num_items, config.embedding_size, seeds),
            config.max_length,
        )
        views = write_views(domain, config, resources) if self.assets() else None
        return LumosState(model, domain, views)

    def local(self, state: LumosState, work: Work) -> Iterator[ModelUpdate | ModelSum]:
        """Train the cohort in chunks of similar length and yield their weight deltas."""
        clients = sorted(work.clients.tolist())
        sizes = [self._tokens(state, client) for client in clients]
        able = [place for place, tokens in enumerate(sizes) if tokens > 1]
        if not able:
            return
        order = sorted(able, key=lambda place: (sizes[place], clients[place]))
        # Draws hang on a client's place among the cohort, not on its order or on the chunk.
        shape = (len(clients), self.config.local_epochs, self.config.max_length)
        draws = work.seeds.numpy("negatives").random(shape)
        size = self._chunk_size(state, work, sizes[order[-1]])
        for start in range(0, len(order), size):
            chunk = order[start : start + size]
            yield self._train_chunk(state, work, [clients[place] for place in chunk], draws[chunk])

    def _tokens(self, state: LumosState, client: int) -> int:
        """Return at least the number of a client's packed tokens."""
        tokens = min(len(state.domain.histories[client]), self.config.max_length)
        if state.views is None or tokens < 2:
            return tokens
        views = (state.views.rephrased[client], state.views.counterfactual[client])
        return tokens + MAX_FUTURE + sum(min(len(view), self.config.max_length) for view in views)

    def _chunk_size(self, state: LumosState, work: Work, tokens: int) -> int:
        config: LumosConfig = self.config
        needed = client_bytes(state.model, tokens, config.num_blocks, self._spec())
        size = chunk_size(config.chunk_clients, work.memory_bytes, needed)
        if size < config.chunk_clients and work.round_index == 0:
            work.progress(
                f"memory for {size} clients at once instead of {config.chunk_clients}: "
                "results may differ from elsewhere in their last bits"
            )
        return size

    def _spec(self) -> LocalSpec:
        config: LumosConfig = self.config
        return LocalSpec(
            steps=config.local_epochs,
            optimizer=config.optimizer,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            clip_norm=config.clip_norm,
        )

    def _train_chunk(
        self,
        state: LumosState,
        work: Work,
        clients: list[int],
        draws: Float[np.ndarray, "client step position"],
    ) -> ModelUpdate | ModelSum:
        config: LumosConfig = self.config
        histories = [state.domain.histories[client] for client in clients]
        batch = self._packed(state, clients, histories, work.plan.counterfactual_weight > 0)
        positions = int(batch.lengths.max()) - 1
        contrast = config.contrastive_weight > 0 and bool(batch.present.any())
        # Without a view the last item of a history is a target and never an input.
        layout = batch.layout if contrast else batch.layout.first(positions)
        targets = batch.layout.ids[:, 1 : positions + 1]
        drawn = sample_negatives(draws[:, :, :positions], histories, len(state.model.table))
        negatives = _real(torch.from_numpy(drawn), batch)
        parts = [layout.ids, targets, negatives.flatten(1)]
        row_ids, index = compact(torch.cat(parts, 1))
        tokens, targets, negative_rows = index.split([part.shape[1] for part in parts], 1)
        loss = ChunkLoss(
            backbone=state.model.backbone,
            batch=batch,
            layout=layout,
            tokens=tokens,
            targets=targets,
            negatives=negative_rows.reshape(negatives.shape),
            contrastive_weight=config.contrastive_weight,
            temperature=config.temperature,
            counterfactual_weight=work.plan.counterfactual_weight,
            train_view_items=config.train_view_items,
        )
        trained = work.trainer.train(
            state.model.dense, state.model.table, row_ids, loss, self._spec(), summed=work.summed
        )
        kind = ModelSum if trained.summed else ModelUpdate
        return kind(torch.tensor(clients), trained.dense, row_ids, trained.rows, batch.lengths - 1)

    def _packed(
        self,
        state: LumosState,
        clients: list[int],
        histories: list[Int[np.ndarray, " event"]],
        counterfactual: bool,
    ) -> PackedBatch:
        views = state.views
        if views is None:
            return collate_histories(histories, self.config.max_length)
        users = zip(clients, histories, strict=True)
        return collate([packed_user(u, h, views, self.config, counterfactual) for u, h in users])

    def combine(
        self, state: LumosState, messages: Iterable[Message], seeds: Seeds
    ) -> ModelAggregate:
        """Average dense weights over the cohort, and item rows as configured."""
        over_cohort = self.config.item_aggregation == "cohort"
        return average(messages, len(state.model.table), over_cohort=over_cohort)

    def apply(self, state: LumosState, aggregate: Aggregate) -> LumosState:
        """Return the state with the aggregate added to the global model."""
        assert isinstance(aggregate, ModelAggregate)
        rate, model = self.config.server_learning_rate, state.model
        dense = {n: p + rate * aggregate.dense[n] for n, p in model.dense.items()}
        table = model.table.index_add(0, aggregate.row_ids, aggregate.rows, alpha=rate)
        return replace(state, model=replace(model, dense=dense, table=table))

    def weights(self, state: LumosState) -> dict[str, Tensor]:
        """Return the global model's parameters."""
        return {**state.model.dense, _TABLE: state.model.table}

    def with_weights(self, state: LumosState, weights: dict[str, Tensor]) -> LumosState:
        """Return the state with another global model."""
        dense = {name: weights[name] for name in state.model.dense}
        return replace(state, model=replace(state.model, dense=dense, table=weights[_TABLE]))

    def release(self, state: LumosState, seeds: Seeds) -> SequenceModel:
        """Return the global model."""
        return state.model

    def handle(self, state: LumosState) -> SequenceModel:
        """Return the global model as clients receive it."""
        return state.model

    def catalogue(self, state: LumosState) -> Catalogue:
        """Return the public titles; no text vectors are shared."""
        titles = state.domain.titles
        num_items = len(titles)
        return Catalogue(
            titles, torch.zeros(num_items, 0), torch.zeros(num_items, dtype=torch.int64)
        )

    def protocol(self) -> dict[str, Any]:
        """Return what every participant knows of local training."""
        config: LumosConfig = self.config
        return {
            "max_length": config.max_length,
            "steps": config.local_epochs,
            "optimizer": config.optimizer,
            "learning_rate": config.learning_rate,
        }

    def findings(self, state: LumosState) -> dict[str, float | None]:
        """Return figures on the LLM's views."""
        return state.views.findings if state.views else {}


def _real(
    negatives: Int[Tensor, "client step position"], batch: PackedBatch
) -> Int[Tensor, "client step position"]:
    """Put a client's own first item where it has no position, or nothing that it never had."""
    positions = torch.arange(negatives.shape[2])
    real = (positions < (batch.lengths - 1).reshape(-1, 1, 1)) & (negatives >= 0)
    return torch.where(real, negatives, batch.layout.ids[:, :1].unsqueeze(1))
