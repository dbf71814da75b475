"""Trade-offs: which points stand in them, their front, and what is read off a sweep."""

import math
from dataclasses import replace

import pytest

from harness.results import Interval, read_rows, read_samples
from reports.evidence import Arm, Condition, Evidence
from reports.figures import worst_cases
from reports.readoff import attack_at_loss, read_off_tables, utility_at_margin
from reports.sweeps import ALL_PRIVACY, Point, Sweep, TradeOff, trade_offs
from reports.tradeoff import finding, trade_off_figures
from reports.verdicts import ArmVerdict, Finding, Threat, judge

CLEAN = Condition("none", 0.0, 0.0)
NAN = math.nan


def point(strength, advantage, kept, *, half=0.0, family="noise", seeds=3, attack="probe"):
    arm = Arm("data", "model", "federated", f"{family} {strength}", family, strength, "sigma")
    reading = Interval(advantage, advantage - half, advantage + half, 100)
    threat = Threat(attack, "privacy", "top-1", CLEAN, reading, 0.0, reading, seeds)
    return Point(arm, threat, Interval(kept, kept - half, kept + half, 100))


def sweep(*points):
    return Sweep("noise", "sigma", tuple(points))


def trade(*sweeps, base=None):
    return TradeOff("model on data", "probe", "privacy", base, tuple(sweeps), (), "clean")


def cells(*points):
    """The two read-offs of a sweep as the table has them."""
    (table,) = read_off_tables([trade(sweep(*points))])
    return [cell.text for cell in table.rows[0][2:]]


def test_the_middle_of_two_decades_is_read_over_the_logarithm_of_the_strength():
    weak, strong = point(0.01, 0.8, 0.99), point(1.0, 0.2, 0.91)
    spot = attack_at_loss(sweep(weak, strong))
    assert spot.kept.low == pytest.approx(0.95) and spot.strength == pytest.approx(0.1)
    assert spot.advantage.value == pytest.approx(0.5) and len(spot.between) == 2
    assert "σ ≈ 0.1, between the measured 0.01 and 1" in spot.where
    # With a strength of 0 there is no logarithm: the line runs over the strength itself.
    spot = attack_at_loss(sweep(point(0.0, 0.8, 0.99), strong))
    assert spot.strength == pytest.approx(0.5)


def test_both_read_offs_are_chosen_on_bounds_not_on_estimates():
    lucky = point(1.0, 0.03, 0.96, half=0.03)  # meets both limits by its estimate alone
    sure = point(0.5, 0.3, 0.99, half=0.01)
    # The lower bound of utility falls from 0.98 to 0.93: 0.95 lies at 3/5 of the way.
    spot = attack_at_loss(sweep(sure, lucky))
    assert spot.kept.low == pytest.approx(0.95)
    assert spot.advantage.value == pytest.approx(0.3 + 3 / 5 * (0.03 - 0.3))
    assert utility_at_margin(sweep(sure, lucky)) is None
    assert cells(lucky) == [
        "not shown: 96 % [93 %, 99 %] kept",
        "not shown: advantage 0.03 [0, 0.06]",
    ]


def test_what_is_not_reached_is_said_with_the_nearest_measured_point():
    dear, open_ = cells(point(0.1, 0.9, 0.7, half=0.01), point(1.0, 0.4, 0.6, half=0.01))
    assert dear == "not reached: at most 70 % [69 %, 71 %] kept, at σ = 0.1"
    assert open_ == "not reached: lowest advantage 0.4 [0.39, 0.41], at σ = 1"


def test_nothing_is_read_beyond_the_ends_or_from_missing_intervals():
    missing = replace(point(1.0, 0.0, 1.0), kept=Interval(1.0, NAN, NAN, 1))
    assert attack_at_loss(sweep(missing)) is None and utility_at_margin(sweep(missing)) is None
    assert cells(missing)[0] == "not measurable: utility has no interval"
    nan = replace(missing, threat=replace(missing.threat, advantage=Interval(0.0, NAN, NAN, 1)))
    assert cells(nan)[1] == "not measurable: the attack has no interval"
    # A neighbour without an interval makes no line to read from.
    assert attack_at_loss(sweep(point(0.1, 0.5, 0.9), missing)) is None
    assert utility_at_margin(sweep(point(0.1, 0.2, 0.9), point(1.0, 0.06, 0.8))) is None


def test_a_measured_strength_wins_over_a_place_that_is_hardly_better():
    spot = attack_at_loss(sweep(point(0.1, 0.5, 0.951), point(1.0, 0.45, 0.9)))
    assert len(spot.between) == 1 and spot.strength == 0.1
    spot = attack_at_loss(sweep(point(0.1, 0.5, 0.99), point(1.0, 0.2, 0.9)))
    assert len(spot.between) == 2


def test_arms_without_distinct_strengths_are_not_joined():
    same = sweep(point(1.0, 0.9, 0.99), replace(point(1.0, 0.0, 0.5)))
    assert not same.connected and not sweep(point(1.0, 0, 1)).connected
    assert len(attack_at_loss(same).between) == 1


def test_one_seed_stands_beside_what_is_read_off():
    (table,) = read_off_tables([trade(sweep(point(1.0, 0.0, 1.0, seeds=1)))])
    assert all("one seed" in cell.small for cell in table.rows[0][2:])


@pytest.fixture(scope="module")
def evidence(fake, tmp_path_factory):
    folder = fake.write(tmp_path_factory.mktemp("run"))
    return Evidence(read_rows(folder), read_samples(folder))


@pytest.fixture(scope="module")
def found(evidence):
    return trade_offs(evidence, judge(evidence))


def test_pareto_front_is_what_nothing_dominates(found):
    assert any(p.pareto for t in found for p in t.points)
    for t in found:
        for p in t.points:
            better = [
                q for q in t.points
                if q.advantage.value <= p.advantage.value and q.kept.value >= p.kept.value
                and (q.advantage.value, q.kept.value) != (p.advantage.value, p.kept.value)
            ]  # fmt: skip
            assert p.pareto == (not better)


def test_every_attack_of_a_system_has_its_sweeps_and_the_undefended_anchor(found):
    lumos = {t.attack: t for t in found if t.system.startswith("LUMOS")}
    assert set(lumos) == {"row norm", "A-hum", "sign flip", "noisy clients"}
    dp = next(s for s in lumos["row norm"].sweeps if s.family == "user_dp")
    assert [p.arm.strength for p in dp.points] == [0.01, 0.1, 1.0] and dp.connected
    assert lumos["row norm"].base.kept.value == 1


def test_points_are_compared_among_the_same_clients(fake, tmp_path):
    rows = [r for r in fake.rows if r.system == "LUMOS"]
    worse = [
        replace(r, value=1.0, low=1.0, high=1.0, noisy=0.1, cell=f"{r.cell}/noisy")
        for r in rows
        if r.attack == "row norm" and r.metric == "auc" and r.defense == "none"
    ]
    evidence = Evidence([*rows, *worse], read_samples(tmp_path))
    base = next(t.base for t in trade_offs(evidence, judge(evidence)) if t.attack == "row norm")
    assert base.threat.condition == CLEAN and base.advantage.value < 1


def test_the_worst_of_all_attacks_leaves_out_an_arm_that_was_spared_one(fake, tmp_path):
    rows = [r for r in fake.rows if r.system == "SF-UBM" and r.status == "ok"]
    second = [
        replace(r, attack="codebook", value=min(1.0, r.value + 0.3), cell=f"{r.cell}/c", low=NAN,
                high=NAN)
        for r in rows
        if r.attack == "nearest neighbour" and r.metric == "top1" and r.strength != 0.5
    ]  # fmt: skip
    evidence = Evidence([*rows, *second], read_samples(tmp_path))
    worst = next(t for t in trade_offs(evidence, judge(evidence)) if t.attack == ALL_PRIVACY)
    assert [arm.strength for arm in worst.left_out] == [0.5]
    assert {p.threat.attack for p in worst.points} == {"codebook"}


def test_hostile_names_give_plain_distinct_file_names_and_a_finding():
    evil = "../<img src=x onerror=alert(1)>"
    base = point(None, 0.9, 1.0)
    pair = [
        replace(trade(sweep(point(0.1, 0.9, 0.7), point(1.0, 0.4, 0.6)), base=base), attack=a)
        for a in (evil, evil + "!")
    ]
    names = [d.name for d in trade_off_figures(pair)]
    assert len(set(names)) == 2
    assert all(n.replace("_", "").replace("-", "").isalnum() for n in names)
    text = finding(pair[0])
    assert "without a defence" in text and "the lowest is 0.4 [0.4, 0.4] with noise 1.0" in text


def verdict(name, **advantages):
    arm = Arm("d", "s", "federated", name, "none" if name == "none" else "f", None, "")
    findings = []
    for attack, (value, word) in advantages.items():
        reading = Interval(value, value - 0.01, value + 0.01, 9)
        threat = Threat(attack, "privacy", "auc", CLEAN, reading, 0.5, reading, 2)
        findings.append(Finding(arm, attack, "privacy", threat, word, ""))
    return ArmVerdict(arm, "", findings[0], tuple(findings), Interval(1, 1, 1, 9))


def test_the_lowest_worst_case_is_not_given_to_a_defence_that_was_spared():
    bare = verdict("none", a=(0.9, "does not hold"), b=(0.8, "does not hold"), c=(0.0, "holds"))
    spared = verdict("spared", a=(0.01, "holds"))
    tested = verdict("tested", a=(0.3, "does not hold"), b=(0.4, "does not hold"))
    weaker = verdict("weaker", a=(0.2, "does not hold"), b=(0.7, "does not hold"))
    cases = {w.verdict.arm.defense: w for w in worst_cases([bare, spared, tested, weaker])}
    assert [name for name, w in cases.items() if w.chosen] == ["tested"]
    assert cases["spared"].missed == ("b",) and cases["tested"].missed == ()
    assert cases["weaker"].finding.attack == "b"
    assert not any(w.chosen for w in worst_cases([bare, spared]))
