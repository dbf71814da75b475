"""SF-UBM's stage 2: training and candidate scoring against the plain way.

    python -m benchmarks.stage2 [--questions 40] [--users 4] [--threads 2]

Training: questions that share a candidate list share its prefix, and logits are computed for answer
tokens only; against one full prompt a question, eight in a padded batch, with all logits, as
``transformers`` computes them. Both take the gradient of the same mean token loss, and the losses
must agree. Scoring: the prompt once with its key-value cache repeated for 20 candidates, against 20
passes over the whole text; the scores must agree.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from harness.assets import fetch
from harness.cells import canonical
from harness.core.seeds import Seeds
from harness.prepared import prepared_data
from models.llm_answer import score_candidates
from models.llm_model import LLMStageConfig, SoftPromptLLM, prepare
from models.llm_training import ItemSide, PackSampler, Questions, ask
from models.soft_prompt import Pack, collate

DIM = 50
PACK = 20


def build(threads: int) -> tuple[SoftPromptLLM, Questions]:
    """Return the untrained stage on MovieLens-1M's first genre half, and 400 questions."""
    torch.set_num_threads(threads)
    data = {"use": "ml-1m", "domains": {"by": "genres"}, "keep_last": 20}
    domain = prepared_data(canonical(data)).domains[0]
    generator = Seeds(0).torch("benchmark")
    count = domain.num_items
    items = ItemSide(
        list(domain.titles),
        torch.randn(count, 128, generator=generator),
        torch.randn(count, DIM, generator=generator),
    )
    histories = [history.tolist() for history in domain.histories if len(history) > 5][:400]
    questions = Questions(
        torch.randn(len(histories), DIM, generator=generator),
        [history[:-1] for history in histories],
        [history[-1] for history in histories],
        [frozenset(history) for history in histories],
    )
    config = LLMStageConfig(num_history=0, pack_size=PACK, noun="movie")
    return prepare(config, fetch("smollm2-135m"), items, DIM, Seeds(0)), questions


def packed_step(stage: SoftPromptLLM, questions: Questions, packs: list[Pack]) -> float:
    """Take the gradient over packs, answer logits only; return the mean token loss."""
    batch = collate(packs, stage.lexicon)
    logits = stage.label_logits(batch, stage.embed(batch, questions.state))
    loss = F.cross_entropy(logits, batch.label)
    loss.backward()
    return float(loss.detach())


def plain_step(stage: SoftPromptLLM, questions: Questions, packs: list[Pack]) -> float:
    """Take the same gradient with one prompt a question, all logits, batches of eight."""
    single = [Pack(pack.prefix, [query]) for pack in packs for query in pack.queries]
    total = sum(len(stage.lexicon.answer(pack.queries[0].target)) for pack in single)
    summed = 0.0
    for start in range(0, len(single), 8):
        batch = collate(single[start : start + 8], stage.lexicon)
        embeds = stage.embed(batch, questions.state)
        with stage.autocast():
            logits = stage.model(
                inputs_embeds=embeds.to(stage.model.dtype),
                attention_mask=batch.mask,
                position_ids=batch.position,
                use_cache=False,
            ).logits.float()
        rows, columns = batch.label_slot.T
        loss = F.cross_entropy(logits[rows, columns], batch.label, reduction="sum") / total
        loss.backward()
        summed += float(loss.detach())
    return summed


@torch.no_grad()
def plain_scores(
    stage: SoftPromptLLM, questions: Questions, candidates: np.ndarray
) -> Float[Tensor, "user candidate"]:
    """Score each candidate by a pass of its own over prompt and answer."""
    scores = torch.zeros(candidates.shape)
    for q, row in enumerate(candidates):
        listed = [int(item) for item in row]
        query = ask(questions, q, listed, stage.lexicon, stage.config.num_history)
        for place, item in enumerate(listed):
            batch = collate(
                [Pack(stage.lexicon.prefix(listed), [query._replace(target=item)])], stage.lexicon
            )
            logits = stage.model(
                inputs_embeds=stage.embed(batch, questions.state).to(stage.model.dtype),
                attention_mask=batch.mask,
                position_ids=batch.position,
                use_cache=False,
            ).logits.float()
            rows, columns = batch.label_slot.T
            logs = logits[rows, columns].log_softmax(-1)
            scores[q, place] = logs.gather(-1, batch.label[:, None]).sum()
    return scores


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """Return seconds and result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def main() -> None:
    """Run both comparisons, check that both ways agree, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    stage, questions = build(options.threads)
    sampler = PackSampler(
        questions, stage.lexicon, len(stage.items.titles), PACK, 0, Seeds(0).numpy("packs")
    )
    packs = [sampler.users(PACK, with_history=False) for _ in range(options.questions // PACK)]
    count = sum(len(pack.queries) for pack in packs)
    ratios, rates = [], []
    for _ in range(options.turns):
        fast, one = timed(lambda: packed_step(stage, questions, packs))
        slow, two = timed(lambda: plain_step(stage, questions, packs))
        if abs(float(str(one)) - float(str(two))) > 1e-2:
            raise SystemExit(f"the two losses differ: {one} and {two}")
        ratios.append(slow / fast)
        rates.append((count / fast, count / slow))
    print("| work | ours | plain | ratio |\n|---|---|---|---|")
    ours, plain = (median(column) for column in zip(*rates, strict=True))
    print(f"| training, questions/s | {ours:.2f} | {plain:.2f} | {median(ratios):.1f} |")
    stage.model.requires_grad_(False)
    drawn = Seeds(0).numpy("candidates").permutation(len(stage.items.titles))
    candidates = drawn[: options.users * 20].reshape(options.users, 20)
    fast, one = timed(lambda: score_candidates(stage, questions, candidates))
    slow, two = timed(lambda: plain_scores(stage, questions, candidates))
    assert isinstance(one, Tensor) and isinstance(two, Tensor)
    torch.testing.assert_close(one, two, atol=0.05, rtol=0.01)
    print(
        f"| scoring 20 candidates, users/s | {options.users / fast:.2f} "
        f"| {options.users / slow:.2f} | {slow / fast:.1f} |"
    )


if __name__ == "__main__":
    main()
