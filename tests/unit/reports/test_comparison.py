import math
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from harness.core.errors import DataError
from harness.results import Row, SampleBlock, write_results
from harness.sealing import sealed
from reports.comparison import BETTER, NOT_COMPARABLE, ONE_TRAINING, SAME, WORSE, compare_runs
from reports.comparison_run import read_run

USERS = np.arange(300)
BASE = Row(
    run="r", cell="c", system="LUMOS", metric="hr", side="utility", better="higher", k=20,
    protocol="full", dataset="ml-100k", data_hash="d1", scenario_hash="s1",
)  # fmt: skip
MANIFEST = {"name": "poison", "status": "done", "scenario": {"sha256": "s1"}, "data": {}}


class Made:
    """A run folder in the making: rows, values per user and a manifest."""

    def __init__(self):
        self.rows, self.samples = [], []

    def add(self, values=None, *, units=USERS, **changes):
        row = replace(BASE, **changes)
        row = replace(row, cell=f"{row.system}/{row.defense}/{row.seed}")
        if values is not None:
            values = np.asarray(values, np.float32)
            row = replace(row, value=float(np.nanmean(values)), n=len(values))
            self.samples.append(
                SampleBlock(cell=row.cell, attack=row.attack, metric=row.metric, k=row.k,
                            protocol=row.protocol, units=units, values=values)
            )  # fmt: skip
        self.rows.append(row)
        return self

    def at(self, folder, manifest=MANIFEST):
        write_results(folder, self.rows, self.samples)
        if manifest is not None:
            cells = list(dict.fromkeys(row.cell for row in self.rows))
            (folder / "manifest.json").write_bytes(sealed(folder, manifest, cells))
        return read_run(folder)


def hits(share, seed):
    return np.random.default_rng(seed).random(len(USERS)) < share


def three_seeds(**changes):
    made = Made()
    for seed in range(3):
        made.add(hits(0.3, seed), seed=seed, **changes)
    return made


def only(comparison):
    (difference,) = comparison.differences
    return difference


def test_bounds_are_those_of_an_obvious_paired_bootstrap(tmp_path):
    """Users drawn for all seeds at once, then the seeds' part by Cochran and Cox."""
    rng = np.random.default_rng(8)
    a = [rng.normal(1, 1, 300) for _ in range(3)]
    b = [x + rng.normal(shift, 0.5, 300) for x, shift in zip(a, (0.0, 0.1, 0.3), strict=True)]
    sides = []
    for name, values in (("a", a), ("b", b)):
        made = Made()
        for seed, own in enumerate(values):
            made.add(own, seed=seed)
        sides.append(made.at(tmp_path / name))
    found = only(compare_runs(*sides))
    change = np.array(b) - np.array(a)
    means = []
    for _ in range(3000):
        users = rng.integers(300, size=300)
        means.append(np.mean([own[users].mean() for own in change]))
    over_users = np.var(means)
    of_seeds = change.mean(1).var(ddof=1) / 3
    rest = (change - change.mean(0) - change.mean(1)[:, None] + change.mean()).ravel()
    lasting = max(0, over_users - (rest @ rest) / (299 * 2) / 900)
    half = (1.968 * lasting + 4.3027 * of_seeds) / math.sqrt(lasting + of_seeds)
    low, high = np.mean(change) - half, np.mean(change) + half
    assert found.interval.value == pytest.approx(np.mean(b) - np.mean(a), abs=1e-6)
    assert found.interval.low == pytest.approx(low, abs=0.05 * (high - low))
    assert found.interval.high == pytest.approx(high, abs=0.05 * (high - low))
    assert found.interval.n == 900 and found.basis == "users of 3 seeds, n = 900"
    # Three trainings 0 to 0.3 apart say little; users alone would give a fifteenth of this width.
    assert 0.9 < high - low < 1.0 and 3.92 * math.sqrt(over_users) < 0.08


def test_a_run_compared_with_itself_differs_by_exactly_nothing(tmp_path, fake):
    run = read_run(fake.write(tmp_path / "run"))
    comparison = compare_runs(run, run)
    measured = [d for d in comparison.differences if d.verdict != NOT_COMPARABLE]
    assert len(measured) > 100
    for d in measured:
        assert d.verdict == SAME and d.interval.value == 0 and d.a == d.b
        # Values of users who agree are no proof where they are hits: others might not.
        of_hits = d.per_user and d.place.metric in ("hr", "er", "top1", "top5", "hit1")
        assert -0.1 < d.interval.low < 0 if of_hits else d.interval.low <= 0
        assert d.interval.high == -d.interval.low
    lost = [d for d in comparison.differences if d.verdict == NOT_COMPARABLE]
    assert lost and all("never uploads gradients" in d.reason and not d.changed for d in lost)
    assert not comparison.only_a and not comparison.only_b


def test_one_changed_measure_is_the_only_one_shown(tmp_path, make_fake):
    a, b = make_fake(), make_fake()
    index = next(i for i, s in enumerate(b.samples) if s.metric == "ndcg" and "LUMOS" in s.cell)
    cell = b.samples[index].cell.rpartition("/")[0]
    for i, s in enumerate(b.samples):
        if s.metric == "ndcg" and s.cell.rpartition("/")[0] == cell:
            b.samples[i] = replace(s, values=s.values * 0.5)
    for i, row in enumerate(b.rows):
        if row.metric == "ndcg" and row.cell.rpartition("/")[0] == cell:
            b.rows[i] = replace(row, value=row.value * 0.5)
    comparison = compare_runs(read_run(a.write(tmp_path / "a")), read_run(b.write(tmp_path / "b")))
    changed = [d for d in comparison.differences if d.changed]
    assert [(d.verdict, d.place.metric, d.place.defense) for d in changed] == [
        (WORSE, "ndcg", "none")
    ]
    assert comparison.differences[0] is changed[0]
    assert changed[0].b == pytest.approx(changed[0].a / 2)


@pytest.mark.parametrize(
    ("better", "up", "verdict"),
    [
        ("higher", True, BETTER),
        ("higher", False, WORSE),
        ("lower", True, WORSE),
        ("lower", False, BETTER),
    ],
)
def test_verdict_follows_the_direction_of_the_metric(tmp_path, better, up, verdict):
    low, high = three_seeds(better=better), Made()
    for seed in range(3):
        high.add(hits(0.3, seed) | hits(0.3, seed + 9), seed=seed, better=better)
    a, b = (low, high) if up else (high, low)
    found = only(compare_runs(a.at(tmp_path / "a"), b.at(tmp_path / "b")))
    assert found.verdict == verdict
    assert (found.interval.low > 0) == up


def test_only_users_of_both_runs_count(tmp_path):
    a, b = Made(), Made()
    values = np.arange(300.0)
    for seed in (0, 1):
        a.add(values, seed=seed)
        b.add(values[::-1][:290] + 1, units=USERS[::-1][:290], seed=seed)
    comparison = compare_runs(a.at(tmp_path / "a"), b.at(tmp_path / "b"))
    found = only(comparison)
    # User u has u in A and u + 1 in B, whatever order and number of users the runs stored.
    assert found.interval == (1, 1, 1, 580) and found.a == np.mean(np.arange(10, 300))
    assert any("users are in one run only" in p for p in comparison.problems)


def test_users_without_a_value_in_either_run_are_left_out(tmp_path):
    a, b = np.arange(40.0), np.arange(40.0) + 1
    a[2], b[3] = np.nan, np.nan
    runs = [Made().add(v, units=USERS[:40]).at(tmp_path / n) for n, v in (("a", a), ("b", b))]
    found = only(compare_runs(*runs))
    mean = (sum(range(40)) - 2 - 3) / 38
    assert found.interval == (1, 1, 1, 38) and found.a == mean and found.b == mean + 1
    assert (found.lost.in_a, found.lost.in_b, found.lost.of) == (1, 1, 40)


def test_without_values_per_user_seeds_are_paired(tmp_path):
    a, b = Made(), Made()
    for seed, (left, right) in enumerate([(10.0, 11.0), (20.0, 22.0), (30.0, 33.0)]):
        a.add(seed=seed, value=left, metric="seconds", better="lower")
        b.add(seed=seed, value=right, metric="seconds", better="lower")
    found = only(compare_runs(a.at(tmp_path / "a"), b.at(tmp_path / "b")))
    half = 4.302653 / math.sqrt(3)  # t(0.975, 2 degrees) times the differences' spread of 1
    assert found.interval == pytest.approx((2, 2 - half, 2 + half, 3))
    assert found.verdict == SAME and found.basis == "3 seeds" and not found.per_user


def test_samples_that_are_not_behind_the_row_are_not_used(tmp_path):
    a, b = three_seeds(), three_seeds()
    b.rows = [replace(row, value=0.9) for row in b.rows]
    found = only(compare_runs(a.at(tmp_path / "a"), b.at(tmp_path / "b")))
    assert not found.per_user and found.b == pytest.approx(0.9)


def test_one_seed_is_said_to_cover_users_only(tmp_path):
    runs = [Made().add(hits(s, 1)).at(tmp_path / f"{s}") for s in (0.3, 0.6)]
    comparison = compare_runs(*runs)
    found = only(comparison)
    assert found.verdict == ONE_TRAINING and found.changed and found.interval.low > 0
    assert found.basis == (
        "users of 1 seed, n = 300; better on these trainings, training noise not covered"
    )
    assert any("one seed in common (0): intervals cover users only" in p
               for p in comparison.problems)  # fmt: skip
    assert not compare_runs(*[three_seeds().at(tmp_path / n) for n in "ab"]).problems


def test_one_seed_of_the_same_training_has_no_training_noise(tmp_path):
    def verdict(first, second):
        made = [Made().add(hits(s, 1), training=t) for s, t in ((0.3, first), (0.6, second))]
        folders = [tmp_path / f"{first}{second}{n}" for n in "ab"]
        return only(compare_runs(*[m.at(f) for m, f in zip(made, folders, strict=True)])).verdict

    assert verdict("t1", "t1") == BETTER
    assert verdict("t1", "t2") == ONE_TRAINING
    # Results that do not say what was trained may come from two trainings.
    assert verdict("", "") == ONE_TRAINING


def test_one_value_in_each_run_has_no_verdict_unless_it_is_the_same(tmp_path):
    runs = [Made().add(value=v, metric="upload_mb").at(tmp_path / str(v)) for v in (1.0, 2.0)]
    found = only(compare_runs(*runs))
    assert found.verdict == NOT_COMPARABLE and "no interval" in found.reason
    assert found.interval.value == 1 and math.isnan(found.interval.low)
    assert only(compare_runs(runs[0], runs[0])).verdict == SAME


def test_what_cannot_be_paired_says_why(tmp_path):
    def reason(a, b):
        runs = [made.at(tmp_path / f"{len(list(tmp_path.iterdir()))}") for made in (a, b)]
        found = only(compare_runs(*runs))
        assert found.verdict == NOT_COMPARABLE and math.isnan(found.interval.low)
        return found

    good = Made().add(hits(0.3, 0))
    lost = Made().add(status="failed", reason="out of memory")
    assert reason(good, lost).reason == "no number in B (failed: out of memory)"
    assert reason(good, lost).changed and reason(good, lost).lost_in == "B"
    assert reason(lost, good).lost_in == "A"
    unmeasured = Made().add(value=math.nan, reason="nobody eligible")
    both = reason(unmeasured, lost)
    assert both.reason == "no number in either run (nobody eligible; failed: out of memory)"
    assert not both.changed
    other = Made().add(hits(0.3, 0), seed=7)
    assert reason(good, other).reason == "no seed in common (A: 0; B: 7)"
    assert "direction" in reason(good, Made().add(hits(0.3, 0), better="lower")).reason
    twice = Made().add(hits(0.3, 0)).add(hits(0.4, 0))
    assert reason(twice, good).reason == "A has several rows of one seed"


def test_rows_of_one_run_only_are_listed_and_metrics_filter(tmp_path):
    a = three_seeds().add(hits(0.2, 1), defense="trim", strength=0.2, strength_name="trim")
    b = three_seeds().add(hits(0.2, 1), defense="trim", strength=0.25).add(value=1.0, metric="ap")
    runs = a.at(tmp_path / "a"), b.at(tmp_path / "b")
    comparison = compare_runs(*runs)
    assert [row.place.strength for row in comparison.only_a] == [0.2]
    assert [(row.place.strength, row.place.metric) for row in comparison.only_b] == [
        (0.25, "hr"), (None, "ap"),
    ]  # fmt: skip
    assert len(comparison.differences) == 1
    assert not compare_runs(*runs, ["ap"]).differences
    assert len(compare_runs(*runs, ["ap"]).only_b) == 1
    assert len(compare_runs(*runs, ["hr@20"]).differences) == 1
    assert not compare_runs(*runs, ["hr@10"]).differences


def test_the_worst_comes_first(tmp_path):
    a, b = Made(), Made()
    for seed in range(3):
        for name, kept in (("little", 0.9), ("much", 0.5), ("none", 1.0), ("more", 1.3)):
            values = np.random.default_rng(seed).random(300) + 0.5
            a.add(values, seed=seed, system=name)
            b.add(values * kept, seed=seed, system=name)
    found = compare_runs(a.at(tmp_path / "a"), b.at(tmp_path / "b")).differences
    assert [(d.verdict, d.place.system) for d in found] == [
        (WORSE, "much"), (WORSE, "little"), (SAME, "none"), (BETTER, "more"),
    ]  # fmt: skip


def problems(a, b):
    return "\n".join(compare_runs(a, b).problems)


def test_edits_by_hand_are_flagged_and_still_compared(tmp_path):
    a, b = (three_seeds().at(tmp_path / n) for n in "ab")
    assert problems(a, b) == ""
    path = tmp_path / "b" / "results.parquet"
    table = pq.read_table(path)
    # As pandas would write it: the hash is gone and NaN has become null.
    frame = table.to_pandas()
    frame["value"] = 0.99
    frame.to_parquet(path)
    b = read_run(tmp_path / "b")
    assert "B was edited: results.parquet does not have the hash" in problems(a, b)
    assert "B was edited: results.parquet is not the one that manifest.json" in problems(a, b)
    assert only(compare_runs(a, b)).b == pytest.approx(0.99)


def test_other_versions_data_scenarios_and_seeds_are_flagged(tmp_path):
    a = three_seeds().at(tmp_path / "a")
    with pytest.raises(DataError, match=r"schema version \[9\], this program reads 1"):
        three_seeds(schema_version=9).at(tmp_path / "newer")
    other = {**MANIFEST, "scenario": {"sha256": "s2"}, "data": {"ml-100k": "d2"}}
    moved = three_seeds(scenario_hash="s2", data_hash="d2").at(tmp_path / "moved", other)
    assert "the scenarios differ" in problems(a, moved)
    assert "the data differ in ml-100k" in problems(a, moved)
    fewer = Made().add(hits(0.3, 0)).add(hits(0.3, 1), seed=1).at(tmp_path / "fewer")
    assert "the seeds differ (A: 0, 1 and 2; B: 0 and 1): shared ones" in problems(a, fewer)
    partial = three_seeds().at(tmp_path / "partial", {**MANIFEST, "status": "interrupted"})
    assert "A is not a finished run (status interrupted)" in problems(partial, a)
    bare = three_seeds(scenario_hash="", data_hash="").at(tmp_path / "bare", None)
    text = problems(a, bare)
    assert "B has no readable manifest.json" in text and "scenario of B is not recorded" in text
    assert "the hash of ml-100k is not recorded in both runs" in text
    mixed = three_seeds().add(hits(0.1, 1), scenario_hash="s9", metric="mrr")
    assert "A mixes results of 2 scenarios" in problems(mixed.at(tmp_path / "mixed"), a)


def test_values_scattered_over_the_file_are_found(tmp_path):
    a, b = three_seeds(), three_seeds()
    run = a.at(tmp_path / "a")
    b.at(tmp_path / "b")
    path = tmp_path / "b" / "samples.parquet"
    frame = pq.read_table(path).to_pandas()
    frame.sample(frac=1, random_state=1).astype({"cell": str}).to_parquet(path)
    found = only(compare_runs(run, read_run(tmp_path / "b")))
    unseen = 3.8415 / 303.8415  # Wilson's bound for none of 300 users, whatever the seeds
    assert found.interval == pytest.approx((0, -unseen, unseen, 900), rel=0.02) and found.per_user


def shrunk(missing, **changes):
    """Three seeds, the first users of which have no value."""
    made = Made()
    for seed in range(3):
        values = hits(0.3, seed).astype(float)
        values[:missing] = math.nan
        made.add(values, seed=seed, **changes)
    return made


def test_users_without_a_value_are_named_and_too_many_compare_with_nothing(tmp_path):
    whole = three_seeds().at(tmp_path / "whole")
    few = compare_runs(whole, shrunk(15).at(tmp_path / "few"))
    assert only(few).verdict == SAME and only(few).lost.share("B") == 0.05
    assert any(p.startswith("B has no value for users") and "5.0% of" in p for p in few.problems)
    many = compare_runs(whole, shrunk(234).at(tmp_path / "many"))
    found = only(many)
    assert found.verdict == NOT_COMPARABLE and found.lost_in == "B" and found.changed
    assert found.reason == "702 of 900 units (78.0%) have no value in B"
    assert math.isnan(found.interval.low)
    back = compare_runs(shrunk(234).at(tmp_path / "back"), whole)
    assert only(back).lost_in == "A" and "in A" in only(back).reason


def test_users_that_no_run_has_a_value_for_are_no_loss(tmp_path):
    runs = [shrunk(234, metric="er").at(tmp_path / name) for name in "ab"]
    found = only(compare_runs(*runs))
    assert found.verdict == SAME and found.lost.neither == 702 and found.lost_in == ""
    assert not any("no value" in p for p in compare_runs(*runs).problems)


def test_a_conditional_metric_is_compared_over_the_users_both_have(tmp_path):
    runs = [shrunk(n, metric="hit1_valid").at(tmp_path / str(n)) for n in (10, 90)]
    found = only(compare_runs(*runs))
    assert found.verdict == SAME and found.lost.in_b == 240 and "240 of 900" in found.lost.words


def test_a_lost_seed_and_a_lost_cell_are_named(tmp_path):
    a = three_seeds().at(tmp_path / "a")
    b = three_seeds()
    b.at(tmp_path / "b")
    path = tmp_path / "b" / "results.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 2), path)
    comparison = compare_runs(a, read_run(tmp_path / "b"))
    assert only(comparison).lost.seeds_b == (2,)
    text = "\n".join(comparison.problems)
    assert (
        "B lost part of its sample: 1 of 3 planned cells (33.3%) has no row: LUMOS/none/2" in text
    )
    assert "B lacks seeds of the other run (2) in 1 rows" in text
