"""Bounds on shares of users: exact, so that 0 of n and n of n are never claimed without a margin.

Clopper and Pearson's bounds (Biometrika 26, 1934) hold for a binomial count. Where the same users
return in several seeds the values are no such count, and the bounds are those of the effective
number of values that has the variance found (Korn and Graubard, Survey Methodology 24, 1998). Where
fewer than 10 users hit, or fewer than 10 miss, in any seed, that variance is not known well
enough and the effective number is at most the number of distinct users [ours].
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from harness.metrics.crossed import Panel, Spread, spread, t_quantile
from harness.metrics.resampling import Sides

FEW_USERS = 10

Bounds = Callable[
    [Float[np.ndarray, " row"], Float[np.ndarray, " row"], float], Float[np.ndarray, "row 2"]
]
"""Bounds of shares from successes, trials and confidence."""


class Hits(NamedTuple):
    """Shares of hits, one a row.

    Attributes:
        spread: of the hits, 0 or 1 for each user and seed.
        n: values behind each share.
        hitting: distinct users with a hit in any seed.
        missing: distinct users with a miss in any seed.
    """

    spread: Spread
    n: Float[np.ndarray, " row"]
    hitting: Float[np.ndarray, " row"]
    missing: Float[np.ndarray, " row"]


def clopper_pearson(
    successes: Float[np.ndarray, " row"], n: Float[np.ndarray, " row"], confidence: float
) -> Float[np.ndarray, "row 2"]:
    """Lower and upper bound of a share; counts need not be whole."""
    from scipy.special import betaincinv  # a third of a second: only who has intervals pays for it

    tail, failures = (1 - confidence) / 2, np.maximum(n - successes, 0.0)
    none, all_ = successes <= 0, failures <= 0
    low = betaincinv(np.where(none, 1.0, successes), failures + 1, tail)
    high = betaincinv(successes + 1, np.where(all_, 1.0, failures), 1 - tail)
    return np.stack([np.where(none, 0.0, low), np.where(all_, 1.0, high)], axis=1)


def hits(
    sums: Float[np.ndarray, "row seed user"],
    counts: Float[np.ndarray, "#row seed user"] | None,
    whole: Spread,
) -> Hits:
    """Return what :func:`share_sides` needs of hits and misses.

    Args:
        sums: hits of each user, as in :class:`harness.metrics.crossed.Panel`.
        counts: values of each user; None where each has one in every seed.
        whole: spread of the same.
    """
    rows, num_seeds, num_users = sums.shape
    if counts is None:
        n = np.full(rows, float(num_seeds * num_users))
        missing = (sums < 1).any(axis=1).sum(axis=1)
    else:
        n = np.broadcast_to(counts.sum(axis=(1, 2)), rows).astype(np.float64)
        missing = (sums < counts).any(axis=1).sum(axis=1)
    hitting = (sums > 0).any(axis=1).sum(axis=1)
    return Hits(whole, n, hitting.astype(np.float64), missing.astype(np.float64))


def wilson(
    successes: Float[np.ndarray, " row"], n: Float[np.ndarray, " row"], confidence: float
) -> Float[np.ndarray, "row 2"]:
    """Bounds of a share by its score (Wilson, JASA 22, 1927); counts need not be whole."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return np.stack([np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)], axis=1)


def share_sides(found: Hits, confidence: float, bounds_of: Bounds = clopper_pearson) -> Sides:
    """Half widths of shares over the users drawn."""
    share = np.clip(found.spread.value.astype(np.float64), 0.0, 1.0)
    users = float(found.spread.users.shape[1])
    variance = found.spread.from_users * (users - 1) / users
    effective = np.divide(
        share * (1 - share), variance, out=np.full_like(share, users), where=variance > 0
    )
    if found.spread.num_seeds > 1:
        fewer = t_quantile(float(found.n.max()) - 1, confidence) / t_quantile(users - 1, confidence)
        few = np.minimum(found.hitting, found.missing) < FEW_USERS
        effective = np.where(few, np.minimum(effective, users), effective) * fewer**2
    effective = np.minimum(effective, found.n)
    bounds = bounds_of(share * effective, effective, confidence)
    return np.maximum(np.stack([share - bounds[:, 0], bounds[:, 1] - share], axis=1), 0.0)


def difference_sides(gains: Hits, losses: Hits, confidence: float) -> Sides:
    """Half widths of a paired difference of hits: users gained less users lost.

    Wilson's bounds of both shares are put together with the shares' correlation (Newcombe,
    Statistics in Medicine 17, 1998, method 10; Zou and Donner, ibid. 27, 2008), so pairs that agree
    for every user leave what could differ unseen. Exact bounds would be too wide here, as both
    shares hardly ever stand at their worst together.
    """
    up, down = (share_sides(x, confidence, wilson) for x in (gains, losses))
    ours, theirs = gains.spread.users, losses.spread.users
    scale = np.sqrt(np.einsum("ru,ru->r", ours, ours) * np.einsum("ru,ru->r", theirs, theirs))
    product = np.einsum("ru,ru->r", ours, theirs)
    together = np.divide(product, scale, out=np.zeros_like(scale), where=scale > 0)
    sides = []
    for above, below in ((up[:, 0], down[:, 1]), (up[:, 1], down[:, 0])):
        squared = above**2 + below**2 - 2 * together * above * below
        sides.append(np.sqrt(np.maximum(squared, 0.0)))
    return np.stack(sides, axis=1)


def are_hits(found: Panel) -> bool:
    """Whether every value is 0 or 1, one for each user and seed."""
    return bool(np.isin(found.sums, (0.0, 1.0)).all() and (found.counts <= 1).all())


def gained_and_lost(found: Panel) -> tuple[Hits, Hits]:
    """Users whose hit only the first column has, and those whose only the second has."""
    counts = found.counts[None]
    gained, lost = (np.maximum(x, 0.0) for x in (steps_of(found), -steps_of(found)))
    gains, losses = (hits(x, counts, spread(x, counts)) for x in (gained, lost))
    return gains, losses


def steps_of(found: Panel) -> Float[np.ndarray, "1 seed user"]:
    """First column less second."""
    return found.sums[:1] - found.sums[1:]
