"""Bounding a client's whole update, shared by the defences that need a sensitivity.

Registers nothing. McMahan, Ramage, Talwar and Zhang, ICLR 2018, arXiv:1710.06963, flat clipping.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from harness.core.messages import ModelUpdate


def clip_update(update: ModelUpdate, bound: float | None) -> ModelUpdate:
    """Return the update with every client's ℓ2 norm, dense and rows together, at most ``bound``.

    Without a bound it is returned as it is: nothing is private then.

    Norm and product are taken in float64, so that deltas of 1e30 neither overflow nor lose their
    direction. A delta that is not finite stays so, for the guard to refuse.
    """
    if bound is None:
        return update
    factor = (bound / update.norms().clamp_min(1e-300)).clamp_max(1.0)

    def scale(delta: Tensor) -> Tensor:
        wide = delta.double() * factor.reshape(-1, *[1] * (delta.dim() - 1))
        return wide.to(delta.dtype)

    return replace(
        update, dense={n: scale(d) for n, d in update.dense.items()}, rows=scale(update.rows)
    )
