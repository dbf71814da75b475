"""Item-row norm: the server reads a client's items off the rows of its uploaded update.

Item-touch support and row norms, the baseline family of membership inference on federated
recommenders; Yuan, Yang, Nguyen, Cui, He and Yin, "Interaction-level membership inference attack
against federated recommender systems", WWW 2023, arXiv:2301.10964 (threat model, section 3).

Differs from the paper: no shadow training; a client's score for item i is |D_E[i]|₂ (``norm``) or
whether the row was sent and is not zero (``support``). The sent rows also hold sampled negatives
and items of synthetic views, so support alone has recall 1 and a precision below 1. Where all rows
are sent (local noise, a full softmax) the norm still ranks. ``combine: average`` is the adaptive
form against fresh noise: the rows of one client are averaged over all recorded rounds that it took
part in before the norm is taken (noise shrinks as 1/√rounds).

Threat model: an honest-but-curious server that sees every client's update, knows the
catalogue's size, and follows the protocol.

Cost: one pass over the rows sent; ``average`` reads every recorded round once a client. The
clients × items scores are made a block of clients at a time.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from harness.core.attack import InferenceAttack, ItemMembership
from harness.core.messages import PAD, ModelUpdate
from harness.core.observe import ThreatModel, View
from harness.core.params import Paper, Params
from harness.core.registry import ATTACKS
from harness.core.scores import RowScores
from harness.core.seeds import Seeds


@ATTACKS.register("row_norm")
class RowNorm(InferenceAttack):
    """See the module docstring."""

    paper = Paper("arXiv:2301.10964", "baseline")
    reads = (ModelUpdate,)
    threat_model = ThreatModel(
        adversary="server",
        sees=frozenset({"messages"}),
        words="A curious server ranks items by the size of their row in a client's update.",
    )

    class Config(Params):
        """Parameters of the row-norm attack."""

        score: Literal["norm", "support"] = Field(
            "norm", description="norm of the uploaded row, or only whether it is not zero"
        )
        observe: Literal["first", "last"] = Field(
            "last", description="recorded round whose clients are attacked"
        )
        combine: Literal["single", "average"] = Field(
            "single", description="that round alone, or rows averaged over the client's rounds"
        )

    def declines(self, view: View) -> str | None:
        """Need at least one recorded model update."""
        return None if updates(view) else "no model update is on record"

    def infer(self, view: View, seeds: Seeds) -> ItemMembership:
        """Score every item of the catalogue for every client of the observed round."""
        recorded = updates(view)
        index, observed = recorded[0 if self.config.observe == "first" else -1]
        used = [m for _, m in recorded] if self.config.combine == "average" else [observed]
        num_items = view.num_items

        def make(rows: Int[Tensor, " row"]) -> Float[Tensor, "row item"]:
            scores = torch.zeros(len(rows), num_items)
            for place, client in enumerate(observed.clients[rows].tolist()):
                norms = mean_rows(used, client, num_items).norm(dim=1)
                scores[place] = norms if self.config.score == "norm" else norms > 0
            return scores

        def sent(rows: Int[Tensor, " row"]) -> Float[Tensor, "row item"]:
            found = torch.zeros(len(rows), num_items)
            for place, client in enumerate(observed.clients[rows].tolist()):
                for message in used:
                    ids = message.row_ids[message.clients == client].flatten()
                    found[place, ids[ids != PAD]] = 1
            return found

        shape = (len(observed), num_items)
        scores, rows_sent = RowScores(shape, make), RowScores(shape, sent)
        return ItemMembership(observed.clients.clone(), scores, index, rows_sent)


def updates(view: View) -> list[tuple[int, ModelUpdate]]:
    """Return (round, update) of the recorded rounds in which somebody sent an update."""
    return [(i, m) for i, m in view.messages() if isinstance(m, ModelUpdate) and len(m)]


def mean_rows(
    messages: list[ModelUpdate], client: int, num_items: int
) -> Float[Tensor, "item dim"]:
    """Return a client's row deltas, averaged over the messages it sent; unsent rows are zero."""
    total = messages[0].rows.new_zeros(num_items, messages[0].rows.shape[-1], dtype=torch.float64)
    count = 0
    for message in messages:
        for place in (message.clients == client).nonzero().flatten().tolist():
            sent = message.row_ids[place] != PAD
            total.index_add_(0, message.row_ids[place][sent], message.rows[place][sent].double())
            count += 1
    return total / max(1, count)
