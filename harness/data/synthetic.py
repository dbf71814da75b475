"""Made-up users who walk among clusters of made-up items: for smoke tests, never for a finding.

A user starts in a home cluster and at each step stays in the present cluster with probability
``stay`` or jumps to another; within a cluster the next item is mostly the successor of the last
one on a fixed cycle, so that order carries information a sequential model can learn. [ours]
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from pydantic import Field

from harness.core.errors import ScenarioError
from harness.core.params import Params
from harness.core.seeds import Seeds
from harness.data.assemble import assemble
from harness.data.catalogue import MOVIELENS_GENRES, make_catalogue
from harness.data.events import Coded, EventTable, RowPolicy
from harness.data.interactions import Interactions
from harness.data.registry import LOADERS

_FIRST = ("Amber", "Broken", "Crimson", "Distant", "Eternal", "Frozen", "Golden", "Hidden")
_SECOND = ("Harbour", "Lantern", "Mountain", "Orchard", "River", "Shadow", "Temple", "Winter")


class SyntheticOptions(Params):
    """Options of the made-up data.

    Attributes:
        num_users: users.
        num_items: items, in equal clusters.
        num_clusters: clusters; each has one MovieLens genre, so that genres can be split.
        min_length: fewest events of a user.
        max_length: most events of a user.
        stay: chance to stay in the present cluster.
        successor: chance that the next item is the cycle's successor, else any of the cluster.
        seed: of the data; independent of the scenario's seeds.
    """

    num_users: int = Field(default=60, ge=1, le=10_000_000)
    num_items: int = Field(default=80, ge=1, le=10_000_000)
    num_clusters: int = Field(default=8, ge=1, le=18)
    min_length: int = Field(default=8, ge=3, le=1_000_000)
    max_length: int = Field(default=20, ge=3, le=100_000)
    stay: float = Field(default=0.8, ge=0, le=1)
    successor: float = Field(default=0.7, ge=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**63)


@LOADERS.register("synthetic", SyntheticOptions, carries="made-up titles, genres, times")
def make_synthetic(options: SyntheticOptions, policy: RowPolicy) -> Interactions:
    """Make data up, for tests: the same options give the same data.

    Raises:
        ScenarioError: fewer items than clusters, or lengths that cross.
    """
    if options.num_items < options.num_clusters or options.min_length > options.max_length:
        raise ScenarioError(
            "synthetic data: num_items must reach num_clusters and max_length min_length"
        )
    rng = Seeds(options.seed).numpy("data", "synthetic")
    cluster = np.arange(options.num_items) % options.num_clusters
    users, items = [], []
    for user in range(options.num_users):
        walk = _walk(options, cluster, rng)
        users += [user] * len(walk)
        items += walk
    genres = [(MOVIELENS_GENRES[1 + int(c)],) for c in cluster]
    catalogue = make_catalogue(
        "synthetic items",
        [f"i{item}" for item in range(options.num_items)],
        [_title(item) for item in range(options.num_items)],
        attributes=genres,
    )
    events = EventTable(
        source="synthetic",
        user=Coded(np.array(users), [f"u{user}" for user in range(options.num_users)]),
        item=Coded(np.array(items), [f"i{item}" for item in range(options.num_items)]),
        line=np.arange(1, len(users) + 1),
    )
    ages = rng.choice(["18", "25", "35", "45"], options.num_users)
    attributes = pd.DataFrame({"age": ages}, index=pd.Index(events.user.values), dtype=str)
    data = assemble("synthetic", events, catalogue, policy, attributes)
    return data.noting(synthetic="made-up data, for tests only")


def _title(item: int) -> str:
    pairs = len(_FIRST) * len(_SECOND)
    first = _FIRST[item % len(_FIRST)]
    second = _SECOND[(item // len(_FIRST)) % len(_SECOND)]
    part = item // pairs
    return f"{first} {second}" + (f" Part {part + 1}" if part else "")


def _walk(options: SyntheticOptions, cluster: np.ndarray, rng: np.random.Generator) -> list[int]:
    length = int(rng.integers(options.min_length, options.max_length + 1))
    present = int(rng.integers(options.num_clusters))
    last = -1
    walk: list[int] = []
    for _ in range(length):
        if last >= 0 and rng.random() >= options.stay:
            present, last = int(rng.integers(options.num_clusters)), -1
        size = -(-(options.num_items - present) // options.num_clusters)
        if last >= 0 and rng.random() < options.successor:
            place = (last // options.num_clusters + 1) % size
        else:
            place = int(rng.integers(size))
        last = present + place * options.num_clusters
        walk.append(last)
    assert (cluster[walk] < options.num_clusters).all()
    return walk
