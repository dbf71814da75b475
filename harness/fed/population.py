"""Roles of the population: who is honest, noisy or malicious, and what noisy clients hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from harness.core.seeds import Seeds
from harness.core.system import Domain

NoiseKind = Literal["item_replacement", "item_drop", "shuffle"]


@dataclass(frozen=True)
class Roles:
    """Disjoint roles over the members of a population.

    Attributes:
        malicious: members that the adversary controls.
        noisy: honest members whose data is noisy.
    """

    malicious: Bool[np.ndarray, " member"]
    noisy: Bool[np.ndarray, " member"]


def assign_roles(num_members: int, malicious: float, noisy: float, seeds: Seeds) -> Roles:
    """Draw roles from one permutation: malicious from its front, noisy from its back.

    Sets are nested: raising a fraction keeps the members that a smaller one chose, so sweeps over
    a fraction are paired and users that are honest under the largest fraction are honest under
    every one. Where the two would overlap, malicious wins.
    """
    order = seeds.numpy("roles").permutation(num_members)
    num_malicious = math.ceil(malicious * num_members - 1e-9)
    num_noisy = min(math.ceil(noisy * num_members - 1e-9), num_members - num_malicious)
    bad = np.zeros(num_members, dtype=bool)
    bad[order[:num_malicious]] = True
    noise = np.zeros(num_members, dtype=bool)
    noise[order[num_members - num_noisy :]] = True
    return Roles(malicious=bad, noisy=noise)


def corrupt(
    domain: Domain, noisy: Bool[np.ndarray, " user"], kind: NoiseKind, rate: float, seeds: Seeds
) -> Domain:
    """Return ``domain`` with noise in the histories of noisy users (attacks-defences R1).

    Args:
        domain: clean training data.
        noisy: users concerned.
        kind: ``item_replacement`` puts a uniform item at each position with probability ``rate``;
            ``item_drop`` drops it (two items are always kept); ``shuffle`` permutes the chosen
            positions among themselves.
        rate: probability per position.
        seeds: one stream a user, so a user's noise does not depend on who else is noisy.
    """
    if rate == 0 or not noisy.any():
        return domain
    histories = list(domain.histories)
    for user in np.flatnonzero(noisy):
        stream = seeds.numpy("noise", int(user))
        histories[user] = _noisy_history(histories[user], kind, rate, domain.num_items, stream)
    return replace(domain, histories=tuple(histories))


def _noisy_history(
    history: Int[np.ndarray, " event"],
    kind: NoiseKind,
    rate: float,
    num_items: int,
    stream: np.random.Generator,
) -> Int[np.ndarray, " event"]:
    hit = stream.random(len(history)) < rate
    if kind == "item_replacement":
        return np.where(hit, stream.integers(0, num_items, len(history)), history)
    if kind == "shuffle":
        out = history.copy()
        out[hit] = stream.permutation(history[hit])
        return out
    if len(history) - hit.sum() < 2:
        hit[:2] = False
    return history[~hit]


def popularity(domain: Domain) -> Float[np.ndarray, " item"]:
    """Return how often each item occurs in the training histories."""
    events = np.concatenate(domain.histories) if domain.histories else np.zeros(0, dtype=np.int64)
    return np.bincount(events, minlength=domain.num_items).astype(np.float64)
