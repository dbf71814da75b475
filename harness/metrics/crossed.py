"""How a mean over seeds and users varies when the same users return in every seed.

The value of user u in seed s is taken as ``mu + user_u + seed_s + rest_us`` (two crossed random
effects). An estimate is the mean of the seeds' means, and its variance has a part from the users
drawn, whom all seeds share, and one from the seeds, of which there are few:

* users: every resample draws users jointly for all seeds. To first order that is a resample of one
  number per distinct user, ``value + U · mean over seeds of (y_us - m_s) / n_s`` (U distinct users,
  m_s and n_s of seed s); where every user is in every seed that number is the user's own mean and
  nothing is approximated. A user without a value in a seed is absent from that seed alone.
* seeds: the spread of the S seeds' means has S - 1 degrees of freedom, so a normal quantile, or
  resampling two or three seeds, covers far too little. Both parts are joined by the weighted
  t-quantile of Cochran and Cox (Experimental Designs, 2nd ed. 1957, section 4.14), which Mickey and
  Brown (Ann. Math. Stat. 37, 1966) show to be conservative. At S = 2 its least coverage is 0.939
  for a nominal 0.95, from S = 3 on 0.950; where seeds add nothing it covers up to 0.99.

With one seed there is no second part: the interval covers users alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

Groups = Sequence[Shaped[np.ndarray, " _user"]]


class Panel(NamedTuple):
    """Values of several columns, users aligned over seeds.

    Attributes:
        sums: sum of a user's values in a seed; 0 where there is none.
        counts: how many there are, 0 or 1 where a user has one value a seed.
    """

    sums: Float[np.ndarray, "column seed user"]
    counts: Float[np.ndarray, "seed user"]

    @property
    def n(self) -> int:
        """Measured values over all seeds."""
        return int(self.counts.sum())


class Spread(NamedTuple):
    """Parts of the variance of the mean over seeds, for many rows of the same shape.

    Attributes:
        value: mean of the seeds' means.
        users: one number per distinct user less ``value``; its mean is 0.
        from_users: variance of ``value`` over the users drawn, the seeds being what they are.
        from_seeds: sample variance of the seeds' means over S; holds ``shared`` too. 0 for S = 1.
        shared: how much of ``from_seeds`` is due to users' values changing between seeds.
        num_seeds: S.
    """

    value: Float[np.ndarray, " row"]
    users: Float[np.ndarray, "row user"]
    from_users: Float[np.ndarray, " row"]
    from_seeds: Float[np.ndarray, " row"]
    shared: Float[np.ndarray, " row"]
    num_seeds: int


def panel(columns: Sequence[Groups], units: Groups | None = None) -> Panel | None:
    """Align users over seeds; None where nothing was measured.

    A value that is NaN in any column is dropped from all, a seed without values altogether.

    Args:
        columns: for each column one array per seed; columns agree in seeds and users.
        units: for each seed the id of each user. Without ids the same place in two seeds is taken
            for the same user, which is right for users that return and safe for those that do not:
            independent values average out whatever they are paired with.
    """
    ids = units if units is not None else [np.arange(len(group)) for group in columns[0]]
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for place, own in enumerate(ids):
        values = np.stack([np.asarray(c[place], dtype=np.float64) for c in columns])
        if values.shape[1] != len(own):
            raise ValueError(f"{len(own)} units for {values.shape[1]} values in seed {place + 1}")
        measured = ~np.isnan(values).any(axis=0)
        if measured.any():
            kept.append((np.asarray(own)[measured], values[:, measured]))
    if not kept:
        return None
    distinct, places = np.unique(np.concatenate([own for own, _ in kept]), return_inverse=True)
    seeds = np.repeat(np.arange(len(kept)), [len(own) for own, _ in kept])
    shape, cells = (len(kept), len(distinct)), seeds * len(distinct) + places
    size = shape[0] * shape[1]
    together = np.concatenate([values for _, values in kept], axis=1)
    sums = [np.bincount(cells, column, size).reshape(shape) for column in together]
    counts = np.bincount(cells, minlength=size).reshape(shape).astype(np.float64)
    return Panel(np.stack(sums), counts)


def spread(
    sums: Float[np.ndarray, "row seed user"], counts: Float[np.ndarray, "#row seed user"] | None
) -> Spread:
    """Return the parts of the variance of each row's mean over seeds.

    Args:
        sums: sums of values, as in :class:`Panel`.
        counts: how many there are; None where every user has one value in every seed.
    """
    _, num_seeds, num_users = sums.shape
    if counts is None:
        means = sums.mean(axis=2)
        parts = (sums - means[..., None]) / num_users
    else:
        sizes = counts.sum(axis=2)
        means = sums.sum(axis=2) / sizes
        parts = (sums - means[..., None] * counts) / sizes[..., None]
    averaged = parts.mean(axis=1)
    more = num_users / max(1, num_users - 1)
    of_users = np.einsum("ru,ru->r", averaged, averaged)
    zero = np.zeros_like(of_users)
    from_seeds, shared = zero, zero
    if num_seeds > 1:
        from_seeds = means.var(axis=1, ddof=1) / num_seeds
        rest = np.einsum("rsu,rsu->r", parts, parts) - num_seeds * of_users
        shared = more * np.maximum(rest, 0.0) / (num_seeds * (num_seeds - 1))
    users = num_users * averaged
    return Spread(means.mean(axis=1), users, more * of_users, from_seeds, shared, num_seeds)


def seeds_add(found: Spread, confidence: float) -> Float[np.ndarray, " row"]:
    """Half width that seeds add to a half width over users, in quadrature.

    The quadrature keeps bounds over users that are not symmetric as they are (Zou and Donner,
    Statistics in Medicine 27, 2008).
    """
    if found.num_seeds < 2:
        return np.zeros_like(found.value)
    over_users = t_quantile(found.users.shape[1] - 1, confidence)
    over_seeds = t_quantile(found.num_seeds - 1, confidence)
    lasting = np.maximum(found.from_users - found.shared, 0.0)
    total = lasting + found.from_seeds
    weighted = over_users * lasting + over_seeds * found.from_seeds
    half = np.divide(weighted, np.sqrt(total), out=np.zeros_like(total), where=total > 0)
    return np.sqrt(np.maximum(half**2 - over_users**2 * found.from_users, 0.0))


def t_quantile(freedom: float, confidence: float) -> float:
    """Two-sided quantile of Student's t."""
    from scipy.special import stdtrit  # a third of a second: only who has intervals pays for it

    return float(stdtrit(max(1.0, freedom), 0.5 + confidence / 2))
