"""SASRec trained centrally: the upper anchor of a federation, and SF-UBM's pre-training.

Kang and McAuley, ICDM 2018, arXiv:1808.09781, section 3.5: binary cross-entropy with one sampled
negative a position [paper]; Adam, dropout [paper]. The number of epochs is chosen on the
validation items by NDCG, and training ends when that has not risen for a while [ours].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from harness.core.errors import RunError
from harness.core.params import Params
from harness.core.scores import block_rows
from harness.core.seeds import Seeds
from harness.core.system import Domain
from models.backbone import BackboneName, SequenceModel, build_backbone, initial_table
from models.sequences import causal_layout, complement_sample, readable


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
        default=500,
        ge=1,
        le=100_000,
        description="upper limit, meant to come after patience; the best on validation is kept",
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
    """Train on all histories of ``domain`` and return the model that was best on validation.

    Where there is nothing to validate on, the last epoch's model is returned.

    Raises:
        RunError: no history has two events, or no epoch left weights that are numbers.
    """
    if not any(len(history) >= 2 for history in domain.histories):
        raise RunError(
            f"{domain.name}: no user has two events to train a sequence model on; check min_length"
        )
    model = _initial(domain, config, seeds)
    optimizer = torch.optim.Adam([*model.dense.values(), model.table], lr=config.learning_rate)
    best, best_score, best_epoch, last = None, -math.inf, 0, 0
    validates = bool((domain.validation >= 0).any())
    for epoch in range(1, config.epochs + 1):
        _epoch(model, optimizer, domain, config, seeds.child("epoch", epoch))
        if epoch % config.check_every and epoch != config.epochs:
            continue
        last, now = epoch, _snapshot(model)
        score = validation_ndcg(now, domain)
        if not _finite(now) or (math.isnan(score) and validates):
            # No step leads back from NaN.
            progress(f"{domain.name}: epoch {epoch}, weights or scores are not finite: stopped")
            break
        if score > best_score or not validates:
            best, best_score, best_epoch = now, score, epoch
        progress(f"{domain.name}: epoch {epoch}, validation NDCG@20 {score:.4f}")
        if epoch - best_epoch >= config.patience * config.check_every:
            break
    if best is None:
        raise RunError(
            f"{domain.name}: training diverged: weights or scores were not finite at epoch {last}, "
            f"the first that was checked; lower the learning rate ({config.learning_rate:g})"
        )
    caveat = _caveat(config, best_epoch, last) if validates else "no validation items: all epochs"
    return replace(best, caveat=caveat)


def _initial(domain: Domain, config: CentralConfig, seeds: Seeds) -> SequenceModel:
    backbone = build_backbone(
        config.backbone,
        embedding_size=config.embedding_size,
        num_blocks=config.num_blocks,
        num_heads=config.num_heads,
        max_positions=config.max_length,
    )
    dense = {n: p.requires_grad_() for n, p in backbone.initial(seeds).items()}
    table = initial_table(domain.num_items, config.embedding_size, seeds).requires_grad_()
    return SequenceModel(backbone, dense, table, readable(domain.histories, config.max_length))


def _caveat(config: CentralConfig, best: int, last: int) -> str:
    """Say where the limit on epochs, not patience, ended a training that may still have gained."""
    wanted = config.patience * config.check_every
    if last < config.epochs or last - best >= wanted:
        return ""
    return (
        f"not trained out: best on validation at epoch {best} of {config.epochs}, less than the "
        f"{wanted} epochs of patience before the limit; raise epochs"
    )


def _finite(model: SequenceModel) -> bool:
    return all(bool(p.isfinite().all()) for p in (*model.dense.values(), model.table))


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
    longest = max(len(h) for h in histories) - 1
    layout, last = causal_layout([h[:-1] for h in histories], longest)
    targets, _ = causal_layout([h[1:] for h in histories], longest)
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
    """Return NDCG@k of the validation items, full ranking, training items masked.

    NaN where a score is, or where nobody has a validation item. A tie counts against the model.
    """
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
        lost = np.isnan(scores).any(1)
        for row, history in enumerate(histories):
            scores[row, history] = -np.inf
        # The target itself is the one that is always at least as good.
        scores[np.arange(len(chunk)), target] = own
        rank = (scores >= own[:, None]).sum(1)
        gain = np.where(rank <= k, 1 / np.log2(np.maximum(rank, 1) + 1), 0.0)
        gains.append(np.where(lost, np.nan, gain))
    return float(np.concatenate(gains).mean())
