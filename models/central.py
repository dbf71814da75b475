"""SASRec trained centrally: the upper anchor of a federation, and SF-UBM's pre-training.

Kang and McAuley, ICDM 2018, arXiv:1808.09781, section 3.5: binary cross-entropy with one sampled
negative a position [paper]; Adam, dropout [paper]. The number of epochs is chosen on the
validation items by NDCG [ours].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from harness.core.params import Params
from harness.core.scores import block_rows
from harness.core.seeds import Seeds
from harness.core.system import Domain
from models.backbone import BackboneName, SequenceModel, build_backbone, initial_table
from models.sequences import causal_layout, complement_sample


class CentralConfig(Params):
    """How to train one sequence model on pooled histories."""

    backbone: BackboneName = Field(default="sasrec", description="sequence encoder")
    embedding_size: int = Field(
        default=64, ge=2, le=8192, description="width [digest-A's usage example: 64]"
    )
    num_blocks: int = Field(default=2, ge=1, le=128, description="attention blocks [paper: 2]")
    num_heads: int = Field(default=2, ge=1, le=512, description="heads [ours; paper: 1]")
    max_length: int = Field(
        default=50, ge=2, le=100_000, description="history items read [digest-A: 50]"
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="[paper: 0.2 on dense data]")
    learning_rate: float = Field(default=1e-3, gt=0, description="Adam [paper: 1e-3]")
    batch_size: int = Field(
        default=128, ge=1, le=1_000_000, description="sequences a step [paper: 128]"
    )
    epochs: int = Field(
        default=100, ge=1, le=100_000, description="upper limit; the best on validation is kept"
    )
    check_every: int = Field(
        default=5, ge=1, le=100_000, description="epochs between validations [ours]"
    )
    patience: int = Field(
        default=4, ge=1, le=100_000, description="validations without gain before stopping [ours]"
    )


def fit_central(
    domain: Domain,
    config: CentralConfig,
    seeds: Seeds,
    progress: Callable[[str], None] = lambda text: None,
) -> SequenceModel:
    """Train on all histories of ``domain`` and return the model that was best on validation."""
    backbone = build_backbone(
        config.backbone,
        embedding_size=config.embedding_size,
        num_blocks=config.num_blocks,
        num_heads=config.num_heads,
        max_positions=config.max_length,
    )
    dense = {n: p.requires_grad_() for n, p in backbone.initial(seeds).items()}
    table = initial_table(domain.num_items, config.embedding_size, seeds).requires_grad_()
    optimizer = torch.optim.Adam([*dense.values(), table], lr=config.learning_rate)
    model = SequenceModel(backbone, dense, table, config.max_length)
    best, best_score, stale = _snapshot(model), -1.0, 0
    for epoch in range(1, config.epochs + 1):
        _epoch(model, optimizer, domain, config, seeds.child("epoch", epoch))
        if epoch % config.check_every and epoch != config.epochs:
            continue
        score = validation_ndcg(_snapshot(model), domain)
        stale = 0 if score > best_score else stale + 1
        if score > best_score:
            best, best_score = _snapshot(model), score
        progress(f"{domain.name}: epoch {epoch}, validation NDCG@20 {score:.4f}")
        if stale >= config.patience:
            break
    return best


def _snapshot(model: SequenceModel) -> SequenceModel:
    dense = {n: p.detach().clone() for n, p in model.dense.items()}
    return SequenceModel(model.backbone, dense, model.table.detach().clone(), model.max_length)


def _epoch(
    model: SequenceModel,
    optimizer: torch.optim.Optimizer,
    domain: Domain,
    config: CentralConfig,
    seeds: Seeds,
) -> None:
    """One pass over all users, batches of similar length, in an order drawn from ``seeds``."""
    stream, generator = seeds.numpy("negatives"), seeds.torch("dropout")
    users = [u for u in stream.permutation(domain.num_users) if len(domain.histories[u]) >= 2]
    # Similar lengths share a batch so that short histories are not padded to the longest.
    users.sort(key=lambda u: min(len(domain.histories[u]), config.max_length + 1))
    starts = stream.permutation(range(0, len(users), config.batch_size))
    for start in starts.tolist():
        chunk = users[start : start + config.batch_size]
        histories = [domain.histories[u][-config.max_length - 1 :] for u in chunk]
        loss = _loss(model, domain, chunk, histories, config.dropout, stream, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _loss(
    model: SequenceModel,
    domain: Domain,
    users: list[int],
    histories: list[Int[np.ndarray, " event"]],
    dropout: float,
    stream: np.random.Generator,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    layout, last = causal_layout([h[:-1] for h in histories], model.max_length)
    targets, _ = causal_layout([h[1:] for h in histories], model.max_length)
    negatives = np.zeros(targets.ids.shape, dtype=np.int64)
    for row, user in enumerate(users):
        seen = np.unique(domain.histories[user])
        draws = stream.integers(0, max(1, domain.num_items - len(seen)), negatives.shape[1])
        negatives[row] = complement_sample(draws, seen)
    np.minimum(negatives, domain.num_items - 1, out=negatives)
    hidden = model.backbone.hidden(model.dense, model.table[layout.ids], layout, dropout, generator)
    real = torch.arange(layout.ids.shape[1]) <= last.unsqueeze(1)
    positive = (hidden * model.table[targets.ids]).sum(-1)
    negative = (hidden * model.table[torch.from_numpy(negatives)]).sum(-1)
    loss = F.softplus(-positive) + F.softplus(negative)
    return (loss * real).sum() / real.sum()


def validation_ndcg(model: SequenceModel, domain: Domain, k: int = 20) -> float:
    """Return NDCG@k of the validation items, full ranking, training items masked."""
    users = np.flatnonzero(domain.validation >= 0)
    if not len(users):
        return float("nan")
    gains: list[Float[np.ndarray, " user"]] = []
    rows = min(512, block_rows(domain.num_items))
    for chunk in np.array_split(users, max(1, len(users) // rows)):
        histories = [domain.histories[u] for u in chunk]
        scores = model.scores(chunk, histories)
        target = domain.validation[chunk]
        own = scores[np.arange(len(chunk)), target].copy()
        for row, history in enumerate(histories):
            scores[row, history] = -np.inf
        rank = 1 + (scores > own[:, None]).sum(1)
        gains.append(np.where(rank <= k, 1 / np.log2(rank + 1), 0.0))
    return float(np.concatenate(gains).mean())
