"""Anchors that stand beside every federated system: random, popularity, central SASRec.

They train on the same split without a federation; nothing of theirs can be attacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from harness.core.errors import RunError
from harness.core.messages import Silence
from harness.core.observe import Catalogue
from harness.core.params import Paper
from harness.core.registry import SYSTEMS
from harness.core.seeds import Seeds
from harness.core.system import Domain, Released, Resources, System
from models.central import CentralConfig
from models.pretrain import pretrained


@dataclass(frozen=True)
class FixedScores:
    """Scores that do not depend on the history.

    Attributes:
        per_item: popularity of each item, or None for random scores.
        num_items: catalogue size.
        seeds: stream of the random scores, one for each user.
    """

    per_item: Float[np.ndarray, " item"] | None
    num_items: int
    seeds: Seeds

    def scores(
        self, users: Int[np.ndarray, " user"], histories: Sequence[Int[np.ndarray, " event"]]
    ) -> Float[np.ndarray, "user item"]:
        """Return the same popularity for every user, or random scores of the user's own."""
        del histories
        if self.per_item is not None:
            return np.tile(self.per_item, (len(users), 1))
        return np.stack([self.seeds.numpy("user", int(u)).random(self.num_items) for u in users])


class Anchor(System):
    """A reference without a federation."""

    emits = Silence
    kind = "anchor"

    def num_rounds(self) -> int:
        """No rounds."""
        return 0

    def setup(
        self, domains: tuple[Domain, ...], resources: Resources, seeds: Seeds
    ) -> tuple[Domain, Resources]:
        """Keep what ``release`` trains on."""
        return domains[0], resources

    def catalogue(self, state: tuple[Domain, Resources]) -> Catalogue:
        """Return the titles."""
        titles = state[0].titles
        none = torch.zeros(len(titles), dtype=torch.int64)
        return Catalogue(titles, torch.zeros(len(titles), 0), none)


@SYSTEMS.register("random")
class Random(Anchor):
    """Random scores: what chance gives."""

    paper = Paper("ours", "baseline")

    def release(self, state: tuple[Domain, Resources], seeds: Seeds) -> Released:
        """Return random scores, independent for each user."""
        return FixedScores(None, state[0].num_items, seeds)


@SYSTEMS.register("popularity")
class Popularity(Anchor):
    """Items by how often they occur in the training histories."""

    paper = Paper("ours", "baseline")

    def release(self, state: tuple[Domain, Resources], seeds: Seeds) -> Released:
        """Return popularity scores."""
        domain = state[0]
        events = [np.asarray(history, dtype=np.int64) for history in domain.histories]
        counts = np.bincount(np.concatenate([*events, []]).astype(int), minlength=domain.num_items)
        if not counts.any():
            raise RunError(f"{domain.name}: no training event to count the popularity of items by")
        return FixedScores(counts.astype(np.float64), domain.num_items, seeds)


@SYSTEMS.register("central_sasrec")
class CentralSasrec(Anchor):
    """The same SASRec trained on pooled histories: what a federation gives up at most."""

    paper = Paper("arXiv:1808.09781", "reimplementation")
    Config = CentralConfig

    def release(self, state: tuple[Domain, Resources], seeds: Seeds) -> Any:
        """Train, or load the identical training from the cache."""
        domain, resources = state
        return pretrained(domain, self.config, seeds, resources.cache, resources.progress)
