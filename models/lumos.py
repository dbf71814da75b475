"""LUMOS: an on-device LLM writes three views of a user's history; contrastive learning; FedAvg.

Nguyen et al., "Local LLM-driven Multi-view Optimization for Sequential recommendation",
arXiv:2602.09306v1 (2026). No code is public and the full text was read by a digest only; each
choice below carries its mark: [paper] the abstract, [digest-A] a third-party digest of sections 3
and 4, [lineage] the group's earlier systems (PTF-FSR, FELLAS), [ours] open in every source.

Objective of client u (section 3): L = L_rec + λ·L_CL; with cosine similarities s to the history's
last hidden state and Z = Σ_v exp(s_v/τ) over the three views,
L_CL = −log(exp(s_F/τ)/Z) − log(exp(s_P/τ)/Z); the counterfactual N stands in Z only [digest-A].
L_rec is binary cross-entropy with one sampled negative a position [lineage], or cross-entropy over
the whole catalogue (``loss: softmax``): the source's words, "standard next-item prediction loss",
allow both [digest-A]. The server averages the cohort's weights without weighting [digest-A].

Under the softmax every client moves every item row. Where nobody has to see single updates, they
are summed without ever being there. Where somebody does (an attack, a client stage, a robust rule,
a recorded round), an update is as large as the table: fewer clients then train at once, but whoever
reads the cohort as a whole holds cohort × catalogue × dim.

The server sees every sampled client's weight delta, item rows included; the LLM's texts and views
never leave the device [paper].
"""

# The fused list operations of torch are public in use, not in its type stubs.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harness.core.averaging import average
from harness.core.local import LocalSpec, LocalTask, Work
from harness.core.messages import Aggregate, Form, Message, ModelAggregate, ModelSum, ModelUpdate
from harness.core.observe import Catalogue
from harness.core.params import Paper
from harness.core.registry import SYSTEMS
from harness.core.seeds import Seeds
from harness.core.system import Deviation, Domain, Part, Resources, System, Variant
from models.backbone import SequenceModel, build_backbone, initial_table
from models.lumos_chunk import Negatives, Users, chunk_loss, packed, token_counts
from models.lumos_config import MAX_FUTURE, LumosConfig
from models.lumos_device import WrittenViews, encode_titles, prepare_texts, write_views
from models.lumos_memory import (
    CLIENTS,
    SHARED_TOKENS,
    TOKENS,
    chunk_size,
    client_bytes,
    cut,
    softmax_bytes,
)
from models.sequences import readable

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
            "the sources say only 'standard next-item prediction loss'; lineage: PTF-FSR, FELLAS; "
            "option loss: softmax is the other reading",
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

    def encode(self, variants: Sequence[Variant], resources: Resources, part: Part) -> None:
        """Embed this part of the titles, into the cache."""
        if self.assets():
            encode_titles([v.domains[0] for v in variants], self.config, resources, part)

    def doubts(self) -> list[str]:
        """Say so where nothing is trained."""
        if self.config.rounds:
            return []
        return ["rounds: 0 trains nothing: the model stays as drawn"]

    def prepares(self) -> bool:
        """Return whether there are views to write."""
        return bool(self.assets())

    def prepare(self, variants: Sequence[Variant], resources: Resources, part: Part) -> None:
        """Let the LLM write this part of all texts, into the cache."""
        prepare_texts([v.domains[0] for v in variants], self.config, resources, part)

    def setup(self, domains: tuple[Domain, ...], resources: Resources, seeds: Seeds) -> LumosState:
        """Write the views on every device and draw the initial weights."""
        domain, config = domains[0], self.config
        backbone = build_backbone(
            config.backbone,
            embedding_size=config.embedding_size,
            num_blocks=config.num_blocks,
            num_heads=config.num_heads,
            max_positions=config.window + MAX_FUTURE,
        )
        model = SequenceModel(
            backbone,
            backbone.initial(seeds),
            initial_table(domain.num_items, config.embedding_size, seeds),
            readable(domain.histories, config.max_length),
        )
        views = write_views(domain, config, resources) if self.assets() else None
        return LumosState(model, domain, views)

    def local(self, state: LumosState, work: Work) -> Iterator[ModelUpdate | ModelSum]:
        """Train the cohort in chunks of similar length and yield their weight deltas."""
        clients = sorted(work.clients.tolist())
        sizes = token_counts(clients, state.domain.histories, state.views, self.config)
        able = [place for place, tokens in enumerate(sizes) if tokens > 1]
        if not able:
            return
        order = sorted(able, key=lambda place: (sizes[place], clients[place]))
        negatives = Negatives(work.seeds, len(clients), self.config)

        def train(places: list[int], work: Work) -> Iterator[ModelUpdate | ModelSum]:
            for part in self._cut(state, work, [sizes[place] for place in places]):
                chunk = places[part]
                users = [clients[place] for place in chunk]
                message = self._train_chunk(state, work, users, negatives.of(chunk))
                # A broken sum is trained again by client, for the guard to see who it was.
                yield from (
                    train(chunk, replace(work, summed=False)) if message is None else [message]
                )

        yield from train(order, work)

    def _cut(self, state: LumosState, work: Work, sizes: Sequence[int]) -> list[slice]:
        """Cut clients, in the order of their tokens, into the chunks that train at once."""
        config: LumosConfig = self.config
        if config.chunk_clients is not None:
            most, tokens = config.chunk_clients, config.chunk_clients * sizes[-1]
        else:
            shared = work.summed and self._spec().one_plain_step
            most, tokens = (len(sizes), SHARED_TOKENS) if shared else (CLIENTS, TOKENS)
        wanted = min(most, max(1, tokens // sizes[-1]))
        fitting = self._fitting(state, work, sizes[-1], wanted)
        if fitting < wanted:
            most, tokens = min(most, fitting), fitting * sizes[-1]
        return cut(sizes, most, tokens)

    def _fitting(self, state: LumosState, work: Work, tokens: int, wanted: int) -> int:
        """Return how many clients of so many tokens the memory holds, at most those wanted."""
        config: LumosConfig = self.config
        needed = client_bytes(state.model, tokens, config.num_blocks, self._spec())
        free = work.memory_bytes
        if config.loss == "softmax":
            once, more = softmax_bytes(state.model, tokens, self._spec(), summed=work.summed)
            needed += more
            free = None if free is None else free - once
        size = chunk_size(wanted, free, needed)
        if size < wanted and work.round_index == 0:
            work.progress(
                f"memory for {size} clients at once instead of {wanted}: "
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
        draws: Float[np.ndarray, "client step position"] | None,
    ) -> ModelUpdate | ModelSum | None:
        """Return the chunk's message; None for a sum that the guard would refuse."""
        users = Users(clients, state.domain.histories, state.views)
        batch = packed(users, self.config, work.plan)
        row_ids, loss = chunk_loss(state.model, users, batch, draws, self.config, work.plan)
        model = state.model
        task = LocalTask(model.dense, model.table, row_ids, loss, self._spec())
        ids, examples = torch.from_numpy(np.array(clients)), batch.lengths - 1
        if work.summed:
            total = work.trainer.train_sum(task)
            if total is None:
                return None
            return ModelSum(
                ids, total.dense, total.item_ids, total.rows, total.senders, num_examples=examples
            )
        trained = work.trainer.train(task)
        if loss.every_row:
            row_ids = torch.arange(len(model.table)).repeat(len(ids), 1)
        return ModelUpdate(ids, trained.dense, row_ids, trained.rows, examples)

    def nobody(self, state: LumosState) -> ModelUpdate:
        """Return an update of the model by no client."""
        return ModelUpdate.of_nobody(state.model.dense, state.model.table)

    def form(self, state: LumosState) -> Form:
        """Return the form of an update of the model that is sent out."""
        return Form.like(self.nobody(state), below={"row_ids": len(state.model.table)})

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
        changes = [aggregate.dense[name] for name in model.dense]
        moved = torch._foreach_add(list(model.dense.values()), changes, alpha=rate)
        dense = dict(zip(model.dense, moved, strict=True))
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
        count = len(titles)
        return Catalogue(titles, torch.zeros(count, 0), torch.zeros(count, dtype=torch.int64))

    def protocol(self) -> dict[str, Any]:
        """Return what every participant knows of local training."""
        config: LumosConfig = self.config
        return {
            "max_length": config.max_length,
            "window": config.window,
            "steps": config.local_epochs,
            "optimizer": config.optimizer,
            "learning_rate": config.learning_rate,
        }

    def findings(self, state: LumosState) -> dict[str, float | None]:
        """Return figures on the LLM's views."""
        return state.views.findings if state.views else {}
