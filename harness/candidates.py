"""Short lists of candidates, and what needs no model on exactly these lists and users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from harness.core.seeds import Seeds
from harness.metrics.baselines import frequency_guess_hit1, shared_hit1
from harness.rows import Protocol
from harness.settings import Sampling
from harness.sheet import Sheet
from harness.truth import Truth, candidate_lists

PROTOCOLS: dict[Sampling, Protocol] = {"uniform": "sampled", "popularity": "popularity"}
"""Name of each way to draw candidates in the column ``protocol``."""


@dataclass(frozen=True)
class Candidates:
    """Users' candidate lists under one way to draw them.

    Attributes:
        protocol: how they were drawn.
        lists: item ids.
        place: column of the held-out item.
        popularity: Hit@1 of a ranking by training popularity, ties shared.
        frequency: probability that a guess drawn by training frequency is right.
    """

    protocol: Protocol
    lists: Int[np.ndarray, "user candidate"]
    place: Int[np.ndarray, " user"]
    popularity: Float[np.ndarray, " user"]
    frequency: Float[np.ndarray, " user"]

    @property
    def shared(self) -> dict[str, Any]:
        """Row fields that all metrics of these lists share."""
        return {
            "side": "utility", "better": "higher", "k": 1, "protocol": self.protocol,
        }  # fmt: skip

    def enter(
        self,
        sheet: Sheet,
        users: Int[np.ndarray, " user"],
        prefix: str,
        measured: Float[np.ndarray, " user"] | None = None,
    ) -> None:
        """Enter both references as ``<prefix>popularity_hit1`` and ``…frequency_guess_hit1``.

        Args:
            sheet: of the cell.
            users: whose lists these are.
            prefix: tells sets of users apart: ``""`` all, ``asked_`` those a language stage was
                asked for, ``valid_`` those it named a candidate for.
            measured: what the references stand beside; users without a number there are left out.
        """
        for name, values in (
            ("popularity_hit1", self.popularity),
            ("frequency_guess_hit1", self.frequency),
        ):
            kept = values if measured is None else np.where(np.isnan(measured), np.nan, values)
            sheet.measure(f"{prefix}{name}", users, kept, chance=self.chance, **self.shared)

    def compare(
        self,
        sheet: Sheet,
        users: Int[np.ndarray, " user"],
        metric: str,
        values: Float[np.ndarray, " user"],
        why: str = "",
    ) -> None:
        """Enter a Hit@1 and what it has over popularity, paired by user; ``why`` is a caveat."""
        shared = {**self.shared, "reason": why}
        sheet.measure(metric, users, values, chance=self.chance, **shared)
        gain = values - self.popularity
        sheet.measure(f"{metric}_over_popularity", users, gain, chance=np.nan, **shared)

    @property
    def chance(self) -> float:
        """What a uniform guess reaches."""
        return 1 / self.lists.shape[1]


def draw(
    truth: Truth,
    users: Int[np.ndarray, " user"],
    count: int,
    samplings: Sequence[Sampling],
    seeds: Seeds,
) -> list[Candidates]:
    """Draw candidates for the users in every way asked for, with what popularity makes of them."""
    trained, found = truth.popularity(), []
    for sampling in samplings:
        lists, place = candidate_lists(truth, users, count, seeds, sampling)
        counts = trained[lists]
        found.append(
            Candidates(
                PROTOCOLS[sampling],
                lists,
                place,
                shared_hit1(counts, place),
                frequency_guess_hit1(counts, place),
            )
        )
    return found
