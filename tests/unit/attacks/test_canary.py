"""Canaries: what they send, what the auditor makes of it, and what it is not shown."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from attacks.canary import SEEN, Canary
from attacks.canary_evidence import (
    covered,
    opposite_ratios,
    presence_ratios,
    repeated,
    sharpest,
)
from harness.core.attack import AttackContext
from harness.core.audit import Game
from harness.core.messages import ModelAggregate, ModelUpdate
from harness.core.observe import NotGranted, RoundRecord, Transcript, View
from harness.core.seeds import Seeds
from harness.metrics.one_run import margins, one_run_epsilon
from tests.unit.attacks.cases import catalogue, rows_of, update, upload

ITEMS = 30


def transcript(record: RoundRecord, **defense: Any) -> Transcript:
    text = upload()
    return Transcript((record,), catalogue(text.vectors, text.domain), (defense,))


def crafted(message: ModelUpdate, **defense: Any) -> ModelUpdate:
    attack = Canary()
    view = View(transcript(RoundRecord(0, message, None, None), **defense), attack.threat_model)
    everybody = torch.ones(len(message), dtype=torch.bool)
    context = AttackContext(0, 3, (), ITEMS, {})
    return attack.craft(view, message, everybody, context, Seeds(3))


def test_directions_are_loud_nearly_orthogonal_and_in_one_part() -> None:
    sent = crafted(update(6), use="dp", clip_norm=0.5)
    assert torch.allclose(sent.norms(), torch.full((6,), 5.0).double(), rtol=1e-5)
    for place, client in enumerate(sent.clients.tolist()):
        dense = any(bool(delta[place].any()) for delta in sent.dense.values())
        assert dense == (client % 2 == 0)
        assert bool(rows_of(sent, place)) != dense
    again = crafted(update(6).select(torch.arange(6) < 3), use="dp", clip_norm=0.5)
    assert all(torch.equal(delta, sent.dense[name][:3]) for name, delta in again.dense.items())
    assert torch.allclose(crafted(update(2)).norms(), torch.ones(2).double(), rtol=1e-5)


def test_the_auditor_is_shown_what_the_claims_adversary_sees() -> None:
    attack, message = Canary(), update(4)
    dense = {name: delta.sum(0) for name, delta in message.dense.items()}
    rows = torch.zeros(ITEMS, message.rows.shape[-1])
    aggregate = ModelAggregate(dense, torch.arange(ITEMS), rows)
    record = RoundRecord(0, message, None, aggregate)
    for game, other in ((Game(), "messages"), (Game("replace", "messages"), "aggregates")):
        view = View(transcript(record), attack.watching(game))
        context = AttackContext(0, 3, (), ITEMS, {})
        attack.watch(view, message.clients, game, context, Seeds(3))
        seen = context.state[SEEN]
        assert isinstance(seen, torch.Tensor) and seen.shape == (4, 3)
        assert seen[:, 0].isfinite().all() and seen[:, 1:].isnan().all()
        with pytest.raises(NotGranted):
            getattr(view, other)()


def test_a_projection_is_the_canarys_own_signal() -> None:
    attack, message = Canary(), update(5)
    sent = crafted(message, clip_norm=0.1)
    game = Game("replace", "messages")
    view = View(transcript(RoundRecord(1, sent, None, None)), attack.watching(game))
    context = AttackContext(1, 3, (), ITEMS, {})
    absent = torch.cat([sent.clients, torch.tensor([1000])])
    attack.watch(view, absent, game, context, Seeds(3))
    seen = context.state[SEEN]
    assert isinstance(seen, torch.Tensor)
    assert torch.allclose(seen[:5, 1], torch.ones(5).double(), rtol=1e-5)
    assert math.isnan(seen[5, 1])


def world(rate: float, noise: float, size: int = 400, rounds: int = 20):
    stream = torch.Generator().manual_seed(0)
    heads = torch.rand(size, generator=stream) < 0.5
    drawn = torch.rand(size, rounds, generator=stream) < rate
    values = 7.0 * (drawn & heads.unsqueeze(1)).double()
    return heads, values + 7.0 * noise * torch.randn(size, rounds, generator=stream).double()


def auc(scores: torch.Tensor, heads: torch.Tensor) -> float:
    return (scores[heads].unsqueeze(1) > scores[~heads]).double().mean().item()


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_presence_is_fitted_without_knowing_signal_or_noise(rate: float) -> None:
    heads, seen = world(rate, 0.3)
    found = presence_ratios(seen, rate)
    assert found.sharpness == pytest.approx(1 / 0.3, rel=0.1)
    # At rate 0.1, one present canary in eight is never drawn and cannot be found.
    assert (found.ratios > 0).eq(heads).double().mean() > (0.85 if rate == 0.1 else 0.99)
    # Where rounds are rare and noise is little, one loud round counts for more than the sum.
    assert auc(found.ratios, heads) >= auc(seen.sum(1), heads) - 1e-3
    exact = torch.logaddexp(
        (seen / 7 - 0.5) / 0.09 + math.log(rate),
        torch.full_like(seen, math.log1p(-rate) if rate < 1 else -math.inf),
    ).sum(1)
    assert torch.corrcoef(torch.stack([exact, found.ratios]))[0, 1] > 0.99


def test_noise_alone_says_little_and_missing_rounds_nothing() -> None:
    assert presence_ratios(world(0.2, 50.0)[1], 0.2).ratios.abs().max() < 5
    seen = world(0.2, 0.3)[1]
    seen[:, 3] = math.nan
    left = torch.arange(20) != 3
    both = presence_ratios(seen, 0.2), presence_ratios(seen[:, left], 0.2)
    assert torch.allclose(both[0].ratios, both[1].ratios)


def test_opposites_are_told_apart_by_their_sum() -> None:
    seen = world(1.0, 1.5)[1] - 3.5
    found = opposite_ratios(seen, 1.0)
    assert torch.equal(found.ratios.argsort(), seen.sum(1).argsort())
    assert found.ratios.sign().eq(seen.sum(1).sign()).all()


def test_noise_used_twice_is_read_from_what_is_left_and_only_then() -> None:
    heads, seen = world(0.2, 0.02)
    offset = 30 * torch.randn(len(seen), 1, generator=torch.Generator().manual_seed(1)).double()

    def readings(values: torch.Tensor) -> list:
        left = values - values.median(1, keepdim=True).values
        return [presence_ratios(v, 0.2) for v in (values, left)]

    reused, fresh = readings(seen + offset), readings(world(0.2, 2.0)[1])
    assert sharpest(reused) is reused[1] and sharpest(fresh) is fresh[0]
    assert auc(reused[1].ratios, heads) > 0.97 > auc(reused[0].ratios, heads)


@pytest.mark.parametrize("rounds", [5, 6, 20])
def test_noise_used_twice_is_proved_where_half_of_the_rounds_have_the_canary(rounds: int) -> None:
    stream = torch.Generator().manual_seed(2)
    heads = torch.rand(400, generator=stream) < 0.5
    drawn = torch.rand(400, rounds, generator=stream) < 0.5
    signal = (heads.unsqueeze(1) & drawn) + 0.1 * torch.randn(400, rounds, generator=stream)
    noise = 30 * torch.randn(400, rounds, generator=stream).double()

    def bound(noise: torch.Tensor) -> float:
        game = Game(sampling_rate=0.5)
        found = Canary().claims(torch.arange(400), game, {SEEN: signal + noise})
        return one_run_epsilon([margins(found.scores.numpy(), heads.numpy())], 1e-4)

    assert bound(noise[:, :1]) > 3 > 1 > bound(noise)
    assert repeated(signal + noise[:, :1]) > 0.99 and abs(repeated(signal + noise)) < 0.1
    assert repeated(noise[:, :1]) == 0


@pytest.mark.parametrize("rounds", [2, 3])
def test_few_rounds_of_fresh_noise_are_read_as_they_were_seen(rounds: int) -> None:
    heads, seen = world(0.5, 1.0, rounds=rounds)
    found = Canary().claims(torch.arange(400), Game(sampling_rate=0.5), {SEEN: seen})
    assert auc(found.scores, heads) > 0.6


def test_only_the_rounds_that_a_claim_covers_count() -> None:
    seen = torch.tensor([[math.nan, 1, 2, 3], [1, math.nan, math.nan, 2]])
    assert covered(seen, 2).tolist() == [[False, True, True, False], [True, False, False, True]]
    seen = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).double()
    state: dict[str, object] = {SEEN: seen}
    clients = torch.arange(40)
    game = Game("replace", "messages", releases=2)
    found = Canary().claims(clients, game, state)
    cut: dict[str, object] = {SEEN: seen.masked_fill(torch.arange(6) >= 2, math.nan)}
    assert torch.equal(found.scores, Canary().claims(clients, game, cut).scores)


def test_without_a_round_nothing_is_claimed() -> None:
    found = Canary().claims(torch.arange(3), Game(), {})
    assert not found.scores.any() and len(found.sums) == 3


def test_a_claim_of_another_norm_is_kept() -> None:
    sent = update(2)
    attack = Canary(norm=2.5)
    view = View(transcript(RoundRecord(0, sent, None, None)), attack.threat_model)
    everybody = torch.ones(2, dtype=torch.bool)
    made = attack.craft(view, sent, everybody, AttackContext(0, 1, (), ITEMS, {}), Seeds(0))
    assert torch.allclose(made.norms(), torch.full((2,), 2.5).double(), rtol=1e-5)
