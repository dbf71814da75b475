"""What needs no model to choose among a user's candidates: popularity, and guesses by frequency.

A candidate-list metric is empty without them: under uniform candidates the held-out item is as a
rule the most popular of the list, so that popularity alone beats 1 / candidates several times over
(Krichene and Rendle, KDD 2020, on sampled metrics; Dacrema et al., RecSys 2019, on baselines).
Both values are exact expectations, so that they carry no noise of their own.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped


def shared_hit1(
    scores: Shaped[np.ndarray, "user candidate"], place: Int[np.ndarray, " user"]
) -> Float[np.ndarray, " user"]:
    """Hit@1 of a ranking by ``scores`` with ties broken at random: its expectation.

    A target that shares the first place with others counts as one over their number. The
    pessimistic rule of :mod:`harness.metrics.ranking` would make this baseline easier to beat.
    """
    own = np.take_along_axis(scores, place[:, None], 1)
    best = scores == scores.max(1, keepdims=True)
    return np.where(own[:, 0] == scores.max(1), 1 / best.sum(1), 0.0)


def frequency_guess_hit1(
    counts: Shaped[np.ndarray, "user candidate"], place: Int[np.ndarray, " user"]
) -> Float[np.ndarray, " user"]:
    """Probability that a guess drawn in proportion to ``counts`` names the target.

    Candidates that were all never seen are equally likely.
    """
    weights = counts.astype(np.float64)
    weights[weights.sum(1) == 0] = 1
    own = np.take_along_axis(weights, place[:, None], 1)[:, 0]
    return own / weights.sum(1)
