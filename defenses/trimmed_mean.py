"""Coordinate-wise trimmed mean: the largest and smallest values of each coordinate are left out.

Yin, Chen, Kannan and Bartlett, "Byzantine-robust distributed learning: towards optimal statistical
rates", ICML 2018, arXiv:1803.01498, section 4, definition 2.

Differs from the paper: ``trim`` is the share β cut at *each* end, ⌊β·n⌋ values. Dense weights are
trimmed over the cohort. An item's row is trimmed over the clients that sent it (``rows: touched``,
⌊β·senders⌋ at each end), because over the whole cohort most values of a row are zero and the
trimmed mean of a sparse table is zero; ``rows: all`` is that textbook form, non-senders counting as
zero. No sample-count weights. ``trim: 0`` is the plain mean (over a row's senders, or the cohort).

Guarantee: none of privacy. For dense weights the paper's rates need β ≥ the malicious fraction and
independent clients, which one-user clients are not. Under ``touched``, a row with fewer than 1/β
senders is not trimmed at all, and on a rarely sent row the attackers can be the majority.

Cost: a sort over the cohort of every dense weight and of every sent row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from harness.core.averaging import average, join_updates
from harness.core.defense import Defense, Federation
from harness.core.messages import Message, ModelAggregate, ModelUpdate, rows_by_item
from harness.core.params import Paper, Params
from harness.core.registry import DEFENSES


@DEFENSES.register("trimmed_mean")
class TrimmedMean(Defense):
    """See the module docstring."""

    paper = Paper("arXiv:1803.01498", "reimplementation")
    reads = (ModelUpdate,)
    strength = "trim"

    class Config(Params):
        """Parameters of the trimmed mean."""

        trim: float = Field(0.2, ge=0, lt=0.5, description="share of values cut at each end")
        rows: Literal["touched", "all"] = Field(
            "touched", description="values of an item's row: of its senders, or of the whole cohort"
        )

    def check(self, federation: Federation, malicious_fraction: float) -> list[str]:
        """Warn where the malicious fraction exceeds what is cut."""
        if self.config.trim < malicious_fraction:
            return [
                f"trimmed_mean: trim {self.config.trim:g} is below the malicious fraction "
                f"{malicious_fraction:g}; the rule's theory needs at least that much"
            ]
        return []

    def aggregate(self, messages: Iterable[Message], federation: Federation) -> ModelAggregate:
        """Return the trimmed mean of the cohort's updates."""
        trim, over_cohort = self.config.trim, self.config.rows == "all"
        if trim == 0:
            return average(messages, federation.num_items, over_cohort=over_cohort)
        message = join_updates(messages)
        ids, rows = [message.row_ids.new_zeros(0)], [message.rows[:0].flatten(0, 1)]
        for group in rows_by_item(message):
            silent = len(message) - group.members.shape[1] if over_cohort else 0
            ids.append(group.item_ids)
            rows.append(trimmed_mean(group.members.transpose(0, 1), trim, silent))
        return ModelAggregate(
            dense={name: trimmed_mean(delta, trim) for name, delta in message.dense.items()},
            row_ids=torch.cat(ids),
            rows=torch.cat(rows),
        )


def trimmed_mean(
    values: Float[Tensor, "client *shape"], trim: float, num_zeros: int = 0
) -> Float[Tensor, "*shape"]:
    """Return the mean over clients without the ⌊trim·n⌋ largest and smallest, by coordinate.

    Args:
        values: what the clients sent.
        trim: share cut at each end.
        num_zeros: further clients that count as zero; they are never stored: in sorted order they
            stand between the negative values and the rest.

    Returns:
        The mean in the values' dtype, summed in float64; zero where there are no clients.
    """
    sent = values.shape[0]
    total = sent + num_zeros
    if total == 0:
        return values.new_zeros(values.shape[1:])
    # The tolerance keeps 0.29 × 100 = 28.999… from losing a client.
    cut = math.floor(trim * total + 1e-9)
    # NumPy's vectorised sort is some fifteen times as fast as torch's for short rows.
    rows = values.movedim(0, -1).contiguous().cpu().numpy()
    ordered = torch.from_numpy(np.sort(rows, axis=-1)).to(values.device)
    if num_zeros == 0:
        kept = ordered[..., cut : total - cut].double()
        return kept.mean(-1).to(values.dtype)
    place = torch.arange(sent) + num_zeros * (ordered >= 0)
    kept = ordered.double() * ((place >= cut) & (place < total - cut))
    return (kept.sum(-1) / (total - 2 * cut)).to(values.dtype)
