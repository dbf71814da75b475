"""What a limit selects: misspelt names are errors with a hint, failed cells are failures."""

import pytest
from gating import attack_row, judged, over_seeds

from harness.reading.problems import InvalidScenario

ROWS = (
    over_seeds("none", [0.9, 0.9, 0.91])
    + over_seeds("shield", [0.5, 0.5, 0.51], malicious=0.2, poisoning="flip")
    + over_seeds("none", [0.2, 0.2, 0.2], system="T", attack="guess", metric="top1", chance=0.01)
)


def error(tmp_path, *limits, rows=ROWS):
    with pytest.raises(InvalidScenario) as found:
        judged(tmp_path, rows, *limits)
    assert found.value.exit_code == 2
    return [str(p).removeprefix(f"{tmp_path / 'limits.yaml'}:") for p in found.value.problems]


def test_misspelt_names_are_told_with_the_nearest(tmp_path):
    found = error(
        tmp_path,
        "metric: aucc; value; at_most: 1",
        "metric: auc, defense: sheild; value; at_most: 1",
        "metric: auc, malicious: 0.25, k: 7; value; at_most: 1",
    )
    assert found == [
        "3:23: limits[0].select.metric: no estimate of the run has metric 'aucc'; "
        "did you mean 'auc'? (allowed: auc, top1)",
        "4:37: limits[1].select.defense: no estimate of the run has defense 'sheild'; "
        "did you mean 'shield'? (allowed: none, shield)",
        "5:39: limits[2].select.malicious: no estimate of the run has malicious 0.25; "
        "the nearest is 0.2 (there are: 0, 0.2)",
        "5:48: limits[2].select.k: no estimate of the run has k 7; the nearest is 0 (there are: 0)",
    ]


def test_every_value_of_a_list_has_to_be_there(tmp_path):
    found = error(tmp_path, "metric: auc, defense: [none, sheild]; value; at_most: 1")
    assert len(found) == 1 and "did you mean 'shield'" in found[0]


def test_a_combination_that_is_not_there_says_what_would_be(tmp_path):
    found = error(tmp_path, "metric: auc, system: T; value; at_most: 1")
    assert found == [
        "3:23: limits[0].select.metric: no estimate has metric 'auc' beside the other keys "
        "(allowed: top1)",
        "3:36: limits[0].select.system: no estimate has system 'T' beside the other keys "
        "(allowed: S)",
    ]
    apart = "metric: top1, system: S, defense: shield, attack: guess"
    found = error(tmp_path, f"{apart}; value; at_most: 1")
    assert found == ["3:14: limits[0].select: no estimate of the run has all of these together"]


def test_a_ratio_of_undefended_arms_alone_is_an_error(tmp_path):
    found = error(tmp_path, "metric: auc, defense: none; ratio; at_most: 1")
    assert "selects nothing but undefended arms; name a defense" in found[0]


def failed(defense, seed, **changes):
    plain = dict(attack="none", metric="cell", status="failed", reason="out of memory")
    return attack_row(defense, seed, float("nan"), **(plain | changes))


def test_a_failed_cell_fails_every_limit_that_covers_it(tmp_path):
    rows = [*ROWS, failed("shield", 3, poisoning="flip")]
    found = judged(tmp_path, rows, "metric: auc, defense: shield; value; at_most: 0.9")
    assert found.exit_code == 10 and found.count("pass") == 1
    assert found.checks[0].reason == "no evidence: the cell failed: out of memory"
    assert "seed 3" in found.checks[0].subject
    # It says nothing about another defence or another system.
    for select in ("metric: auc, defense: none", "metric: top1", "metric: auc, poisoning: none"):
        assert judged(tmp_path, rows, f"{select}; value; at_most: 0.95").exit_code == 0


def test_a_limit_on_what_failed_in_every_seed_fails_and_is_no_usage_error(tmp_path):
    rows = [*ROWS, *(failed("wall", seed) for seed in range(3))]
    found = judged(tmp_path, rows, "metric: auc, defense: wall; value; at_most: 9")
    assert found.exit_code == 10 and "out of memory" in found.checks[0].reason
    assert "seeds 0, 1, 2" in found.checks[0].subject
    # A misspelt metric stays a misspelt metric.
    assert "'auc'" in error(tmp_path, "metric: acu, defense: wall; value; at_most: 9", rows=rows)[0]


def declined(defense, seed):
    return attack_row(
        defense, seed, float("nan"), metric="attack", status="not applicable", reason="no rows"
    )


def test_an_attack_that_declined_in_one_seed_is_no_evidence(tmp_path):
    rows = [*over_seeds("shield", [0.5, 0.5]), declined("shield", 2)]
    found = judged(tmp_path, rows, "metric: auc; value; at_most: 0.9")
    assert found.exit_code == 10
    assert found.checks[0].reason == "no evidence: not measured in every seed: no rows"


def test_an_attack_that_declined_everywhere_is_no_evidence_where_it_is_named(tmp_path):
    rows = [*ROWS, *(declined("wall", seed) for seed in range(3))]
    found = judged(tmp_path, rows, "metric: auc, defense: wall; value; at_most: 9")
    assert found.exit_code == 10 and found.checks[0].reason.endswith("no rows")
    # Where all defences are meant, those that it could attack count.
    found = judged(tmp_path, rows, "metric: auc, system: S; value; at_most: 0.95")
    assert found.exit_code == 0 and len(found.checks) == 2
