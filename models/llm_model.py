"""The language model of SF-UBM's stage 2 with its projectors, and the settings of the stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from harness.core.device import Device
from harness.core.params import Params
from harness.core.seeds import Seeds
from harness.language.llm import Dtype, load_llm, resolved
from models.llm_training import ItemSide
from models.soft_prompt import Batch, Lexicon, Pack, Projectors, build_lexicon, collate


class LLMStageConfig(Params):
    """Settings of stage 2; defaults are what works on two cores, not what the paper prints."""

    layout: Literal["paper", "matched"] = Field(
        default="matched", description="template; paper: A-LLMRec's order [lineage]; matched [ours]"
    )
    projector: Literal["paper", "matched"] = Field(
        default="matched",
        description="F_U, F_I; paper: two MLPs [lineage]; matched: one space [ours]",
    )
    tune: Literal["frozen", "lora", "full"] = Field(
        default="full",
        description="what of the LLM learns; the paper is contradictory [inferred: frozen]",
    )
    num_train: int = Field(
        default=16_000, ge=1, le=100_000_000, description="training sequences of stage 2 [ours]"
    )
    rank_steps: int = Field(
        default=120, ge=0, le=10_000_000, description="ranking steps of the projectors alone [ours]"
    )
    rank_temperature: float = Field(
        default=0.3, gt=0, description="temperature of that loss [ours]"
    )
    recall_share: float = Field(
        default=0.15, ge=0, le=1, description="share of sequences: recall [ours]"
    )
    anneal_share: float = Field(
        default=0.25, ge=0, le=1, description="share: item to user token [ours]"
    )
    history_from: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="share of sequences after which prompts show history [ours]",
    )
    num_history: int = Field(
        default=5, ge=0, le=10_000, description="titles of history; A-LLMRec shows 10 [ours]"
    )
    num_candidates: int = Field(
        default=20, ge=2, le=10_000, description="1 positive + 19 random [lineage]"
    )
    pack_size: int = Field(
        default=10, ge=1, le=10_000, description="questions that share a candidate list [ours]"
    )
    packs_per_step: int = Field(
        default=1, ge=1, le=10_000, description="packs per optimiser step [ours]"
    )
    learning_rate: float = Field(default=1e-4, gt=0, description="Adam, of the LLM [ours]")
    projector_learning_rate: float = Field(
        default=5e-4, gt=0, description="Adam; paper 1e-4 [ours]"
    )
    lora_rank: int = Field(default=16, ge=1, le=4096, description="rank where tune is lora [ours]")
    dtype: Dtype = Field(
        default="auto", description="compute type; auto: bfloat16 where the CPU has it [ours]"
    )
    max_new_tokens: int = Field(default=32, ge=1, le=4096, description="longest answer [ours]")
    noun: str = Field(
        default="item", description="what the prompt calls an item, e.g. movie [lineage]"
    )

    @model_validator(mode="after")
    def _history_is_trained(self) -> LLMStageConfig:
        if self.num_history and self.history_from >= 1:
            raise ValueError(
                "history_from: 1 never trains on a history that answering would then show; "
                "set num_history: 0 to leave history out"
            )
        return self

    def compute_dtype(self, device: Device = "cpu") -> torch.dtype:
        """Return the number format that the LLM computes in on ``device``."""
        return resolved(self.dtype, device)


@dataclass
class SoftPromptLLM:
    """A language model with its projectors, trained or about to be."""

    config: LLMStageConfig
    tokenizer: Any
    model: Any
    projectors: Projectors
    lexicon: Lexicon
    items: ItemSide
    device: Device = "cpu"

    def item_tokens(self, items: Int[Tensor, " item"]) -> Float[Tensor, "item width"]:
        """Soft tokens of the given items."""
        matched = self.config.projector == "matched"
        vectors = self.items.decoded if matched else self.items.code
        return self.projectors.items(vectors[items.to(vectors.device)].to(self.device))

    def user_tokens(
        self, states: Float[Tensor, "question dim"], rows: Int[Tensor, " asker"]
    ) -> Float[Tensor, "asker width"]:
        """Soft tokens of the users whose states stand in the given rows."""
        return self.projectors.users(states[rows.to(states.device)].to(self.device))

    def collated(self, packs: Sequence[Pack]) -> Batch:
        """Lay packs out as one batch where the LLM is."""
        return Batch(*(tensor.to(self.device) for tensor in collate(packs, self.lexicon)))

    def embed(
        self, batch: Batch, states: Float[Tensor, "question dim"], share: float = 1.0
    ) -> Float[Tensor, "pack token width"]:
        """Input embeddings of a batch.

        Args:
            batch: collated packs.
            states: user states, indexed by ``batch.state``.
            share: how far the asking token has moved from the target's item token (0) to the
                user token (1). Anything below 1 shows the label and is for training only.
        """
        table = self.model.get_input_embeddings()
        out = table(batch.ids).detach().float()
        used, place = torch.cat([batch.item, batch.target]).unique(return_inverse=True)
        tokens = self.item_tokens(used)
        rows, columns = batch.item_slot.T
        out = out.index_put((rows, columns), tokens[place[: len(batch.item)]])
        if len(batch.state):
            users = self.user_tokens(states, batch.state)
            if share < 1:
                users = _between(tokens[place[len(batch.item) :]], users, share)
            rows, columns = batch.user_slot.T
            out = out.index_put((rows, columns), users)
        return out

    def label_logits(
        self, batch: Batch, embeds: Float[Tensor, "pack token width"]
    ) -> Float[Tensor, "label vocabulary"]:
        """Logits at the positions that predict an answer token, and nowhere else."""
        body = self.model.get_decoder()
        with self.autocast():
            hidden = body(
                inputs_embeds=embeds.to(self.model.dtype),
                attention_mask=batch.mask,
                position_ids=batch.position,
                use_cache=False,
            ).last_hidden_state
            rows, columns = batch.label_slot.T
            return self.model.get_output_embeddings()(hidden[rows, columns]).float()

    def autocast(self) -> Any:
        """Bfloat16 arithmetic over float32 weights, where the LLM itself is trained so."""
        mixed = self.config.compute_dtype(self.device) != self.model.dtype
        return torch.autocast(self.device, torch.bfloat16) if mixed else nullcontext()


def _between(
    start: Float[Tensor, "asker width"], stop: Float[Tensor, "asker width"], share: float
) -> Float[Tensor, "asker width"]:
    """Vectors at ``share`` of the way, with their lengths interpolated too."""
    mixed = (1 - share) * start + share * stop
    length = (1 - share) * start.norm(dim=-1) + share * stop.norm(dim=-1)
    return F.normalize(mixed, dim=-1) * length[:, None]


def prepare(
    config: LLMStageConfig,
    llm_path: Path,
    items: ItemSide,
    dim: int,
    seeds: Seeds,
    device: Device = "cpu",
) -> SoftPromptLLM:
    """Load the LLM, choose what of it learns, and draw the projectors."""
    master = torch.float32 if config.tune == "full" else config.compute_dtype(device)
    tokenizer, model = load_llm(llm_path, master, device=device)
    table = model.get_input_embeddings().weight
    norm = float(table.detach().float().norm(dim=1).mean())
    model.requires_grad_(False)
    if config.tune == "full":
        model.get_decoder().requires_grad_(True)
        table.requires_grad_(False)
    elif config.tune == "lora":
        _add_lora(model, config.lora_rank, seeds.torch("lora"))
    vectors = items.decoded if config.projector == "matched" else items.code
    projectors = Projectors(
        config.projector, (dim, vectors.shape[1]), table.shape[1], norm, seeds.torch("projectors")
    )
    lexicon = build_lexicon(tokenizer, items.titles, config.layout, config.noun)
    return SoftPromptLLM(config, tokenizer, model, projectors.to(device), lexicon, items, device)


def _add_lora(model: Any, rank: int, generator: torch.Generator) -> None:
    """Inject adapters into every linear layer but the head, drawn from ``generator``."""
    from peft import LoraConfig, inject_adapter_in_model

    linear = (n for n, m in model.get_decoder().named_modules() if type(m) is nn.Linear)
    names = sorted({name.rsplit(".", 1)[-1] for name in linear})
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names), model)
    for name, weight in model.named_parameters():
        if "lora_A" in name:
            bound = 1 / math.sqrt(weight.shape[1])
            drawn = torch.empty(weight.shape).uniform_(-bound, bound, generator=generator)
            weight.data = drawn.to(weight.device)
        elif "lora_B" in name:
            weight.data = torch.zeros(weight.shape, device=weight.device)
