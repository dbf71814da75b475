"""The minute at the top of the report: order, words and price."""

from dataclasses import replace

import pytest

from harness.results import read_samples
from reports.evidence import Evidence
from reports.takeaways import takeaways
from reports.verdicts import judge


def told(rows, folder):
    evidence = Evidence(rows, read_samples(folder))
    return takeaways(evidence, judge(evidence))


@pytest.fixture(scope="module")
def all_told(fake, tmp_path_factory):
    return told(fake.rows, fake.write(tmp_path_factory.mktemp("run")))


def test_the_worst_comes_first(all_told):
    order = ["bad", "warn", "good", ""]
    for system in all_told:
        places = [order.index(a.tone) for a in system.attacks]
        assert places == sorted(places)
    firsts = [order.index(s.attacks[0].tone) for s in all_told]
    assert firsts == sorted(firsts)


def test_a_stopped_attack_names_the_cheapest_defence_and_its_price(all_told):
    lumos = next(s for s in all_told if s.system.startswith("LUMOS"))
    norm = next(a for a in lumos.attacks if a.attack == "row norm")
    assert (norm.tone, norm.answer) == ("good", "stopped")
    assert "AUC (chance that a true item is scored above a false one)" in norm.exposure
    assert "by guessing 0.5" in norm.exposure
    assert "1 of 5 settings stops it. It is DP-FedAvg z=1" in norm.outcome
    assert "HR@20 [" in norm.price and "NDCG@20 [" in norm.price


def test_price_has_hit_at_1_where_a_language_model_answers(all_told):
    sfubm = next(s for s in all_told if s.system.startswith("SF-UBM"))
    near = next(a for a in sfubm.attacks if a.attack == "nearest neighbour")
    assert "Hit@1 (all, sampled) [" in near.price


def test_damage_is_told_as_a_share_of_utility_and_names_the_clients(all_told):
    lumos = next(s for s in all_told if s.system.startswith("LUMOS"))
    flip = next(a for a in lumos.attacks if a.attack == "sign flip")
    assert "it costs" in flip.exposure and "of HR@20" in flip.exposure
    assert flip.exposure.endswith("(clients: 20 % malicious and 10 % noisy).")


def test_one_seed_is_no_proof_and_says_so(fake, tmp_path):
    rows = [r for r in fake.rows if r.seed == 0 and r.system == "SF-UBM"]
    (system,) = told(rows, tmp_path)
    near = next(a for a in system.attacks if a.attack == "nearest neighbour")
    assert near.answer == "not shown to be stopped" and "(one seed)" in near.outcome


def test_no_defence_and_no_undefended_run_are_said_plainly(fake, tmp_path):
    bare = [r for r in fake.rows if r.system == "LUMOS" and r.defense == "none"]
    (system,) = told(bare, tmp_path)
    assert system.overall == "No defence was run on this system."
    assert all(a.outcome.startswith(("No defence was run", "It needs no")) for a in system.attacks)
    shielded = [r for r in fake.rows if r.system == "LUMOS" and r.defense != "none"]
    (system,) = told(shielded, tmp_path)
    assert all(a.exposure == "It was not run without a defence." for a in system.attacks)
    assert all("price is not known" in a.price for a in system.attacks)


def test_a_defence_that_was_spared_an_attack_is_not_praised_silently(fake, tmp_path):
    rows = [
        r for r in fake.rows
        if r.system == "LUMOS" and (r.defense == "none" or r.defense == "DP-FedAvg z=1")
        and not (r.defense != "none" and r.poisoning != "none")
    ]  # fmt: skip
    rows = [replace(r, noisy=0.0) for r in rows if not r.noisy or r.poisoning != "none"]
    (system,) = told(rows, tmp_path)
    assert system.overall.startswith("1 of 1 defence setting holds against every attack that was")
    assert "Not all of them faced" in system.overall and "A-hum" in system.overall
