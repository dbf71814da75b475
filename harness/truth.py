"""What is true of a training; read by the scorer and by nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from harness.core.seeds import Seeds
from harness.core.system import Domain
from harness.settings import Sampling


@dataclass(frozen=True)
class Truth:
    """The truth behind a cell.

    Attributes:
        domain: the evaluated domain's training data as the clients hold it, noise included.
        clean: histories before noise, which recommendations are made from.
        test: held-out item of each user, ``-1`` where there is none.
        evaluated: users whose recommendations are scored: honest in every cell of the scenario.
        victims: clients that inference attacks are scored on (honest and not noisy in this cell).
        honest_uploads: uploaded vectors that no adversary crafted (cross-silo systems).
        upload_items: catalogue item of each uploaded vector; None where none is uploaded.
        upload_domain: domain that sent each of them.
        categories: genres or categories of each catalogue item; empty where the data has none.
        targets: promoted items.
        coins: an audit's coin of each client, heads is true; None where nothing is audited.
    """

    domain: Domain
    clean: Sequence[Int[np.ndarray, " event"]]
    test: Int[np.ndarray, " user"]
    evaluated: Int[np.ndarray, " user"]
    victims: Bool[np.ndarray, " client"]
    honest_uploads: Bool[np.ndarray, " upload"]
    targets: tuple[int, ...]
    categories: tuple[tuple[str, ...], ...] = ()
    coins: Bool[np.ndarray, " client"] | None = None
    upload_items: Int[np.ndarray, " upload"] | None = None
    upload_domain: Int[np.ndarray, " upload"] | None = None

    def contexts(self, users: Int[np.ndarray, " user"]) -> list[Int[np.ndarray, " event"]]:
        """Return what each user is recommended from at test time: history and validation item."""
        validation = self.domain.validation
        return [
            np.append(self.clean[u], validation[u]) if validation[u] >= 0 else self.clean[u]
            for u in users
        ]

    def seen(self, users: Int[np.ndarray, " user"]) -> Bool[np.ndarray, "user item"]:
        """Return which items each user has had before the test item."""
        mask = np.zeros((len(users), self.domain.num_items), dtype=bool)
        for row, context in enumerate(self.contexts(users)):
            mask[row, context] = True
        return mask

    def popularity(self) -> Int[np.ndarray, " item"]:
        """Return how often each item occurs in the training data as the clients hold it."""
        return _occurrences(self.domain.histories, self.domain.num_items)


def _occurrences(
    histories: Sequence[Int[np.ndarray, " event"]], num_items: int
) -> Int[np.ndarray, " item"]:
    events = [np.asarray(history, dtype=np.int64) for history in histories]
    return np.bincount(np.concatenate([*events, np.zeros(0, np.int64)]), minlength=num_items)


def candidate_lists(
    truth: Truth,
    users: Int[np.ndarray, " user"],
    count: int,
    seeds: Seeds,
    sampling: Sampling = "uniform",
) -> tuple[Int[np.ndarray, "user candidate"], Int[np.ndarray, " user"]]:
    """Draw each user's candidates: the test item and random items the user never had.

    ``uniform``: every item is equally likely. The held-out item, which was drawn by what people
    do, is then as a rule the best known of the list. ``popularity``: in proportion to how often an
    item occurs in the clean training histories, plus one so that no item is ruled out; the
    held-out item and the others then come from nearly the same distribution, and popularity alone
    says little (the sampler of BERT4Rec's evaluation, CIKM 2019). Either way the metric compares
    choices among these lists; it is no estimate of a full ranking (Krichene and Rendle, KDD 2020).

    Every user has a stream of their own, and noise does not change the lists: they are the same in
    every cell of a seed.

    Returns:
        The candidates in random order, and the place of the test item among them.
    """
    by_frequency = sampling == "popularity"
    weights = _occurrences(truth.clean, truth.domain.num_items) + 1.0
    purpose = "popular candidates" if by_frequency else "candidates"
    lists = np.zeros((len(users), count), dtype=np.int64)
    place = np.zeros(len(users), dtype=np.int64)
    for row, (user, context) in enumerate(zip(users, truth.contexts(users), strict=True)):
        stream = seeds.numpy(purpose, int(user))
        excluded = np.append(context, truth.test[user])
        allowed = np.setdiff1d(np.arange(truth.domain.num_items), excluded)
        likely = weights[allowed] / weights[allowed].sum() if by_frequency else None
        others = stream.choice(allowed, count - 1, replace=False, p=likely)
        place[row] = stream.integers(0, count)
        lists[row] = np.insert(others, place[row], truth.test[user])
    return lists, place
