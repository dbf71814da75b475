"""Canary clients: each sends one secret direction, loud; an auditor then guesses who was there.

Andrew, Kairouz, Oh, Oprea, McMahan and Suriyakumar, "One-shot empirical privacy estimation for
federated learning", ICLR 2024, arXiv:2302.03098, algorithm 1: random directions as canary updates,
the statistic is their inner product with what the server releases. Coins and guesses as in Steinke,
Nasr and Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023, arXiv:2305.08846.

Differs from the papers: (1) a canary's direction lies either in the dense weights or in a few item
rows, by the parity of its client id, so that noise missing on one part shows. (2) Instead of the
largest or the summed inner product, the score is a log-likelihood ratio; signal and noise level are
fitted by expectation maximisation, for both kinds of canary apart, from what was seen alone. Where
the cohort is secret, every round counts as one in which the canary was drawn with the public rate.
The auditor also looks at what is left when the canary's median or least round, or the round's mean
message, is taken away, where noise that was used twice would vanish, and reads that if it is far
clearer.
(3) A canary sends ten times the clip norm, so that a clip that does not clip shows too; where
nothing clips, it has norm 1.

Threat model: the adversary of the defence's own claim, no stronger: it sees the aggregates of all
rounds, not the cohorts (central), or the single noisy messages of the rounds that the claim covers
(local). The canaries' holder deviates in the update that a client computes; the client stage of
the defence is applied to it as to an honest one.

Cost: a direction of the size of the model for every canary and round, drawn anew; no extra traffic.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from attacks.canary_evidence import (
    covered,
    opposite_ratios,
    presence_ratios,
    repeated,
    sharpest,
)
from harness.core.attack import AttackContext
from harness.core.audit import Audit, CanaryScores, Game
from harness.core.averaging import average
from harness.core.messages import PAD, Message, ModelAggregate, ModelUpdate
from harness.core.observe import ThreatModel, View
from harness.core.params import Paper, Params
from harness.core.registry import ATTACKS
from harness.core.seeds import Seeds

M = TypeVar("M", bound=Message)

LOUDER = 10.0
"""A canary's norm over the clip norm in force."""
SEEN, LEFT = "projections", "projections less the mean message"


class Direction(NamedTuple):
    """A unit vector in the space of updates; one of its two parts is empty.

    Attributes:
        dense: parameter name to values; empty for a canary in item rows.
        item_ids: items of the rows.
        rows: their values.
    """

    dense: dict[str, Tensor]
    item_ids: Int[Tensor, " row"]
    rows: Float[Tensor, "row dim"]


@ATTACKS.register("canary")
class Canary(Audit):
    """See the module docstring."""

    paper = Paper("arXiv:2302.03098", "reimplementation")
    reads = (ModelUpdate,)
    threat_model = ThreatModel(
        adversary="outsider",
        sees=frozenset(),
        knows=frozenset({"defense"}),
        acts=True,
        words=(
            "An auditor owns the malicious clients as canaries. It sees what the adversary of the "
            "defence's claim sees (the aggregates without the cohorts, or single noisy messages) "
            "and guesses which canaries were there; it does not attack the recommender."
        ),
    )

    class Config(Params):
        """Parameters of the canaries."""

        norm: float | None = Field(
            None,
            gt=0,
            le=1e5,
            description="l2 norm of a canary; null: ten times the clip norm in force, else 1",
        )
        rows: int = Field(
            8, ge=1, le=10_000_000, description="item rows of a canary that lies in item rows"
        )

    def craft(
        self,
        view: View,
        message: M,
        malicious: Bool[Tensor, " row"],
        context: AttackContext,
        seeds: Seeds,
    ) -> M:
        """Return the message with every canary's direction in the place of its update."""
        assert isinstance(message, ModelUpdate)
        norm = self._norm(view)
        places = malicious.nonzero().flatten().tolist()
        if not places:
            return cast("M", message)
        drawn = {place: self._direction(message, place, context, seeds) for place in places}
        width = max([message.row_ids.shape[1], *(len(d.item_ids) for d in drawn.values())])
        spare = width - message.row_ids.shape[1]
        row_ids = F.pad(message.row_ids, (0, spare), value=PAD)
        rows = F.pad(message.rows, (0, 0, 0, spare))
        dense = {name: delta.clone() for name, delta in message.dense.items()}
        for place, direction in drawn.items():
            sent = len(direction.item_ids)
            row_ids[place], rows[place] = PAD, 0
            row_ids[place, :sent], rows[place, :sent] = direction.item_ids, norm * direction.rows
            for name, delta in dense.items():
                delta[place] = norm * direction.dense[name] if direction.dense else 0
        return cast("M", replace(message, dense=dense, row_ids=row_ids, rows=rows))

    def watch(
        self,
        view: View,
        canaries: Int[Tensor, " canary"],
        game: Game,
        context: AttackContext,
        seeds: Seeds,
    ) -> None:
        """Project what was seen on every canary's direction; NaN where nothing was seen of it."""
        if game.sees == "messages":
            found = self._in_messages(view, canaries, context, seeds)
        else:
            found = {SEEN: self._in_aggregate(view, canaries, context, seeds)}
        for name, values in found.items():
            kept = context.state.get(name)
            if not isinstance(kept, Tensor):
                kept = torch.full((len(canaries), context.num_rounds), math.nan).double()
                context.state[name] = kept
            kept[:, context.round_index] = values

    def claims(
        self, canaries: Int[Tensor, " canary"], game: Game, state: dict[str, object]
    ) -> CanaryScores:
        """Turn projections into log-likelihood ratios, for both kinds of canary apart."""
        scores = torch.zeros(len(canaries), dtype=torch.float64)
        sums = scores.clone()
        seen = [kept for name in (SEEN, LEFT) if isinstance(kept := state.get(name), Tensor)]
        if game.releases is not None:
            seen = [s.masked_fill(~covered(s, game.releases), math.nan) for s in seen]
        if seen and game.neighbors == "add or remove" and repeated(seen[0]) > 0.5:
            # A canary drawn in most rounds has its signal in the median, one in fewer not; both
            # have none in the least, unless it is in every round.
            least = seen[0].masked_fill(seen[0].isnan(), math.inf).amin(1, keepdim=True)
            common = seen[0].nanmedian(1, keepdim=True).values
            seen += [seen[0] - common, seen[0] - least]
        judge = opposite_ratios if game.neighbors == "replace" else presence_ratios
        for parity in (0, 1):
            kind = canaries % 2 == parity
            if seen and bool(seen[0][kind].isfinite().any()):
                found = sharpest([judge(s[kind], game.sampling_rate) for s in seen])
                scores[kind], sums[kind] = found.ratios, found.sums
        return CanaryScores(canaries, scores, sums)

    def _norm(self, view: View) -> float:
        bounds = [float(part["clip_norm"]) for part in view.defense if part.get("clip_norm")]
        if self.config.norm is not None:
            return self.config.norm
        return LOUDER * max(bounds) if bounds else 1.0

    def _direction(
        self, like: ModelUpdate, place: int, context: AttackContext, seeds: Seeds
    ) -> Direction:
        shapes = {name: tuple(delta.shape[1:]) for name, delta in like.dense.items()}
        client = int(like.clients[place])
        return self._drawn(client, shapes, like.rows.shape[-1], context.num_items, seeds)

    def _drawn(
        self,
        client: int,
        shapes: dict[str, tuple[int, ...]],
        dim: int,
        num_items: int,
        seeds: Seeds,
    ) -> Direction:
        """Return a canary's direction: the same in every round."""
        stream = seeds.torch("direction", client)
        if client % 2 == 0 and shapes:
            parts = {n: torch.randn(shapes[n], generator=stream) for n in sorted(shapes)}
            norm = math.sqrt(sum(float(p.double().square().sum()) for p in parts.values()))
            nothing = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dim)
            return Direction({n: p / norm for n, p in parts.items()}, *nothing)
        items = torch.randperm(num_items, generator=stream)[: self.config.rows]
        rows = torch.randn(len(items), dim, generator=stream)
        return Direction({}, items, rows / rows.norm())

    def _in_aggregate(
        self, view: View, canaries: Int[Tensor, " canary"], context: AttackContext, seeds: Seeds
    ) -> Float[Tensor, " canary"]:
        _, aggregate = view.aggregates()[-1]
        assert isinstance(aggregate, ModelAggregate)
        shapes = {name: tuple(delta.shape) for name, delta in aggregate.dense.items()}
        table = aggregate.rows.new_zeros(context.num_items, aggregate.rows.shape[-1])
        table[aggregate.row_ids] = aggregate.rows
        values = [
            projected(
                self._drawn(client, shapes, table.shape[1], context.num_items, seeds),
                aggregate.dense,
                table,
            )
            for client in canaries.tolist()
        ]
        return torch.tensor(values, dtype=torch.float64)

    def _in_messages(
        self, view: View, canaries: Int[Tensor, " canary"], context: AttackContext, seeds: Seeds
    ) -> dict[str, Float[Tensor, " canary"]]:
        _, message = view.messages()[-1]
        assert isinstance(message, ModelUpdate)
        place_of = {client: place for place, client in enumerate(message.clients.tolist())}
        nothing = torch.full((len(canaries),), math.nan, dtype=torch.float64)
        found = {SEEN: nothing, LEFT: nothing.clone()}
        mean = average([message], context.num_items, over_cohort=True)
        mean_table = message.rows.new_zeros(context.num_items, message.rows.shape[-1])
        mean_table[mean.row_ids] = mean.rows
        for index, client in enumerate(canaries.tolist()):
            if (place := place_of.get(client)) is None:
                continue
            direction = self._direction(message, place, context, seeds)
            sent = message.row_ids[place] != PAD
            table = torch.zeros_like(mean_table)
            table[message.row_ids[place][sent]] = message.rows[place][sent]
            own = {name: delta[place] for name, delta in message.dense.items()}
            found[SEEN][index] = projected(direction, own, table)
            common = projected(direction, mean.dense, mean_table)
            found[LEFT][index] = found[SEEN][index] - common
        return found


def projected(direction: Direction, dense: dict[str, Tensor], table: Tensor) -> float:
    """Return the inner product of a direction with an update or aggregate, in float64.

    Args:
        direction: unit vector.
        dense: parameter name to values.
        table: item rows of the whole catalogue.
    """
    total = float((direction.rows.double() * table[direction.item_ids].double()).sum())
    for name, part in direction.dense.items():
        total += float(part.double().flatten() @ dense[name].double().flatten())
    return total
