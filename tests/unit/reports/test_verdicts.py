import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.results import Interval, Row, SampleBlock
from reports.evidence import Evidence
from reports.verdicts import judge, normalised

NO_SAMPLES = pd.DataFrame(columns=["cell", "attack", "metric", "k", "protocol", "unit", "value"])


def attack_row(defense, seed, value, width=0.004, **changes):
    plain = dict(
        run="r", cell=f"{defense}/{seed}", system="S", metric="auc", side="privacy", seed=seed,
        better="lower", attack="rows", defense=defense, defense_family=defense, value=value,
        low=value - width, high=value + width, n=100, chance=0.5,
    )  # fmt: skip
    return Row(**(plain | changes))


def verdict_of(rows, defense="shield"):
    return next(
        v for v in judge(Evidence(rows, NO_SAMPLES)) if v.arm.defense == defense
    )  # fmt: skip


def seeds(defense, values, **changes):
    return [attack_row(defense, s, v, **changes) for s, v in enumerate(values)]


EXPOSED = seeds("none", [0.95, 0.951, 0.949])


def test_advantage_maps_chance_to_zero_and_certainty_to_one():
    assert normalised(Interval(0.5, 0.25, 1.0, 9), 0.5) == (0, -0.5, 1, 9)
    assert normalised(Interval(0.05, 0.05, 0.05, 1), 0.05).value == 0


def test_holds_only_when_the_interval_ends_below_the_margin():
    found = verdict_of(EXPOSED + seeds("shield", [0.501, 0.500, 0.502]))
    assert found.verdict == "holds"
    # Advantage (0.8 - 0.5) / (1 - 0.5) = 0.6, far above 0.05.
    found = verdict_of(EXPOSED + seeds("shield", [0.801, 0.800, 0.799]))
    assert found.verdict == "does not hold" and found.worst
    assert found.worst.worst.advantage.value == pytest.approx(0.6)
    found = verdict_of(EXPOSED + seeds("shield", [0.50, 0.56, 0.52]))
    assert found.verdict == "inconclusive"


def test_one_seed_never_holds():
    rows = [EXPOSED[0], attack_row("shield", 0, 0.5)]
    found = verdict_of(rows)
    assert found.verdict == "inconclusive" and found.worst and found.worst.note == "one seed"


def test_no_interval_never_holds():
    rows = [*EXPOSED, attack_row("shield", 0, 0.5, low=math.nan, high=math.nan)]
    assert verdict_of(rows).verdict == "inconclusive"


def test_an_attack_without_power_proves_nothing():
    weak = seeds("none", [0.5, 0.501, 0.499])
    found = verdict_of(weak + seeds("shield", [0.5, 0.501, 0.499]))
    assert found.verdict == "untested"
    assert verdict_of(seeds("shield", [0.5, 0.501, 0.499])).verdict == "inconclusive"


def test_the_worst_attack_decides_not_the_mean():
    rows = EXPOSED + seeds("shield", [0.5, 0.501, 0.499])
    rows += seeds("none", [0.9, 0.9, 0.901], attack="span") + seeds(
        "shield", [0.9, 0.9, 0.901], attack="span"
    )
    found = verdict_of(rows)
    assert found.verdict == "does not hold" and found.worst and found.worst.attack == "span"
    assert {f.attack: f.verdict for f in found.findings} == {
        "rows": "holds", "span": "does not hold",
    }  # fmt: skip


def test_recall_and_cosine_alone_are_no_success():
    rows = EXPOSED + seeds("shield", [0.5, 0.501, 0.499])
    rows += seeds("shield", [1.0, 1.0, 1.0], metric="recall", chance=0.01)
    rows += seeds("shield", [0.9, 0.9, 0.9], metric="cosine", chance=0.0)
    assert verdict_of(rows).verdict == "holds"


def test_not_applicable_rows_and_nan_values_give_no_verdict():
    rows = [
        *EXPOSED,
        attack_row("shield", 0, math.nan, status="not applicable", reason="no gradients"),
    ]
    assert "shield" not in {v.arm.defense for v in judge(Evidence(rows, NO_SAMPLES))}
    rows = [*EXPOSED, attack_row("shield", 0, math.nan, reason="n too small")]
    found = verdict_of(rows)
    assert found.worst is None and found.verdict == "untested"


def utility(defense, condition, hits, seed):
    poisoning, malicious = condition
    row = Row(
        run="r", cell=f"{defense}/{poisoning}/{seed}", system="S", metric="hr", side="utility",
        better="higher", k=10, protocol="full", seed=seed, defense=defense, defense_family=defense,
        poisoning=poisoning, malicious=malicious, value=float(hits.mean()), n=len(hits),
    )  # fmt: skip
    units = np.arange(len(hits))
    block = SampleBlock(cell=row.cell, metric="hr", k=10, protocol="full", units=units, values=hits)
    return row, block


def frame(blocks):
    return pd.concat(
        [
            pd.DataFrame({"cell": b.cell, "attack": b.attack, "metric": b.metric, "k": b.k,
                          "protocol": b.protocol, "unit": b.units, "value": b.values})
            for b in blocks
        ]
    )  # fmt: skip


def test_damage_of_poisoning_is_paired_and_kept_utility_is_relative():
    pairs = []
    for seed in range(3):
        hits = (np.random.default_rng(seed).random(400) < 0.5).astype(float)
        half = hits * (np.arange(400) % 2)
        pairs += [utility("none", ("none", 0.0), hits, seed)]
        pairs += [utility("none", ("flip", 0.2), half, seed)]
        pairs += [utility("shield", ("none", 0.0), hits, seed)]
        pairs += [utility("shield", ("flip", 0.2), hits, seed)]
    rows, blocks = zip(*pairs, strict=True)
    verdicts = {v.arm.defense: v for v in judge(Evidence(rows, frame(blocks)))}
    bare, shield = verdicts["none"], verdicts["shield"]
    assert bare.worst and shield.worst
    assert bare.worst.worst.advantage.value == pytest.approx(0.5, abs=0.05)
    assert bare.verdict == "does not hold" and bare.worst.worst.metric == "HR@10 lost"
    # The same hits for every user: no damage but what 400 users could hide, though users differ.
    damage = shield.worst.worst.advantage
    assert damage.value == 0 and -0.025 < damage.low < 0 < damage.high < 0.025
    assert shield.verdict == "holds"
    assert shield.kept.value == 1 and 0.975 < shield.kept.low < 1 < shield.kept.high < 1.025


def test_pairing_matches_users_by_their_id_not_by_their_place():
    hits = (np.arange(200) % 4 == 0).astype(float)
    rows, blocks = zip(
        utility("none", ("none", 0.0), hits, 0), utility("shield", ("none", 0.0), hits, 0),
        strict=True,
    )  # fmt: skip
    shuffled = np.random.default_rng(0).permutation(200)
    blocks = [blocks[0], replace(blocks[1], units=shuffled, values=hits[shuffled])]
    found = Evidence(rows, frame(blocks))
    kept = found.ratio(found.estimates[1], found.estimates[0])
    # Matched by place, one hit in four would make the ratio wander by a fifth.
    assert kept.value == 1 and 0.92 < kept.low < 1 < kept.high < 1.08


def test_seeds_without_values_per_user_use_their_spread():
    found = Evidence(EXPOSED, NO_SAMPLES).estimates[0]
    # Student's t with 2 degrees of freedom: 4.3027 * 0.001 / sqrt(3).
    half = 4.302653 * 0.001 / math.sqrt(3)
    assert found.interval.value == pytest.approx(0.95) and found.method == "over seeds"
    assert found.interval.high - 0.95 == pytest.approx(half, rel=1e-5)


def test_values_per_user_that_do_not_average_to_the_row_are_not_used():
    row, block = utility("none", ("none", 0.0), np.ones(50), 0)
    row = replace(row, value=0.25, low=0.2, high=0.3)
    found = Evidence([row], frame([block])).estimates[0]
    assert found.interval[:3] == (0.25, 0.2, 0.3)
