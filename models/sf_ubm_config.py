"""Every choice of SF-UBM as a named option; see :mod:`models.sf_ubm` for the marks."""

from __future__ import annotations

from pydantic import Field

from harness.core.params import Params
from models.central import CentralConfig
from models.fkd import FkdConfig
from models.llm_stage import LLMStageConfig


class SfUbmConfig(Params):
    """Every choice of SF-UBM; defaults are the paper's where it states one."""

    backbone: CentralConfig = Field(
        default=CentralConfig(embedding_size=50, num_heads=1, dropout=0.5),
        description="SASRec, pre-trained and frozen; d = 50 [paper], 1 head, dropout 0.5 [lineage]",
    )
    num_clusters: int = Field(
        default=90, ge=1, le=10_000_000, description="K [paper: 90 / 100 / 70]"
    )
    max_iterations: int = Field(default=300, ge=1, le=1_000_000, description="of k-means [paper]")
    tolerance: float = Field(default=1e-4, ge=0, description="of k-means [paper]")
    federated: bool = Field(
        default=True, description="cluster both domains together; off clusters the own domain only"
    )
    fkd: FkdConfig = Field(default=FkdConfig(), description="stage 1c")
    language_stage: bool = Field(default=True, description="train and evaluate stage 2")
    stage2: LLMStageConfig = Field(default=LLMStageConfig(), description="stage 2")
    answer_users: int = Field(
        default=100, ge=0, le=100_000_000, description="test users that stage 2 answers for"
    )
    llm: str = Field(
        default="smollm2-135m", description="asset, path or hub name [paper: OPT-6.7B]"
    )
    encoder: str = Field(
        default="minilm-l6", description="asset, path or hub name [paper: 768-d SBERT]"
    )
