"""Values whose true mean is known, drawn many times over, and how often an interval holds it.

`python tests/unit/metrics/simulation.py` prints what `docs/design/0006-intervals.md` sums up.
"""

from collections.abc import Iterator
from itertools import product
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from harness.metrics import interval
from harness.metrics.crossed import seeds_add, spread
from harness.metrics.joint import Pairs, paired_differences_jointly
from harness.metrics.shares import hits, share_sides

_DRAWS = 300
NOMINAL, LEAST = 0.95, 0.93
USERS, SEEDS = (10, 20, 40, 300), (1, 2, 3, 5)


class Setting(NamedTuple):
    """How values arise.

    kind: ``hits``, ``skewed`` (exponential values), ``null`` (the difference between the hits of
    two arms that do not differ) or ``ratio`` (their quotient). ``share`` is the true share of
    hits, ``alike`` the correlation of a user's values between seeds, ``noise`` the standard
    deviation that training gives to a seed's mean. ``returning`` users are the same in every seed
    (crossed), others are new ones (nested).
    """

    kind: str
    users: int
    seeds: int
    share: float = 0.2
    alike: float = 0.5
    noise: float = 0.0
    returning: bool = True


class Drawn(NamedTuple):
    """Repetitions of a setting: values of each arm and what an interval should hold.

    With one seed that is the truth of its training: users are all that is resampled.
    """

    arms: list[np.ndarray]
    truth: np.ndarray


def drawn(s: Setting, repetitions: int, rng: np.random.Generator) -> Drawn:
    """Values of shape (repetition, seed, user)."""
    shape = repetitions, s.seeds, s.users
    if s.kind == "skewed":
        shifts = rng.normal(0, s.noise, shape[:2])
        lasting = rng.exponential(size=(repetitions, 1 if s.returning else s.seeds, s.users)) - 1
        rest = rng.exponential(size=shape) - 1
        values = 1 + shifts[..., None] + s.alike**0.5 * lasting + (1 - s.alike) ** 0.5 * rest
        return Drawn([values], 1 + shifts[:, 0] * (s.seeds == 1))
    chances = _chances(s, repetitions, rng)
    room = min(s.share, 1 - s.share)
    arms, means = [], []
    for _ in range(1 if s.kind == "hits" else 2):
        shifts = np.clip(rng.normal(0, s.noise, shape[:2]), -room, room)
        arms.append(_hits(s, chances, shifts[..., None], rng))
        means.append(s.share + shifts[:, 0] * (s.seeds == 1))
    if s.kind == "ratio":
        return Drawn(arms, means[0] / means[-1])
    return Drawn(arms, means[0] if s.kind == "hits" else means[0] - means[-1])


def _chances(s: Setting, repetitions: int, rng: np.random.Generator) -> np.ndarray:
    """Chances of users whose hits in two trainings have correlation ``alike``."""
    shape = repetitions, 1 if s.returning else s.seeds, s.users
    if s.alike == 1:
        return (rng.random(shape) < s.share).astype(float)
    spread = 1 / s.alike - 1
    return rng.beta(s.share * spread, (1 - s.share) * spread, shape)


def _hits(
    s: Setting, chances: np.ndarray, shifts: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Hits of trainings whose mean over all users there are is off by exactly ``shifts``."""
    up = chances + (1 - chances) * shifts / (1 - s.share)
    moved = np.where(shifts > 0, up, chances * (1 + shifts / s.share))
    return (rng.random(moved.shape) < moved).astype(float)


def intervals(s: Setting, found: Drawn, rng: np.random.Generator) -> np.ndarray:
    """Bounds of every repetition, by the project's own functions."""
    ids = [np.arange(s.users) + (0 if s.returning else k * s.users) for k in range(s.seeds)]
    if not s.returning or s.kind == "ratio":
        return np.array([_alone(s, [list(a[k]) for a in found.arms], ids, rng)
                         for k in range(len(found.truth))])  # fmt: skip
    if s.kind == "hits":
        values = found.arms[0]
        whole = spread(values, None)
        sides = share_sides(hits(values, None, whole), NOMINAL)
        sides = np.hypot(sides, seeds_add(whole, NOMINAL)[:, None])
        return np.clip(whole.value[:, None] + sides * [-1, 1], 0, 1)
    other = found.arms[-1] if s.kind == "null" else np.zeros_like(found.arms[0])
    rows = [Pairs(one, two, ids) for one, two in zip(found.arms[0], other, strict=True)]
    return np.array([i[1:3] for i in paired_differences_jointly(rows, draws=_DRAWS)])


def _alone(
    s: Setting, arms: list[list[np.ndarray]], ids: list[np.ndarray], rng: np.random.Generator
) -> tuple[float, float]:
    if s.kind == "ratio":
        return interval.paired_ratio(arms[0], arms[1], rng, units=ids, draws=_DRAWS)[1:3]
    if s.kind == "null":
        return interval.paired_difference(arms[0], arms[1], rng, units=ids, draws=_DRAWS)[1:3]
    return interval.over_seeds(arms[0], rng, units=ids, draws=_DRAWS)[1:3]


class Coverage(NamedTuple):
    """Share of the repetitions whose interval holds the truth; median width."""

    share: float
    width: float


def coverage(s: Setting, repetitions: int, seed: int = 0) -> Coverage:
    """Measure a setting; an interval without bounds claims nothing and holds everything."""
    rng = np.random.default_rng(seed)
    found = drawn(s, repetitions, rng)
    low, high = intervals(s, found, rng).T
    missed = (found.truth < low - 1e-12) | (found.truth > high + 1e-12)
    return Coverage(1 - float(missed.mean()), float(np.nanmedian(high - low)))


def allowance(repetitions: int, settings: int) -> float:
    """How far a measured coverage may fall below a true one of 0.93 by chance.

    The normal quantile at which one of this many settings falls below in 1 of 1,000 test runs.
    """
    z = NormalDist().inv_cdf(1 - 0.001 / settings)
    return z * (LEAST * (1 - LEAST) / repetitions) ** 0.5


def every_setting() -> Iterator[Setting]:
    """All that the intervals are claimed to hold for."""
    for users, seeds in product(USERS, SEEDS):
        for kind in ("hits", "null"):
            for alike, noise in product((0.5, 0.8, 1.0), (0.0, 0.01, 0.02)):
                yield Setting(kind, users, seeds, alike=alike, noise=noise)
            for share, noise in product((0.02, 0.98), (0.0, 0.005)):
                yield Setting(kind, users, seeds, share, 0.8, noise)
        for noise in (0.0, 0.02):
            yield Setting("skewed", users, seeds, noise=2.5 * noise)
            yield Setting("ratio", users, seeds, alike=0.8, noise=noise)
            if seeds > 1:
                yield Setting("hits", users, seeds, noise=noise, returning=False)
                yield Setting("skewed", users, seeds, noise=2.5 * noise, returning=False)


def repetitions_of(s: Setting, many: int) -> int:
    """Settings that are worked on one repetition at a time get a fifth."""
    return many if s.returning and s.kind != "ratio" else many // 5


if __name__ == "__main__":
    for found, one in sorted((coverage(s, repetitions_of(s, 2000)), s) for s in every_setting()):
        print(f"{found.share:.3f} {found.width:.4f} {one}")
