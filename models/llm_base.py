"""The untrained LLM asked in words alone: what stage 2's training adds to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from jaxtyping import Int
from numpy import ndarray

from harness.core.device import Device
from harness.core.system import Answers
from harness.language.generator import Decoding, TextGenerator
from models.llm_answer import parsed, silent
from models.llm_model import LLMStageConfig


def base_answers(
    llm_path: Path,
    texts: Path | None,
    titles: Sequence[str],
    histories: Sequence[Sequence[int]],
    candidates: Int[ndarray, "user candidate"],
    config: LLMStageConfig,
    device: Device = "cpu",
    say: Callable[[str], None] = silent,
) -> Answers:
    """Ask the untrained LLM: history titles, candidate titles, no soft tokens.

    Args:
        llm_path: folder of the language model.
        texts: cache of generated texts; the same question is answered once in all runs.
        titles: all titles of the domain.
        histories: each user's last items, already cut to the wanted number.
        candidates: item ids per user.
        config: of stage 2.
        device: where the LLM runs.
        say: told how far it is; may raise to stop there. Batches that are done stay in the cache.
    """
    prompts = [
        [
            {
                "role": "user",
                "content": _request(
                    [titles[i] for i in history], [titles[int(i)] for i in row], config.noun
                ),
            }
        ]
        for history, row in zip(histories, candidates, strict=True)
    ]
    generator = TextGenerator(
        llm_path,
        cache=texts,
        dtype=config.dtype,
        batch_size=32,
        progress=lambda done, total: say(f"LLM alone: {done} of {total} answers"),
        device=device,
    )
    decoding = Decoding(max_new_tokens=config.max_new_tokens, stop=("\n",))
    said = [text.text for text in generator.generate(prompts, decoding)]
    return parsed(said, candidates, titles)


def _request(history: list[str], candidates: list[str], noun: str) -> str:
    past, options = "\n".join(history), "\n".join(candidates)
    return (
        f"This user has chosen these {noun}s in the past:\n{past}\n"
        f"Recommend one next {noun} for this user from the following list:\n{options}\n"
        f" Answer with the {noun}'s title only."
    )
