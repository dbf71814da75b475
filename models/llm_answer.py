"""Answers of SF-UBM's stage 2: greedy generation, what counts as valid, and candidate scores."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor
from torch.nn import functional as F

from harness.core.system import Answers
from models.llm_model import SoftPromptLLM
from models.llm_training import Questions, ask
from models.soft_prompt import Pack

INVALID = -1


def silent(text: str) -> None:
    """Say nothing."""


def parse_choice(text: str, titles: Sequence[str]) -> int:
    """Return the place of the one title that ``text`` contains, else ``INVALID``.

    Valid means: exactly one candidate title occurs (LLaRA's rule). Case, and characters that are
    neither letters nor digits, do not matter; a title counts at word borders only, and not where
    it merely lies inside a longer candidate title that occurs there ("Alien" in "Alien Nation").
    """
    said = _words(text)
    spans: list[tuple[int, int, int]] = []
    for place, title in enumerate(titles):
        want = _words(title)
        spans += [
            (start, start + len(want), place)
            for start in range(len(said) - len(want) + 1)
            if want and said[start : start + len(want)] == want
        ]
    named = {
        place
        for start, stop, place in spans
        if not any(a <= start and stop <= b and b - a > stop - start for a, b, _ in spans)
    }
    return named.pop() if len(named) == 1 else INVALID


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold()) or list(text.strip())


@torch.no_grad()
def answer(
    stage: SoftPromptLLM,
    questions: Questions,
    candidates: Int[ndarray, "user 20"],
    batch: int = 32,
    say: Callable[[str], None] = silent,
) -> Answers:
    """Let the trained stage name one of each user's candidates, greedily.

    Args:
        stage: what ``train`` returned.
        questions: one per user; ``target`` and ``seen`` are not looked at.
        candidates: item ids, the positive at a random place.
        batch: prompts per batch, sorted by length.
        say: told after each batch how far it is; may raise to stop there.
    """
    prompts = [
        _prompt(stage, questions, q, [int(i) for i in row]) for q, row in enumerate(candidates)
    ]
    texts = generate(
        stage.model, stage.tokenizer, prompts, stage.lexicon.end[:1],
        stage.config.max_new_tokens, batch, say,
    )  # fmt: skip
    return parsed(texts, candidates, stage.items.titles)


def _prompt(
    stage: SoftPromptLLM, questions: Questions, q: int, candidates: list[int]
) -> Float[Tensor, "token width"]:
    query = ask(questions, q, candidates, stage.lexicon, stage.config.num_history)
    blind = query._replace(target=candidates[0])  # the label is never shown, only laid aside
    pack = Pack(stage.lexicon.prefix(candidates), [blind])
    embeds = stage.embed(stage.collated([pack]), questions.state)
    return embeds[0, : len(pack.prefix) + len(query.codes)]


def parsed(texts: list[str], candidates: ndarray, titles: Sequence[str]) -> Answers:
    """Return which candidate each text names."""
    chosen = [
        parse_choice(text, [titles[int(i)] for i in row])
        for text, row in zip(texts, candidates, strict=True)
    ]
    return Answers(np.asarray(chosen, dtype=np.int64), texts)


@torch.no_grad()
def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Float[Tensor, "token width"]],
    stop: Sequence[int],
    max_new_tokens: int,
    batch: int = 32,
    say: Callable[[str], None] = silent,
) -> list[str]:
    """Continue embedded prompts greedily up to a stop token; batches are sorted by length."""
    order = sorted(range(len(prompts)), key=lambda k: len(prompts[k]))
    texts = [""] * len(prompts)
    for start in range(0, len(order), batch):
        members = order[start : start + batch]
        tokens = _continue(model, [prompts[k] for k in members], stop, max_new_tokens)
        for k, ids in zip(members, tokens, strict=True):
            texts[k] = tokenizer.decode(ids, skip_special_tokens=True)
        say(f"stage 2: {start + len(members)} of {len(order)} answers")
    return texts


def _continue(
    model: Any, prompts: list[Tensor], stop: Sequence[int], max_new_tokens: int
) -> list[list[int]]:
    from transformers import DynamicCache  # slow: not at every start

    width = max(len(p) for p in prompts)
    embeds = torch.stack([F.pad(p, (0, 0, width - len(p), 0)) for p in prompts])
    device = embeds.device
    lengths = torch.tensor([[len(p)] for p in prompts], device=device)
    mask = (torch.arange(width, device=device) >= width - lengths).long()
    position = (mask.cumsum(1) - 1).clamp(min=0)
    stops, cache = torch.tensor(list(stop), device=device), DynamicCache()
    inputs = embeds.to(model.dtype)
    done = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    out: list[list[int]] = [[] for _ in prompts]
    for _ in range(max_new_tokens):
        logits = model(
            inputs_embeds=inputs, attention_mask=mask, position_ids=position,
            past_key_values=cache, use_cache=True, logits_to_keep=1,
        ).logits[:, -1]  # fmt: skip
        token = logits.argmax(-1)
        # The largest of NaN is NaN: a diverged model names nothing, and its answer is not valid.
        diverged = logits.isnan().any(-1)
        for row in diverged.nonzero()[:, 0].tolist():
            out[row].clear()
        done |= torch.isin(token, stops) | diverged
        for row in (~done).nonzero()[:, 0].tolist():
            out[row].append(int(token[row]))
        if bool(done.all()):
            break
        inputs = model.get_input_embeddings()(token[:, None])
        mask = F.pad(mask, (0, 1), value=1)
        position = position[:, -1:] + 1
    return out


@torch.no_grad()
def score_candidates(
    stage: SoftPromptLLM,
    questions: Questions,
    candidates: Int[ndarray, "user candidate"],
    say: Callable[[str], None] = silent,
) -> Float[Tensor, "user candidate"]:
    """Log-probability of each candidate's answer tokens after the user's prompt.

    The prompt runs once; its key-value cache is repeated for the candidates. ``say`` is told now
    and then how far it is, and may raise to stop there.
    """
    from transformers import DynamicCache  # slow: not at every start

    rows = []
    for q, items in enumerate(candidates):
        if q % 16 == 0:
            say(f"stage 2: {q} of {len(candidates)} users scored")
        listed = [int(i) for i in items]
        prompt = _prompt(stage, questions, q, listed)[None].to(stage.model.dtype)
        cache = DynamicCache()
        last = stage.model(
            inputs_embeds=prompt, past_key_values=cache, use_cache=True, logits_to_keep=1
        ).logits
        answers = [torch.tensor(stage.lexicon.answer(i), device=stage.device) for i in listed]
        ids = torch.nn.utils.rnn.pad_sequence(answers, batch_first=True, padding_value=0)
        lengths = torch.tensor([[len(a)] for a in answers], device=stage.device)
        real = torch.arange(ids.shape[1], device=stage.device) < lengths
        logits = last.expand(len(listed), 1, -1)
        if ids.shape[1] > 1:
            cache.batch_repeat_interleave(len(listed))
            more = stage.model(
                inputs_embeds=stage.model.get_input_embeddings()(ids[:, :-1]),
                past_key_values=cache,
                use_cache=True,
            ).logits
            logits = torch.cat([logits, more], dim=1)
        logs = logits.float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]
        rows.append((logs * real).sum(1))
    return torch.stack(rows).cpu()
