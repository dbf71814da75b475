"""Recommendations and answers against the truth."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from harness.core.scores import block_rows
from harness.core.seeds import Seeds
from harness.core.system import Released
from harness.metrics import exposure, ranking
from harness.sheet import NAN, Sheet
from harness.truth import Truth, candidate_lists

BATCH = 512
"""Users ranked at once, or fewer where the catalogue is large."""


def score_recommendations(
    sheet: Sheet,
    released: Released,
    truth: Truth,
    cutoffs: tuple[int, ...],
    count: int,
    seeds: Seeds,
) -> None:
    """Enter HR@K, NDCG@K (full ranking, items had before masked), Hit@1 sampled, and ER@K."""
    users, num_items = truth.evaluated, truth.domain.num_items
    found = _ranked(released, truth, count, seeds)
    why = _caveats(released, found.test)
    fair = (
        float(np.mean([num_items - len(np.unique(c)) for c in truth.contexts(users)]))
        if len(users)
        else NAN
    )
    for k in cutoffs:
        shared: dict[str, Any] = {
            "side": "utility",
            "better": "higher",
            "k": k,
            "protocol": "full",
            "reason": why,
        }
        chance_hr, chance_ndcg = NAN, NAN
        if len(users):
            chance_hr = ranking.hit_ratio_chance(k, round(fair))
            chance_ndcg = ranking.ndcg_chance(k, round(fair))
        sheet.measure("hr", users, ranking.hit_ratio(found.test, k), chance=chance_hr, **shared)
        sheet.measure("ndcg", users, ranking.ndcg(found.test, k), chance=chance_ndcg, **shared)
    sheet.measure(
        "hit1",
        users,
        found.hits,
        side="utility",
        better="higher",
        chance=1 / count,
        k=1,
        protocol="sampled",
        reason=why,
    )
    if truth.targets:
        _score_exposure(sheet, truth, found, cutoffs)


def _caveats(released: Released, ranks: Float[np.ndarray, " user"]) -> str:
    """Say what a reader must know of these numbers, on the row itself."""
    lost, told = int(np.isnan(ranks).sum()), str(getattr(released, "caveat", ""))
    if not lost:
        return told
    where = "every user" if lost == len(ranks) else f"{lost} of {len(ranks)} users"
    return "; ".join(filter(None, [f"the model's scores are NaN for {where}: it diverged", told]))


class _Ranked(NamedTuple):
    """What is kept of the users' rankings.

    Attributes:
        test: rank of the test item.
        hits: Hit@1 among candidates.
        targets: ranks of the promoted items, NaN where the user has had one.
        unseen: number of items that the user has not had.
        lacking: whether the user has not had every target.
    """

    test: Float[np.ndarray, " user"]
    hits: Float[np.ndarray, " user"]
    targets: Float[np.ndarray, "user target"]
    unseen: Int[np.ndarray, " user"]
    lacking: Bool[np.ndarray, " user"]


def _ranked(released: Released, truth: Truth, count: int, seeds: Seeds) -> _Ranked:
    """Rank the catalogue for every evaluated user, a batch of users at a time."""
    users, size = truth.evaluated, len(truth.evaluated)
    targets = np.array(truth.targets, dtype=np.int64)
    found = _Ranked(
        np.zeros(size),
        np.zeros(size),
        np.zeros((size, len(targets))),
        np.zeros(size, dtype=np.int64),
        np.zeros(size, dtype=bool),
    )
    batch = min(BATCH, block_rows(truth.domain.num_items))
    for start in range(0, size, batch):
        part = slice(start, start + batch)
        chunk = users[part]
        scores, seen = released.scores(chunk, truth.contexts(chunk)), truth.seen(chunk)
        found.test[part] = ranking.target_rank(scores, truth.test[chunk], excluded=seen)
        lists, place = candidate_lists(truth, chunk, count, seeds)
        among = np.take_along_axis(scores, lists, 1)
        found.hits[part] = ranking.hit_ratio(ranking.target_rank(among, place), 1)
        found.targets[part] = exposure.exposed_target_ranks(scores, targets, seen)
        found.unseen[part] = seen.shape[1] - seen.sum(1)
        found.lacking[part] = ~seen[:, targets].all(1)
    return found


def _score_exposure(sheet: Sheet, truth: Truth, found: _Ranked, cutoffs: tuple[int, ...]) -> None:
    users, ranks = truth.evaluated, found.targets
    attack = sheet.base["poisoning"]
    shared: dict[str, Any] = {"side": "robustness", "attack": attack}
    for k in cutoffs:
        chance = exposure.exposure_chance(found.unseen[found.lacking], k)
        sheet.measure(
            "er",
            users,
            exposure.exposure_ratio(ranks, k),
            better="lower",
            chance=chance,
            k=k,
            protocol="full",
            **shared,
        )
    middle = float((found.unseen.mean() + 1) / 2) if len(users) else NAN
    sheet.measure(
        "target_rank",
        users,
        exposure.mean_target_rank(ranks),
        better="higher",
        chance=middle,
        **shared,
    )


def score_answers(
    sheet: Sheet, released: Any, truth: Truth, count: int, limit: int, seeds: Seeds
) -> None:
    """Enter Hit@1 in both definitions and the Valid Ratio of a language stage, by variant.

    Over all: a text that names no candidate is wrong (A-LLMRec). Over valid: it is left out
    (LLaRA).
    """
    order = seeds.numpy("answer users").permutation(truth.evaluated)
    users = np.sort(order[:limit])
    lists, place = candidate_lists(truth, users, count, seeds)
    answers = released.answer(users, truth.contexts(users), lists)
    for variant, answer in answers.items():
        prefix = "" if variant == "stage 2" else "llm_only_"
        shared: dict[str, Any] = {"side": "utility", "better": "higher", "protocol": "sampled"}
        chosen = np.asarray(answer.chosen)
        over_all = ranking.hit1_over_all(chosen, place)
        over_valid = ranking.hit1_over_valid(chosen, place)
        sheet.measure(f"{prefix}hit1_all", users, over_all, chance=1 / count, k=1, **shared)
        sheet.measure(f"{prefix}hit1_valid", users, over_valid, chance=1 / count, k=1, **shared)
        sheet.measure(
            f"{prefix}valid_ratio", users, ranking.valid_answer(chosen), chance=NAN, **shared
        )
    scores = np.take_along_axis(released.scores(users, truth.contexts(users)), lists, 1)
    hits = ranking.hit_ratio(ranking.target_rank(scores, place), 1)
    sheet.measure(
        "stage1_hit1",
        users,
        hits,
        side="utility",
        better="higher",
        chance=1 / count,
        k=1,
        protocol="sampled",
    )
