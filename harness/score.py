"""Recommendations against the truth: the whole catalogue ranked, and short lists of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from harness.candidates import Candidates, draw
from harness.core.scores import block_rows
from harness.core.seeds import Seeds
from harness.core.system import Released
from harness.metrics import exposure, ranking
from harness.settings import Sampling
from harness.sheet import NAN, Sheet
from harness.truth import Truth

BATCH = 512
"""Users ranked at once, or fewer where the catalogue is large."""


def score_recommendations(
    sheet: Sheet,
    released: Released,
    truth: Truth,
    cutoffs: tuple[int, ...],
    count: int,
    seeds: Seeds,
    samplings: Sequence[Sampling] = ("uniform",),
) -> None:
    """Enter HR@K, NDCG@K (full ranking, items had before masked), Hit@1 among candidates, and ER@K.

    Beside Hit@1 stand popularity and a guess by frequency on the same lists. Where the released
    model names references of its own (``references``), their numbers stand beside, under their
    names, with what the model has over them.
    """
    users = truth.evaluated
    drawn = draw(truth, users, count, samplings, seeds)
    found = _ranked(released, truth, drawn)
    _score_ranking(sheet, truth, found.test, cutoffs, _caveats(released, found.test))
    for candidates, hits in zip(drawn, found.hits, strict=True):
        candidates.compare(sheet, users, "hit1", hits, _caveats(released, found.test))
        candidates.enter(sheet, users, "")
    if truth.targets:
        _score_exposure(sheet, truth, found, cutoffs)
    references: dict[str, Released] = getattr(released, "references", {})
    for name, other in references.items():
        beside = _ranked(other, truth, drawn)
        why = _caveats(other, beside.test)
        _score_ranking(sheet, truth, beside.test, cutoffs, why, f"{name}_")
        _score_gain(sheet, users, name, (found, beside), max(cutoffs))
        for candidates, hits in zip(drawn, beside.hits, strict=True):
            candidates.compare(sheet, users, f"{name}_hit1", hits, why)


def _score_ranking(
    sheet: Sheet,
    truth: Truth,
    ranks: Float[np.ndarray, " user"],
    cutoffs: tuple[int, ...],
    why: str,
    prefix: str = "",
) -> None:
    """Enter HR and NDCG of the full ranking, with the mean user's chance level."""
    users, num_items = truth.evaluated, truth.domain.num_items
    contexts = truth.contexts(users)
    fair = float(np.mean([num_items - len(np.unique(c)) for c in contexts])) if len(users) else NAN
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
        hits, gains = ranking.hit_ratio(ranks, k), ranking.ndcg(ranks, k)
        sheet.measure(f"{prefix}hr", users, hits, chance=chance_hr, **shared)
        sheet.measure(f"{prefix}ndcg", users, gains, chance=chance_ndcg, **shared)


def _score_gain(
    sheet: Sheet,
    users: Int[np.ndarray, " user"],
    name: str,
    pair: tuple[_Ranked, _Ranked],
    k: int,
) -> None:
    """Enter the released model's HR@K less the reference's, paired by user."""
    own, other = (ranking.hit_ratio(found.test, k) for found in pair)
    sheet.measure(
        f"hr_over_{name}",
        users,
        own - other,
        side="utility",
        better="higher",
        chance=NAN,
        k=k,
        protocol="full",
    )


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
        hits: Hit@1 among the candidates of each way to draw them.
        targets: ranks of the promoted items, NaN where the user has had one.
        unseen: number of items that the user has not had.
        lacking: whether the user has not had every target.
    """

    test: Float[np.ndarray, " user"]
    hits: list[Float[np.ndarray, " user"]]
    targets: Float[np.ndarray, "user target"]
    unseen: Int[np.ndarray, " user"]
    lacking: Bool[np.ndarray, " user"]


def _ranked(released: Released, truth: Truth, drawn: Sequence[Candidates]) -> _Ranked:
    """Rank the catalogue for every evaluated user, a batch of users at a time."""
    users, size = truth.evaluated, len(truth.evaluated)
    targets = np.array(truth.targets, dtype=np.int64)
    found = _Ranked(
        np.zeros(size),
        [np.zeros(size) for _ in drawn],
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
        for candidates, hits in zip(drawn, found.hits, strict=True):
            among = np.take_along_axis(scores, candidates.lists[part], 1)
            hits[part] = ranking.hit_ratio(ranking.target_rank(among, candidates.place[part]), 1)
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
