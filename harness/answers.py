"""Answers of a language stage against the truth, beside what needs no language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from harness.candidates import Candidates, draw
from harness.core.seeds import Seeds
from harness.core.system import Answers
from harness.metrics import ranking
from harness.settings import Sampling
from harness.sheet import NAN, Sheet
from harness.truth import Truth


def score_answers(
    sheet: Sheet,
    released: Any,
    truth: Truth,
    count: int,
    limit: int,
    seeds: Seeds,
    samplings: Sequence[Sampling] = ("uniform",),
) -> None:
    """Enter Hit@1 in both definitions and the Valid Ratio of a language stage, by variant.

    Over all: a text that names no candidate is wrong (A-LLMRec). Over valid: it is left out
    (LLaRA). On the same lists and users stand popularity, a guess by frequency and stage 1:
    ``asked_…`` and ``stage1_hit1`` for all users asked, ``valid_…`` for those with a valid answer.
    """
    order = seeds.numpy("answer users").permutation(truth.evaluated)
    users = np.sort(order[:limit])
    contexts = truth.contexts(users)
    scores = released.scores(users, contexts)
    for candidates in draw(truth, users, count, samplings, seeds):
        among = np.take_along_axis(scores, candidates.lists, 1)
        stage1 = ranking.hit_ratio(ranking.target_rank(among, candidates.place), 1)
        candidates.compare(sheet, users, "stage1_hit1", stage1)
        candidates.enter(sheet, users, "asked_")
        answers = released.answer(users, contexts, candidates.lists)
        for variant, answer in answers.items():
            prefix = "" if variant == "stage 2" else "llm_only_"
            _score_variant(sheet, users, candidates, stage1, (prefix, answer))


def _score_variant(
    sheet: Sheet,
    users: Int[np.ndarray, " user"],
    candidates: Candidates,
    stage1: np.ndarray,
    said: tuple[str, Answers],
) -> None:
    """Enter one variant's answers and their references on the users with a valid one."""
    prefix, answer = said
    chosen = np.asarray(answer.chosen)
    over_all = ranking.hit1_over_all(chosen, candidates.place)
    over_valid = ranking.hit1_over_valid(chosen, candidates.place)
    candidates.compare(sheet, users, f"{prefix}hit1_all", over_all)
    candidates.compare(sheet, users, f"{prefix}hit1_valid", over_valid)
    candidates.enter(sheet, users, f"{prefix}valid_", over_valid)
    beside = np.where(np.isnan(over_valid), np.nan, stage1)
    shared = candidates.shared
    chance = candidates.chance
    sheet.measure(f"{prefix}valid_stage1_hit1", users, beside, chance=chance, **shared)
    gain = over_all - stage1
    sheet.measure(f"{prefix}hit1_all_over_stage1", users, gain, chance=NAN, **shared)
    sheet.measure(
        f"{prefix}valid_ratio", users, ranking.valid_answer(chosen), chance=NAN,
        **{**shared, "k": 0},
    )  # fmt: skip
