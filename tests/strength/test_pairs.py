"""Rules 1 to 5 for every pair of an attack and a defence; see ``pairs.py`` for what applies."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from defenses.trimmed_mean import TrimmedMean
from harness.core.attack import InferenceAttack, PoisoningAttack
from harness.core.audit import Audit
from harness.core.messages import ModelUpdate
from harness.core.registry import ATTACKS, DEFENSES
from harness.plugins import load_plugins
from harness.strength import (
    require_chance,
    require_identical,
    require_monotone,
    require_power,
)
from tests.strength.bench import Bench
from tests.strength.checks import RULE_5, green
from tests.strength.lumos import train
from tests.strength.pairs import PAIRS, POWERLESS_ON_REAL, Pair

MARKS = [pytest.mark.slow, pytest.mark.realdata]


def over(pairs: Iterable[Pair]) -> pytest.MarkDecorator:
    """Parametrise over pairs, on made-up data and, where it means something, on MovieLens."""
    cases = [
        pytest.param(pair, tier, marks=MARKS if tier == "real" else [], id=f"{tier}-{pair}")
        for pair in pairs
        for tier in ("smoke", "real")
        if tier == "smoke" or not (pair.neutral().needs or pair.attack().name in POWERLESS_ON_REAL)
    ]
    return pytest.mark.parametrize(("pair", "tier"), cases)


def under(rule: int) -> pytest.MarkDecorator:
    """Parametrise over the pairs that are not excused from a rule."""
    return over(pair for pair in PAIRS if rule not in pair.excused)


@pytest.fixture
def bench(tier: str, request: pytest.FixtureRequest) -> Bench:
    """The tier's bench."""
    return request.getfixturevalue(tier)


def test_every_pair_that_can_meet_is_listed() -> None:
    load_plugins()
    # An audit judges a claim and attacks nobody; tests/unit/fed/test_auditing.py has its bugs.
    attacks = {
        n: c for n, c in ATTACKS if c.__module__.startswith("attacks.") and not issubclass(c, Audit)
    }
    defenses = {n: c for n, c in DEFENSES if c.__module__.startswith("defenses.")}
    meeting = {
        (a, d) for a in attacks for d in defenses if {*attacks[a].reads} & {*defenses[d].reads}
    }
    listed = [pair.names for pair in PAIRS]
    assert sorted(listed) == sorted(meeting), "list the pair in pairs.py, with reasons"
    assert all(reason for pair in PAIRS for reason in pair.excused.values())
    assert {pair.names for pair in PAIRS if 5 not in pair.excused} == set(RULE_5)


@under(1)
def test_the_undefended_attack_is_above_chance(pair: Pair, bench: Bench) -> None:
    success, chance = bench.success(pair, ())
    require_power(success, chance)


@under(2)
def test_strength_zero_is_no_defence_bit_for_bit(pair: Pair, bench: Bench) -> None:
    attack, defense = pair.attack(), pair.neutral()
    if bench.on_text(pair):
        made = [_exchange(bench, attack, defenses) for defenses in ((), (defense,))]
    else:
        who = attack if isinstance(attack, PoisoningAttack) else None
        made = [_training(bench, pair, who, defenses) for defenses in ((), (defense,))]
    require_identical(*reversed(made))


def _exchange(bench: Bench, attack: object, defenses: tuple) -> tuple:
    message = bench.text.sent(defenses, 0)
    if isinstance(attack, PoisoningAttack):
        message = bench.text.crafted(attack, message, 0)
        return message, bench.text.centroids(message, 0)
    assert isinstance(attack, InferenceAttack)
    return message, bench.text.identified(attack, defenses, 0)


def _training(bench: Bench, pair: Pair, attack: PoisoningAttack | None, defenses: tuple) -> tuple:
    # All clients in every round and a power of two of them: Poisson and fixed cohorts are the same,
    # and a division by their number is exact.
    world = bench.world(bench.poisoning, defenses or (pair.neutral(),))
    settings = {"item_aggregation": pair.aggregation, "cohort_fraction": 1.0, "rounds": 2}
    run = train(bench.of_size(world, 64), defenses, attack, record=(0, 1), **settings)
    return run.weights(), run.message(0), run.message(1)


@under(3)
def test_more_strength_never_helps_the_attack(pair: Pair, bench: Bench) -> None:
    require_monotone(*bench.ladder(pair))


@under(4)
def test_the_strongest_setting_reaches_chance(pair: Pair, bench: Bench) -> None:
    success, chance = bench.success(pair, (pair.strengths[-1](),))
    require_chance(success, chance, pair.margin)


@pytest.mark.parametrize("pair", [p for p in PAIRS if 5 not in p.excused], ids=str)
def test_nobody_beats_the_closed_form(pair: Pair) -> None:
    assert RULE_5[pair.names]
    for check in RULE_5[pair.names]:
        green(check)


@over(p for p in PAIRS if isinstance(p.attack(), InferenceAttack) and 4 in p.excused)
def test_no_claim_means_no_protection(pair: Pair, bench: Bench) -> None:
    """The server's attacks go on as before, and a report must not suggest otherwise."""
    assert ModelUpdate in pair.neutral().reads
    success, chance = bench.success(pair, (pair.strengths[-1](),))
    require_power(success, chance)
    undefended, _ = bench.success(pair, ())
    kept = sum(g.mean() for g in success) / sum(g.mean() for g in undefended)
    assert kept > 0.9, "it does protect now: take it off the excused pairs"


def test_trimming_over_senders_does_not_stop_promotion(smoke: Bench) -> None:
    """On a row that hardly anybody sends, attackers are the majority: no share cut is enough."""
    pair = next(p for p in PAIRS if p.names == ("a_hum", "trimmed_mean"))
    success, chance = smoke.success(pair, (TrimmedMean(trim=0.45, rows="touched"),))
    require_power(success, chance)
