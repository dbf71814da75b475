"""Rules that the strength of a defence must obey, as functions that raise where one is broken.

Each rule takes what was measured, in one array a seed with one number a unit (user, client or
uploaded vector), and raises :class:`TooWeak` with the numbers. They know no defence and no attack
and need no test library, so a project can call them in tests of its own plug-ins. Success is always
larger for a more successful attack. A unit that was not measured (NaN) is left out; a seed without
any measured unit, or too few to give an interval, breaks the rule.

| rule | function |
|---|---|
| 1 the undefended attack is above chance | :func:`require_power` |
| 2 strength 0 is no defence, bit for bit | :func:`require_identical` |
| 3 stronger is not worse for the defender | :func:`require_monotone` |
| 4 the strongest setting reaches chance | :func:`require_chance` |
| 5 nobody beats theory | :func:`require_bound`, :func:`require_noise`, :func:`require_norms` |
| 6 utility stays in its budget | :func:`require_utility` |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from harness.core.seeds import Seeds
from harness.metrics.interval import (
    Interval,
    over_seeds,
    paired_difference,
    paired_ratio,
)

Groups = Sequence[Shaped[np.ndarray, " _unit"]]
"""One array a seed, one number a unit; paired rules pair by place."""

ERRORS = 5.0
"""Standard errors that a measured moment may be off its closed form (1 in 1.7 million)."""


class TooWeak(AssertionError):
    """A rule on the strength of a defence is broken, or nothing was measured to judge it by."""


def require_power(success: Groups, chance: float) -> None:
    """Rule 1: the attack's interval lies above chance, so that a defence has something to lower."""
    found = _interval(success)
    if not found.low > chance:
        raise TooWeak(f"the undefended attack is not above chance {chance:.4g}: {_words(found)}")


def require_identical(defended: Any, undefended: Any) -> None:
    """Rule 2: two messages, aggregates, models or claims hold the same bits.

    Args:
        defended: made with the defence at the strength that stands for none.
        undefended: made without it, under the same seeds.
    """
    if place := _difference(defended, undefended, "value"):
        raise TooWeak(f"the neutral strength is not the same as no defence: {place} differs")


def require_monotone(success: Sequence[Groups], chance: float) -> None:
    """Rule 3: more strength never helps the attack, and the strongest lowers what none allows.

    Args:
        success: the groups of each strength, weakest first, with the same seeds and units.
        chance: what a guess reaches; a rise that ends there or below it helps nobody.
    """
    _require_measured(*success)
    for place, (weaker, stronger) in enumerate(pairwise(success)):
        gain = paired_difference(stronger, weaker, _stream("step", place))
        if not (gain.low <= 0 or _interval(stronger).low <= chance):
            raise TooWeak(
                f"step {place + 1} to a stronger setting helps the attack: {_words(gain)}"
            )
    whole = paired_difference(success[-1], success[0], _stream("whole"))
    if not whole.high < 0:
        raise TooWeak(f"the strongest setting lowers nothing: {_words(whole)}")


def require_chance(success: Groups, chance: float, margin: float) -> None:
    """Rule 4: the interval reaches down to chance, and not further above it than ``margin``.

    The margin keeps a wide interval, which contains everything, from passing.
    """
    found = _interval(success)
    if not (found.low <= chance and found.high <= chance + margin):
        raise TooWeak(f"not at chance {chance:.4g} within {margin:.4g}: {_words(found)}")


def require_bound(success: Groups, bound: Groups | float) -> None:
    """Rule 5: the success is not significantly above a closed-form bound.

    Args:
        success: what an attack reached.
        bound: the most that theory allows, for each unit or in the mean.
    """
    limits = [np.full(len(g), bound) for g in success] if isinstance(bound, int | float) else bound
    _require_measured(success, limits)
    excess = paired_difference(success, limits, _stream("bound"))
    if not excess.low <= 0:
        raise TooWeak(f"the attack beats its closed-form bound by {_words(excess)}")


def require_utility(defended: Groups, undefended: Groups, loss: float) -> None:
    """Rule 6: the share of utility kept has its lower bound at or above ``1 − loss``."""
    _require_measured(defended, undefended)
    kept = paired_ratio(defended, undefended, _stream("utility"))
    if not kept.low >= 1 - loss:
        raise TooWeak(f"more than {loss:.0%} of the utility may be gone; kept {_words(kept)}")


def require_noise(noise: Float[Tensor, "draw coordinate"], std: float) -> None:
    """Rule 5: noise is N(0, std²) on every coordinate and drawn anew for every draw.

    Args:
        noise: what was added, a row for each client, round or seed.
        std: standard deviation that the defence states.
    """
    wide = noise.double()
    count, (draws, width) = wide.numel(), wide.shape
    if not bool((wide != 0).all()):
        share = (wide == 0).double().mean().item()
        raise TooWeak(f"{share:.1%} of the coordinates carry no noise")
    found, error = wide.square().mean().sqrt().item(), ERRORS * std / (2 * count) ** 0.5
    if not abs(found - std) <= error:
        raise TooWeak(f"noise of standard deviation {found:.4g} instead of {std:.4g} ± {error:.2g}")
    if not abs(wide.mean().item()) <= ERRORS * std / count**0.5:
        raise TooWeak(f"noise of mean {wide.mean().item():.4g} instead of 0")
    alike = torch.corrcoef(wide).reshape(draws, draws).fill_diagonal_(0).abs().max().item()
    if not alike <= ERRORS / width**0.5:
        raise TooWeak(f"two draws of noise have correlation {alike:.2f}: a stream was used twice")


def require_norms(norms: Float[Tensor, " client"], bound: float) -> None:
    """Rule 5: no client's contribution is longer than the bound (to float32's rounding)."""
    longest = norms.double().max().item()
    if not longest <= bound * (1 + 1e-5):
        raise TooWeak(f"an update of norm {longest:.4g} passed the bound {bound:.4g}")


def require_epsilon(audited: float, claimed: float) -> None:
    """Rule 5: an audit's lower bound on ε does not exceed what the accountant claims."""
    if not audited <= claimed:
        raise TooWeak(f"an audit proves epsilon >= {audited:.3g}, but {claimed:.3g} is claimed")


def _require_measured(*sides: Groups) -> None:
    for place in range(len(sides[0])):
        if any(bool(np.isnan(side[place]).all()) for side in sides):
            raise TooWeak(f"seed {place + 1} of {len(sides[0])} was not measured")


def _interval(groups: Groups) -> Interval:
    _require_measured(groups)
    return over_seeds(groups, _stream("interval"))


def _stream(*purpose: str | int) -> np.random.Generator:
    return Seeds(0).numpy("strength", *purpose)


def _words(found: Interval) -> str:
    return f"{found.value:.4g} [{found.low:.4g}, {found.high:.4g}], n = {found.n}"


def _difference(one: Any, other: Any, path: str) -> str:
    """Return where two nested values differ, the empty string if nowhere."""
    if isinstance(one, Tensor | np.ndarray):
        a, b = np.asarray(one), np.asarray(other)
        same = a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
        return "" if same else path
    if type(one) is not type(other):
        return path
    if is_dataclass(one):
        names = [field.name for field in fields(one)]
        parts = [(n, getattr(one, n), getattr(other, n)) for n in names]
    elif isinstance(one, dict):
        if one.keys() != other.keys():
            return path
        parts = [(key, value, other[key]) for key, value in one.items()]
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            return path
        parts = [(str(i), a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        return "" if one == other else path
    found = (_difference(a, b, f"{path}.{name}") for name, a, b in parts)
    return next((place for place in found if place), "")
