"""Plans: which cells a scenario has, what they share, what is not run and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

from harness.cells import Cell
from harness.forecast import DataFacts, forecast
from harness.plan import Plan, expand
from harness.plugins import build
from harness.scenario import load

Write = Callable[..., Path]
ALL = {
    "attacks": "{p: {use: promote}, f: {use: flip}, inv: {use: norms}}",
    "clients": "{noisy: {fraction: [0, 0.1]}, malicious: {fraction: [0, 0.2]}}",
    "defenses": "{c: {use: clip, bound: [8, 0.5]}, t: {use: trim}}",
    "systems": "{fed: {use: fed, dataset: movies}, text: {use: text, dataset: movies}}",
}


def plan_of(path: Path, *overrides: str) -> Plan:
    return expand(load(path, overrides))


def cells_of(plan: Plan, **wanted: object) -> list[Cell]:
    def matches(cell: Cell) -> bool:
        facts = {
            "system": cell.system.label,
            "arm": cell.defense.label,
            "attack": cell.poisoning.label if cell.poisoning else None,
            "noisy": cell.noisy.fraction,
            "malicious": cell.malicious,
            "seed": cell.seed,
        }
        return all(facts[key] == value for key, value in wanted.items())

    return [cell for cell in plan.cells if matches(cell)]


def test_count_by_hand(write: Write) -> None:
    plan = plan_of(write(**ALL))
    # fed: 4 arms × 2 noisy × (clean + 2 attacks × the one malicious fraction above 0) × 2 seeds.
    assert len(cells_of(plan, system="fed")) == 4 * 2 * (1 + 2) * 2
    # text: clip and trim act on model updates only, promote reads them only: none × (clean, flip).
    assert len(cells_of(plan, system="text")) == 1 * 2 * 2 * 2
    # popular: an anchor, for each noise level and seed.
    assert len(cells_of(plan, system="popular")) == 2 * 2
    assert len(plan.cells) == 48 + 8 + 4
    assert len({cell.id for cell in plan.cells}) == len(plan.cells) == plan.trainings


def test_clean_cells_have_no_malicious_client_and_come_once_a_noise_level(write: Write) -> None:
    plan = plan_of(write(**ALL))
    clean = cells_of(plan, system="fed", arm="none", attack=None, seed=0)
    assert [(c.malicious, c.noisy.fraction, c.noisy.rate) for c in clean] == [
        (0.0, 0.0, 0.0),
        (0.0, 0.1, 0.5),
    ]
    poisoned = [c for c in plan.cells if c.poisoning]
    assert {c.malicious for c in poisoned} == {0.2}
    assert {c.eval_excluded for c in plan.cells} == {(0.2, 0.1)}


def test_anchors_run_plain_on_the_target_domain_and_on_the_systems_data(write: Write) -> None:
    two = "{movies: {use: ml-100k}, two: {use: ml-1m, domains: {by: genres}}}"
    plan = plan_of(write(**ALL, datasets=two))
    anchors = [c for c in plan.cells if c.anchor]
    place = [(c.dataset_label, c.target_domain_only, c.noisy.fraction, c.seed) for c in anchors]
    assert place == [
        (dataset, two_domains, noisy, seed)
        for seed in (0, 1)
        for dataset, two_domains in (("movies", False), ("two", True))
        for noisy in (0.0, 0.1)
    ]
    for cell in anchors:
        assert (cell.defense.label, cell.poisoning, cell.inference) == ("none", None, ())
        assert cell.malicious == 0.0


def test_pairs_that_do_not_meet_are_kept_with_a_reason(write: Write) -> None:
    plan = plan_of(write(**ALL, anchors="false"))
    assert [(n.system, n.attack or n.defense, n.part, n.status) for n in plan.not_run] == [
        ("text", "p", "attack", "not applicable"),
        ("text", "inv", "attack", "not applicable"),
        ("text", "c bound=8", "defense", "not applicable"),
        ("text", "c bound=0.5", "defense", "not applicable"),
        ("text", "t", "defense", "not applicable"),
    ]
    assert plan.not_run[1].reason == (
        "inv reads model updates; the clients of text send only embedding uploads"
    )
    assert all(not c.inference for c in cells_of(plan, system="text"))
    assert all([s.label for s in c.inference] == ["inv"] for c in cells_of(plan, system="fed"))


def test_missing_feature_is_not_applicable(write: Write) -> None:
    plan = plan_of(write(**{**ALL, "defenses": "{v: {use: needy}}"}))
    assert [n.reason for n in plan.not_run if n.defense == "v"] == [
        "needy needs what text does not have: view"
    ]
    assert cells_of(plan, system="fed", arm="v")


def test_what_is_left_out_is_skipped(write: Write) -> None:
    defenses = "{a: {use: clip, under: [none, f]}, b: {use: trim, systems: [text]}}"
    plan = plan_of(write(**{**ALL, "defenses": defenses}))
    skipped = {(n.system, n.defense, n.attack): n for n in plan.not_run if n.status == "skipped"}
    assert set(skipped) == {("fed", "a", "p"), ("fed", "b", "")}
    assert "under the attack p" in skipped["fed", "a", "p"].reason
    assert not cells_of(plan, arm="a", attack="p") and cells_of(plan, arm="a", attack="f")
    assert not cells_of(plan, system="fed", arm="b")


def test_language_stage_only_where_asked(write: Write) -> None:
    cells = "language_cells: {seeds: [0], defenses: [none], attacks: [none]}"
    systems = f"{{text: {{use: text, dataset: movies, {cells}}}}}"
    plan = plan_of(write(**{**ALL, "systems": systems}), "defenses={}")
    text = cells_of(plan, system="text")
    assert [c.language for c in text] == [c.seed == 0 and c.poisoning is None for c in text]
    left = [n for n in plan.not_run if n.part == "language stage"]
    assert [(n.attack, n.reason.split()[-5:]) for n in left] == [
        ("none", "stage for seeds 0 only".split()),
        ("f", "stage in other cells only".split()),
    ]
    # Training with and without the stage are two trainings.
    clean = cells_of(plan, system="text", attack=None, noisy=0.0)
    one = clean[0].model_copy(update={"seed": 1})
    assert one.training != clean[1].training


def test_sweep_arms(write: Write) -> None:
    plan = plan_of(write(**ALL, anchors="false"))
    arms = {c.defense.label: c.defense for c in plan.cells}
    assert list(arms) == ["none", "c bound=8", "c bound=0.5", "t"]
    assert [(a.family, a.strength_name, a.strength) for a in arms.values()] == [
        ("none", "", None),
        ("c", "bound", 8.0),
        ("c", "bound", 0.5),
        ("t", "", None),
    ]
    assert arms["c bound=0.5"].parts[0].params == {"bound": 0.5, "ks": [1]}


def test_composition_keeps_order_and_sweeps_one_part(write: Write) -> None:
    defenses = "{both: [{use: trim}, {use: clip, bound: [1, 2]}]}"
    plan = plan_of(write(defenses=defenses, anchors="false"))
    arm = cells_of(plan, arm="both bound=2", seed=0)[0].defense
    assert [part.use for part in arm.parts] == ["trim", "clip"]
    assert (arm.strength_name, arm.strength) == ("bound", 2.0)


def test_training_key_covers_what_affects_training_and_nothing_else(write: Write) -> None:
    def key(*overrides: str, **wanted: object) -> str:
        chosen: dict[str, object] = {
            "system": "fed", "attack": "p", "arm": "t", "noisy": 0.1, "seed": 0, **wanted
        }  # fmt: skip
        (cell,) = cells_of(plan_of(path, *overrides), **chosen)
        return cell.training

    path = write(**ALL)
    base = key()
    same = (
        "evaluation.k=[3]", "record.clients=2", "limits.reject_share=0.9", "compute.threads=2",
        "attacks.inv2={use: norms}", "name=other", "seeds=[0, 5]", "description=x",
        "systems.text.dataset=movies", "clients.malicious.fraction=[0.2, 0.3]",
    )  # fmt: skip
    for override in same[:-1]:
        assert key(override) == base, override
    assert key(same[-1], malicious=0.2) == base
    changed = (
        "systems.fed.lr=0.3", "attacks.p.boost=2", "datasets.movies.k_core=5",
        "clients.noisy.rate=0.1", "defenses.t={use: clip}", "targets.choice=random",
    )  # fmt: skip
    others = {key(override) for override in changed} | {key(seed=1), key(attack="f")}
    assert len(others | {base}) == len(changed) + 3
    # Targets matter to targeted attacks only; the noise rate only where there is noise.
    assert key("targets.choice=random", attack="f") == key(attack="f")
    assert key("clients.noisy.rate=0.1", noisy=0.0) == key(noisy=0.0)


def test_labels_do_not_affect_the_training_key(write: Write) -> None:
    first = plan_of(write(anchors="false")).cells
    renamed = plan_of(
        write(
            datasets="{films: {use: ml-100k}}",
            systems="{other: {use: fed, dataset: films}}",
            anchors="false",
        )
    ).cells
    assert [c.training for c in first] == [c.training for c in renamed]
    assert not {c.id for c in first} & {c.id for c in renamed}


def test_ids_are_readable_file_names(write: Write) -> None:
    for cell in plan_of(write(**ALL)).cells:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,98}-[0-9a-f]{8}", cell.id)
    first = next(c for c in plan_of(write(**ALL)).cells if c.poisoning)
    assert first.id.startswith("fed-movies-none-p-m20-n0-s0-")


def test_cell_travels_as_json_and_to_other_processes(write: Write) -> None:
    for cell in plan_of(write(**ALL)).cells:
        assert Cell.model_validate_json(cell.model_dump_json()) == cell
        assert ForkingPickler.loads(ForkingPickler.dumps(cell)) == cell


def test_stress_run_is_labelled(write: Write) -> None:
    plan = plan_of(write(**ALL), "clients.malicious.fraction=[0.2, 1.0]")
    assert any("stress run: 100 % malicious" in warning for warning in plan.warnings)
    stressed = [c for c in plan.cells if c.stress]
    assert {c.malicious for c in stressed} == {1.0}
    # The stress run does not shrink the users that all other cells are evaluated on.
    assert {c.eval_excluded for c in plan.cells} == {(0.2, 0.1)}


def test_warnings(write: Write) -> None:
    poison = {"attacks": "{p: {use: promote}}"}
    assert any("no client is malicious" in w for w in plan_of(write(**poison)).warnings)
    malicious = {"clients": "{malicious: {fraction: 0.1}}", "seeds": "[3]"}
    warnings = plan_of(write(**malicious)).warnings
    assert any("no attack poisons" in w for w in warnings)
    assert any("one seed" in w for w in warnings)
    assert plan_of(write()).warnings == ()


def test_build_accepts_lists_for_tuples(write: Write) -> None:
    from harness.core.registry import SYSTEMS

    (cell, *_) = plan_of(write(anchors="false"), "systems.fed.layers=[4]").cells
    assert build(SYSTEMS, cell.system).config.layers == (4,)


def test_forecast_names_theory_limits_with_numbers(write: Write) -> None:
    plan = plan_of(write(**ALL))
    known = forecast(plan, {"movies": DataFacts((50,), (300,))})
    assert known.theory == (
        "c bound=8 on fed: cohort 5 < 10",
        "c bound=0.5 on fed: cohort 5 < 10",
    )
    assert [(g.system, g.clients, g.cells) for g in known.groups] == [
        ("popular", None, 4),
        ("fed", 50, 48),
        ("text", 1, 8),
    ]
    assert known.seconds is None
    assert forecast(plan, {}).theory == ()


def test_forecast_names_attacks_without_force(write: Write, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from harness.core.registry import ATTACKS

    def check(self, cohort_size, malicious_fraction):  # type: ignore[no-untyped-def]
        return [f"{malicious_fraction:g} of {cohort_size}"] if malicious_fraction else []

    monkeypatch.setattr(ATTACKS.get("promote"), "check", check)
    theory = forecast(plan_of(write(**ALL)), {"movies": DataFacts((50,), (300,))}).theory
    assert [warning for warning in theory if warning.startswith("p ")] == ["p on fed: 0.2 of 5"]


def test_forecast_uses_a_systems_own_estimate(write: Write, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from harness.core.registry import SYSTEMS

    monkeypatch.setattr(
        SYSTEMS.get("fed"),
        "estimate_seconds",
        lambda self, federation: federation.cohort_size * federation.num_rounds,
        raising=False,
    )
    plan = plan_of(write(anchors="false"))
    known = forecast(plan, {"movies": DataFacts((200,), (300,))}, jobs=2)
    # 20 clients × 10 rounds a training, 2 trainings, 2 at once.
    assert known.seconds == 20 * 10 * 2 / 2


def test_forecast_says_which_domain_is_trained_where_users_are_clients(write: Write) -> None:
    plan = plan_of(write(**ALL))
    known = forecast(plan, {"movies": DataFacts((50, 70), (300, 400))})
    (said,) = [warning for warning in known.theory if "the first, is trained alone" in warning]
    assert said.startswith("fed on movies:") and said.endswith("(50 clients, 300 items)")
