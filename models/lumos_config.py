"""Every choice of LUMOS as a named option; see :mod:`models.lumos` for the marks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.core.params import Params
from models.backbone import BackboneName
from models.lumos_views import ViewsConfig

MAX_FUTURE = 5
"""Items a future view appends at most [digest-A: 3-5]; they need positions past the history's."""


class LumosConfig(Params):
    """Every choice of LUMOS; defaults are the source's, tuned ones say so."""

    backbone: BackboneName = Field(
        default="sasrec", description="[digest-A: SASRec, GRU4Rec alternative]"
    )
    embedding_size: int = Field(default=64, ge=2, le=8192, description="[digest-A's usage example]")
    num_blocks: int = Field(default=2, ge=1, le=128, description="[digest-A's usage example]")
    num_heads: int = Field(default=2, ge=1, le=512, description="[ours; lineage: 1]")
    max_length: int = Field(
        default=50, ge=2, le=100_000, description="history items read [digest-A]"
    )
    rounds: int = Field(default=100, ge=0, le=1_000_000, description="[digest-A: 100]")
    cohort_fraction: float = Field(
        default=0.1, gt=0, le=1, description="clients a round [digest-A: 0.1]"
    )
    local_epochs: int = Field(
        default=5, ge=1, le=100_000, description="one step each: a client's data is one batch"
    )
    loss: Literal["binary", "softmax"] = Field(
        default="binary",
        description="L_rec: binary cross-entropy with one sampled negative a position [lineage] "
        "or cross-entropy over the whole catalogue, the other reading of 'standard next-item "
        "prediction loss' [digest-A]",
    )
    optimizer: Literal["adam", "sgd"] = Field(default="adam", description="[digest-A: Adam]")
    learning_rate: float = Field(default=1e-3, gt=0, description="[digest-A: 1e-3]")
    weight_decay: float = Field(
        default=1e-5, ge=0, description="[digest-A: 1e-5]; decoupled [ours]"
    )
    clip_norm: float = Field(
        default=5.0, ge=0, description="per-step gradient clipping [digest-A: 5.0]"
    )
    contrastive_weight: float = Field(default=0.1, ge=0, description="λ [digest-A: 0.1]")
    train_view_items: bool = Field(
        default=True,
        description="let L_CL move the embeddings of items that only the views hold [digest-A: one "
        "joint loss]; off trains the encoder and the history's items alone [ours]",
    )
    temperature: float = Field(default=0.07, gt=0, description="τ [digest-A: 0.07]")
    future: bool = Field(default=True, description="use the future view [paper]")
    rephrased: bool = Field(default=True, description="use the rephrased view [paper]")
    counterfactual: bool = Field(default=True, description="use the counterfactual view [paper]")
    item_aggregation: Literal["touched", "cohort"] = Field(
        default="touched",
        description="average an item row over the clients that sent it [ours], or over the whole "
        "cohort as a literal reading of the mean has it [digest-A], which ends at popularity",
    )
    server_learning_rate: float = Field(
        default=1.0, gt=0, description="1 is plain averaging [digest-A]"
    )
    chunk_clients: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="clients trained at once (memory, not result); null: by their tokens",
    )
    views: ViewsConfig = Field(default=ViewsConfig(), description="how the LLM writes the views")
    llm: str = Field(
        default="smollm2-135m", description="asset, path or hub name [not stated anywhere]"
    )
    encoder: str = Field(
        default="minilm-l6", description="sentence encoder that grounds LLM text [ours]"
    )

    @property
    def window(self) -> int:
        """Most recent items that a client trains on: all it reads, and what follows the last."""
        return self.max_length + 1
