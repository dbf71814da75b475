"""SF-UBM, stage 2: soft prompts from a frozen sequence model into a language model (eq. 15-17).

The paper trains two projectors with the token loss and leaves the choice among candidates to
emerge. On a small frozen language model it does not: copying a candidate is learned early, choosing
stays at chance. What works here keeps one mechanism alive throughout (find the soft token that
resembles the last one, copy the title behind it), in user and item tokens that live in one space
and with the whole LLM trained:

1. ranking: the projectors alone, cosine cross-entropy of user token against item tokens;
2. recall: an item's own soft token asks for its title among the candidates;
3. anneal: the asking token moves from the target's item token to the user token;
4. the task itself: the user token asks, with the history in the prompt, equation 17.

Steps 2 and 3 were what broke the plateau before step 1 existed. With it, 1,600 sequences end at the
same Hit@1 with and without them (docs/LOG.md); they stay as options.

Steps 1-3 see training interactions only, and no test prompt ever contains the target's token in
the asking place. All of it is [ours]; ``layout="paper", projector="paper", tune="frozen"`` with
``rank_steps``, ``recall_share``, ``anneal_share`` and ``history_from`` at zero is the paper's own
form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from harness.core.device import Device
from harness.core.seeds import Seeds
from harness.core.system import Answers
from models.llm_answer import answer, score_candidates, silent
from models.llm_base import base_answers
from models.llm_fit import train
from models.llm_model import LLMStageConfig, SoftPromptLLM
from models.llm_training import ItemSide, Questions

__all__ = ["ItemSide", "LLMStage", "LLMStageConfig", "Questions"]


@dataclass(frozen=True)
class LLMStage:
    """A trained stage 2.

    Attributes:
        llm: the language model with its projectors.
        llm_path: folder of the untrained language model, for the base.
        texts: cache of what that model said; None keeps nothing.
        say: told how far long answering is; may raise to stop there.
    """

    llm: SoftPromptLLM
    llm_path: Path
    texts: Path | None = None
    say: Callable[[str], None] = silent

    @classmethod
    def fit(
        cls,
        config: LLMStageConfig,
        llm_path: Path,
        items: ItemSide,
        questions: Questions,
        seeds: Seeds,
        say: Callable[[str], None] = silent,
        texts: Path | None = None,
        device: Device = "cpu",
    ) -> LLMStage:
        """Train on moments of the training histories; see :func:`models.llm_fit.train`."""

        def progress(done: int, total: int, loss: float) -> None:
            say(f"stage 2: {done} of {total}, loss {loss:.3f}")

        llm = train(config, llm_path, items, questions, seeds, progress, device)
        return cls(llm, llm_path, texts, say)

    def answer(
        self,
        states: Float[Tensor, "user dim"],
        histories: Sequence[Int[np.ndarray, " event"]],
        candidates: Int[np.ndarray, "user candidate"],
    ) -> Answers:
        """Name one of each user's candidates by greedy generation."""
        return answer(self.llm, _asked(states, histories), candidates, say=self.say)

    def scores(
        self,
        states: Float[Tensor, "user dim"],
        histories: Sequence[Int[np.ndarray, " event"]],
        candidates: Int[np.ndarray, "user candidate"],
    ) -> Float[Tensor, "user candidate"]:
        """Log-probability of every candidate's title as the answer."""
        return score_candidates(self.llm, _asked(states, histories), candidates, say=self.say)

    def base_answer(
        self,
        histories: Sequence[Int[np.ndarray, " event"]],
        candidates: Int[np.ndarray, "user candidate"],
    ) -> Answers:
        """Let the untrained LLM answer the same question put in words (its chat template)."""
        config = self.llm.config
        last = [h[-config.num_history :].tolist() if config.num_history else [] for h in histories]
        titles = self.llm.items.titles
        return base_answers(
            self.llm_path, self.texts, titles, last, candidates, config, self.llm.device, self.say
        )


def _asked(states: Tensor, histories: Sequence[Int[np.ndarray, " event"]]) -> Questions:
    """Questions without a target: -1 is no item, and answering never reads it."""
    count = len(histories)
    return Questions(states, [h.tolist() for h in histories], [-1] * count, [frozenset()] * count)
