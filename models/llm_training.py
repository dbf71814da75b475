"""Training samples of SF-UBM's stage 2: which users ask together, and with which candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from harness.core.errors import DataError
from models.soft_prompt import USER, Lexicon, Pack, Query, item_code


@dataclass(frozen=True)
class ItemSide:
    """What stage 2 reads about items.

    Attributes:
        titles: distinct, non-empty titles.
        code: enhanced item embeddings z_i = f_ID(E_i), 128-d.
        decoded: Dec_ID(z_i), in the space of the user state.
    """

    titles: Sequence[str]
    code: Float[Tensor, "item code"]
    decoded: Float[Tensor, "item dim"]


@dataclass(frozen=True)
class Questions:
    """Moments at which a user's next item is asked for; one user may give several.

    Attributes:
        state: frozen SASRec state of the history, x_u.
        history: items before the moment, oldest first.
        target: the item that came next.
        seen: items that may not serve as this user's training negatives (interacted with in the
            training part); the target may be among them.
    """

    state: Float[Tensor, "question dim"]
    history: Sequence[Sequence[int]]
    target: Sequence[int]
    seen: Sequence[frozenset[int]]

    def __len__(self) -> int:
        """Return the number of questions."""
        return len(self.target)


class PackSampler:
    """Draws packs of questions that share one candidate list.

    Each question's negatives are the other questions' targets, filled up with random items; all
    are unseen by every user of the pack. The list is shuffled, so a target's place is uniform.
    """

    def __init__(
        self,
        questions: Questions,
        lexicon: Lexicon,
        num_items: int,
        num_candidates: int,
        num_history: int,
        rng: np.random.Generator,
    ):
        if num_items < num_candidates:
            raise DataError(f"{num_items} items cannot give {num_candidates} candidates")
        if not len(questions):
            raise DataError("no training question: every history is too short for stage 2")
        self.questions = questions
        self.lexicon = lexicon
        self.num_items = num_items
        self.num_candidates = num_candidates
        self.num_history = num_history
        self.rng = rng

    def users(self, size: int, with_history: bool) -> Pack:
        """Draw up to ``size`` questions of different targets, and their pack."""
        chosen: list[int] = []
        targets: list[int] = []
        seen: set[int] = set()
        for _ in range(20 * size):
            if len(chosen) == size:
                break
            q = int(self.rng.integers(len(self.questions)))
            target, own = self.questions.target[q], self.questions.seen[q]
            if target in targets or target in seen or any(t in own for t in targets):
                continue
            chosen.append(q)
            targets.append(target)
            seen |= own
        return self._pack(chosen, self._fill(targets, seen | set(targets)), with_history)

    def items(self, size: int) -> Pack:
        """Draw a recall pack: random candidates, asked for by their own soft tokens."""
        candidates = [int(i) for i in self.rng.permutation(self.num_items)[: self.num_candidates]]
        asked = [int(i) for i in self.rng.permutation(candidates)[:size]]
        queries = [Query(self.lexicon.query((), candidates, item_code(i)), -1, i) for i in asked]
        return Pack(self.lexicon.prefix(candidates), queries)

    def _fill(self, targets: list[int], banned: set[int]) -> list[int]:
        missing = self.num_candidates - len(targets)
        free = [int(i) for i in self.rng.permutation(self.num_items)[: 20 * self.num_candidates]]
        free = [i for i in free if i not in banned][:missing]
        if len(free) < missing:
            pool = self.rng.permutation([i for i in range(self.num_items) if i not in set(targets)])
            free += [int(i) for i in pool if int(i) not in free][: missing - len(free)]
        return [int(i) for i in self.rng.permutation(targets + free)]

    def _pack(self, chosen: list[int], candidates: list[int], with_history: bool) -> Pack:
        queries = [
            ask(self.questions, q, candidates, self.lexicon, self.num_history * with_history)
            for q in chosen
        ]
        return Pack(self.lexicon.prefix(candidates), queries)


def ask(
    questions: Questions, q: int, candidates: Sequence[int], lexicon: Lexicon, num_history: int
) -> Query:
    """Return one question as a query; its target only serves as the label."""
    history = list(questions.history[q])[-num_history:] if num_history else []
    return Query(lexicon.query(history, candidates, USER), q, questions.target[q])
