"""Training of SF-UBM's stage 2: ranking, recall, anneal, then the token loss (equation 17)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from harness.core.device import Device
from harness.core.seeds import Seeds
from models.llm_model import LLMStageConfig, SoftPromptLLM, prepare
from models.llm_training import ItemSide, PackSampler, Questions
from models.soft_prompt import Pack

Progress = Callable[[int, int, float], None]


def warm_up(stage: SoftPromptLLM, questions: Questions, seeds: Seeds) -> float:
    """Train the projectors alone to rank the target first by cosine; return the last loss.

    Softmax over the target and 19 random items (those equal to the target masked).
    """
    config, generator = stage.config, seeds.torch("rank")
    adam = torch.optim.Adam(stage.projectors.parameters(), lr=1e-3)
    targets = torch.as_tensor(questions.target)
    num_items, loss = len(stage.items.titles), torch.tensor(math.nan)
    for _ in range(config.rank_steps):
        rows = torch.randint(len(questions), (256,), generator=generator)
        positive = targets[rows][:, None]
        drawn = torch.randint(num_items, (256, config.num_candidates - 1), generator=generator)
        users = F.normalize(stage.user_tokens(questions.state, rows), dim=-1)
        used, place = torch.cat([positive, drawn], dim=1).unique(return_inverse=True)
        scores = users @ F.normalize(stage.item_tokens(used), dim=-1).T / config.rank_temperature
        logits = scores.gather(1, place.to(stage.device))
        equal = (drawn == positive).to(stage.device)
        logits[:, 1:] = logits[:, 1:].masked_fill(equal, -math.inf)
        loss = F.cross_entropy(logits, torch.zeros(256, dtype=torch.long, device=stage.device))
        adam.zero_grad()
        loss.backward()
        adam.step()
    return float(loss.detach())


def train(
    config: LLMStageConfig,
    llm_path: Path,
    items: ItemSide,
    questions: Questions,
    seeds: Seeds,
    progress: Progress | None = None,
    device: Device = "cpu",
) -> SoftPromptLLM:
    """Train stage 2 on the given questions (equation 17 with the curriculum above).

    Args:
        config: settings.
        llm_path: folder of the language model.
        items: items of the target domain.
        questions: training moments only; validation and test items are no target here.
        seeds: every draw comes from here.
        progress: called with sequences done, sequences in all, and the step's mean loss.
        device: where the LLM and the projectors are trained.
    """
    stage = prepare(config, llm_path, items, questions.state.shape[1], seeds, device)
    warm_up(stage, questions, seeds)
    _follow_curriculum(stage, questions, seeds, progress or (lambda done, total, loss: None))
    stage.model.requires_grad_(False)
    stage.projectors.requires_grad_(False)
    stage.model.to(config.compute_dtype(device))
    return stage


def _follow_curriculum(
    stage: SoftPromptLLM, questions: Questions, seeds: Seeds, progress: Progress
) -> None:
    config = stage.config
    sampler = PackSampler(
        questions, stage.lexicon, len(stage.items.titles), config.num_candidates,
        config.num_history, seeds.numpy("packs"),
    )  # fmt: skip
    adam = _optimiser(stage)
    peak = [group["lr"] for group in adam.param_groups]
    trained = [p for group in adam.param_groups for p in group["params"]]
    done = 0
    for packs, share in curriculum(config, sampler):
        for group, rate in zip(adam.param_groups, peak, strict=True):
            group["lr"] = rate * _rate(done / config.num_train)
        adam.zero_grad()
        loss = _accumulate(stage, packs, questions, share)
        nn.utils.clip_grad_norm_(trained, 1.0)
        adam.step()
        done += sum(len(pack.queries) for pack in packs)
        progress(min(done, config.num_train), config.num_train, loss)
    adam.zero_grad()


def _optimiser(stage: SoftPromptLLM) -> torch.optim.Adam:
    groups = [
        {
            "params": list(stage.projectors.parameters()),
            "lr": stage.config.projector_learning_rate,
        }
    ]
    tuned = [p for p in stage.model.parameters() if p.requires_grad]
    if tuned:
        groups.append({"params": tuned, "lr": stage.config.learning_rate})
    return torch.optim.Adam(groups, betas=(0.9, 0.98), fused=True)


def curriculum(config: LLMStageConfig, sampler: PackSampler) -> Iterator[tuple[list[Pack], float]]:
    """Yield each step's packs and how far the asking token has moved to the user's."""
    done = 0
    while done < config.num_train:
        past = done / config.num_train
        recall = past < config.recall_share
        history = past >= config.history_from
        size, count = _shape(config, recall)
        packs = [
            sampler.items(size) if recall else sampler.users(size, history) for _ in range(count)
        ]
        into = past - config.recall_share
        share = min(1.0, into / config.anneal_share) if config.anneal_share else 1.0
        done += sum(len(pack.queries) for pack in packs)
        yield packs, max(0.0, share)


def _shape(config: LLMStageConfig, recall: bool) -> tuple[int, int]:
    """Return questions per pack and packs per step.

    Recall asks for every candidate. Users fill only part of the list with their targets: targets
    are popular, and an LLM that never saw a random candidate refused would not learn that. The
    paper's layout shares no prefix: one question a pack.
    """
    if config.layout == "paper":
        return 1, config.packs_per_step * config.pack_size
    most = config.num_candidates
    return most if recall else min(config.pack_size, most), config.packs_per_step


def _accumulate(
    stage: SoftPromptLLM, packs: list[Pack], questions: Questions, share: float
) -> float:
    """Add the gradients of the mean token loss, in parts of bounded size; return the loss."""
    total = sum(len(stage.lexicon.answer(q.target)) for pack in packs for q in pack.queries)
    loss = 0.0
    for part in _parts(packs):
        batch = stage.collated(part)
        logits = stage.label_logits(batch, stage.embed(batch, questions.state, share))
        value = F.cross_entropy(logits, batch.label, reduction="sum") / total
        value.backward()
        loss += float(value.detach())
    return loss


def _parts(packs: list[Pack], most: int = 1200) -> Iterator[list[Pack]]:
    """Split packs, longest first, so that a padded part holds about ``most`` tokens."""

    def size(pack: Pack) -> int:
        return len(pack.prefix) + sum(len(q.codes) for q in pack.queries)

    part: list[Pack] = []
    for pack in sorted(packs, key=size, reverse=True):
        if part and size(part[0]) * (len(part) + 1) > most:
            yield part
            part = []
        part.append(pack)
    yield part


def _rate(past: float) -> float:
    """Learning-rate factor: a short rise, flat to the middle, then linear to zero."""
    return max(0.02, min(1.0, past / 0.02 + 0.1, 2 * (1 - past)))
