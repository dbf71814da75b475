"""Filters, split, domains, partition, configuration: against slow twins and hand values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.core.errors import DataError, ScenarioError
from harness.data import DatasetConfig, Interactions, leave_one_out, load, load_domains, statistics
from harness.data.filter import drop_below_rating, k_core, keep_last, max_users
from harness.data.partition import (
    disjoint_domains,
    genre_domains,
    one_domain_per_client,
    one_user_per_client,
)
from harness.data.split import check_disjoint, check_leakage
from harness.data.statistics import as_text
from tests.unit.data.test_loaders import histories


def make(sequences: list[list[int]], name: str = "d", prefix: str = "") -> Interactions:
    """Data with items 0..max; ratings are 1, 2, … along each history."""
    num_items = max((max(s) for s in sequences if s), default=-1) + 1
    arrays = [np.array(s, dtype=np.int64) for s in sequences]
    raw = Interactions(
        name=name,
        users=[f"{prefix}u{i}" for i in range(len(sequences))],
        items=[f"{prefix}i{i}" for i in range(num_items)],
        titles=[f"T{i}" for i in range(num_items)],
        sequences=arrays,
        ratings=[np.arange(1.0, len(a) + 1) for a in arrays],
    )
    return raw.keeping(np.ones(raw.num_events, dtype=bool))


def slow_core(h: dict[str, list[str]], items_min: int, users_min: int) -> dict[str, list[str]]:
    """The k-core by removing one offender at a time."""
    h = {user: list(items) for user, items in h.items()}
    while True:
        for user in list(h):
            if len(h[user]) < users_min:
                del h[user]
                break
        else:
            flat = [item for items in h.values() for item in items]
            rare = next((item for item in flat if flat.count(item) < items_min), None)
            if rare is None:
                return h
            h = {user: [i for i in items if i != rare] for user, items in h.items()}


logs = st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=8), min_size=1, max_size=8)


@given(logs, st.integers(1, 4), st.integers(1, 4))
def test_k_core_equals_removing_one_at_a_time(
    sequences: list[list[int]], items_min: int, users_min: int
) -> None:
    data = make(sequences)
    expected = slow_core(histories(data), items_min, users_min)
    if not any(expected.values()):
        with pytest.raises(DataError, match="no event is left"):
            k_core(data, items_min, users_min)
        return
    core = k_core(data, items_min, users_min)
    assert histories(core) == {u: s for u, s in expected.items() if s}
    rule = "k_core" if items_min > 1 else "min_length"
    assert core.report[f"{rule}_events_dropped"] == data.num_events - core.num_events


@given(logs, st.integers(1, 10))
def test_keep_last(sequences: list[list[int]], count: int) -> None:
    data = make(sequences)
    expected = {user: items[-count:] for user, items in histories(data).items()}
    assert histories(keep_last(data, count)) == expected


def test_min_rating_counts_what_it_drops() -> None:
    data = drop_below_rating(make([[0, 1, 2], [3], [0, 0, 4, 2]]), 3)
    assert histories(data) == {"u0": ["i2"], "u2": ["i4", "i2"]}
    assert [data.report[f"min_rating_{w}_dropped"] for w in ("events", "users", "items")] == [
        5,
        1,
        3,
    ]
    with pytest.raises(DataError, match="has no ratings"):
        drop_below_rating(replace(make([[0]]), ratings=None), 3)


def test_max_users_is_a_seeded_subset() -> None:
    data = make([[i, i + 1] for i in range(50)])
    one, same, other = (max_users(data, 10, np.random.default_rng(s)) for s in (1, 1, 2))
    assert one.num_users == 10 and one.sha256 == same.sha256 != other.sha256
    full = histories(data)
    assert all(full[user] == items for user, items in histories(one).items())
    assert max_users(data, 99, np.random.default_rng(0)).num_users == 50


@given(logs)
def test_leave_one_out(sequences: list[list[int]]) -> None:
    data = make(sequences)
    split = leave_one_out(data)
    long = [s for s in data.sequences if len(s) >= 3]
    assert split.excluded == data.num_users - len(long)
    for sequence, train, validation, test in zip(
        long, split.train, split.validation, split.test, strict=True
    ):
        assert [*train, validation, test] == sequence.tolist()
    assert split.repeated_tests == sum(int(s[-1]) in s[:-1].tolist() for s in long)


def test_leakage_is_found() -> None:
    data = make([[0, 1, 2, 3], [3, 2, 1]])
    split = leave_one_out(data)
    leaky = replace(split, train=[data.sequences[0], split.train[1]])
    with pytest.raises(DataError, match=r"1 users .*leakage.*'u0'"):
        check_leakage(data, leaky)
    swapped = replace(split, test=split.validation, validation=split.test)
    with pytest.raises(DataError, match="2 users"):
        check_leakage(data, swapped)


def test_disjoint_domains_drop_shared_users_and_items_from_one_side() -> None:
    target = make([[0, 1], [1, 2]], "t")
    source = replace(
        make([[0, 1, 2], [1, 2, 3]], "s"), users=["u1", "new"], items=["j0", "i1", "j2", "j3"]
    )
    kept, cut = disjoint_domains(target, source)
    assert kept is target
    assert histories(cut) == {"new": ["j2", "j3"]}
    assert cut.report["shared_users_dropped"] == 1
    assert cut.report["shared_items_dropped"] == 1
    assert cut.report["shared_events_dropped"] == 4
    cut, kept = disjoint_domains(target, source, drop_from="target")
    assert kept is source and histories(cut) == {"u0": ["i0"]}
    with pytest.raises(DataError, match="separate_ids"):
        disjoint_domains(target, target)
    one, two = disjoint_domains(target, target, separate_ids=True)
    assert one.users == ["target:u0", "target:u1"] and two.num_events == 4
    with pytest.raises(DataError, match="share 2 users"):
        check_disjoint(target, target)


def test_genre_domains() -> None:
    kinds = [("Action",), ("Comedy",), ("Action", "Drama"), ("Drama", "War"), ("unknown",),
             ("Comedy", "Drama", "War")]  # fmt: skip
    data = replace(make([[0, 1, 2, 3, 4, 5]] * 20), item_attributes=kinds)
    first, second = genre_domains(data, np.random.default_rng(0))
    assert first.items == ["i0", "i2"]  # i2 ties: its first genre decides, as for i3
    assert second.items == ["i1", "i3", "i5"]
    assert first.num_users == second.num_users == 10
    assert not set(first.users) & set(second.users)
    assert set(first.users) | set(second.users) == set(data.users)
    assert all(items == ["i0", "i2"] for items in histories(first).values())
    assert first.report["items_without_a_genre_of_either_group"] == 1
    again = genre_domains(data, np.random.default_rng(0))[0]
    assert again.users == first.users
    with pytest.raises(DataError, match="no genres"):
        genre_domains(make([[0]]), np.random.default_rng(0))


def test_partitions() -> None:
    data = make([[0], [1], [0, 1]])
    clients = one_user_per_client(data)
    assert [c.name for c in clients] == data.users
    assert np.concatenate([c.users for c in clients]).tolist() == [0, 1, 2]
    domains = one_domain_per_client([data, make([[0]], "other")])
    assert [(c.name, c.domain, len(c.users)) for c in domains] == [("d", 0, 3), ("other", 1, 1)]


def test_content_hash_sees_every_part() -> None:
    data = make([[0, 1], [1, 2]])
    changed = [
        replace(data, users=["u0", "uX"]),
        replace(data, items=["i0", "i1", "iX"]),
        replace(data, titles=["T0", "T1", "TX"]),
        replace(data, sequences=[data.sequences[0], data.sequences[1][::-1]]),
        replace(data, sequences=[np.array([0]), np.array([1, 1, 2])]),
        replace(data, ratings=None),
        replace(data, item_text=["a", "b", "c"]),
        replace(data, item_attributes=[("a",), (), ()]),
    ]
    hashes = {data.sha256, *(c.sha256 for c in changed)}
    assert len(hashes) == len(changed) + 1
    assert replace(data, name="other", report={"x": 1}).sha256 == data.sha256


def test_statistics_by_hand() -> None:
    figures = statistics(make([[0, 1, 0], [1]]).noting(rows_read=4))
    assert (figures["users"], figures["items"], figures["events"]) == (2, 2, 4)
    assert figures["length_mean"] == figures["length_median"] == 2
    assert figures["density"] == 1.0
    assert figures["popular_share_of_events"] == 0.5
    assert figures["repeated_user_item_events"] == 1
    assert "rows_read" in as_text(figures)


def config(**values: Any) -> DatasetConfig:
    return DatasetConfig.model_validate(values)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({}, "use or path"),
        ({"use": "ml-1m", "path": "x"}, "not both"),
        ({"use": "ml-1n"}, "did you mean 'ml-1m'"),
        ({"use": "ml-1m", "typo": 1}, "Extra inputs"),
        ({"use": "synthetic", "options": {"users": 3}}, "options of synthetic: users"),
        ({"path": "x", "options": {"a": 1}}, "options belong"),
        ({"use": "ml-1m", "domains": {}}, "by: genres, or both"),
        ({"domains": {"target": {"path": "x"}}}, "by: genres, or both"),
        ({"use": "ml-1m", "min_length": 2}, "greater than or equal to 3"),
        ({"use": "ml-1m", "keep_last": True}, "valid integer"),
    ],
)
def test_configuration_errors(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        config(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"use": "ml-1m", "domains": {"by": "genres"}, "keep_last": 20, "min_rating": 3.0},
        {"use": "ml-1m", "domains": {"by": "genres", "groups": [["A"], ["B", "C"]]}},
        {"domains": {"target": {"path": "x"}, "source": {"use": "ml-1m"}}, "max_users": 9},
        {"use": "amazon", "options": {"reviews": "r.json"}},
    ],
)
def test_configuration_survives_its_own_json(values: dict[str, Any]) -> None:
    first = config(**values)
    assert DatasetConfig.model_validate(first.model_dump(mode="json")) == first
    assert DatasetConfig.model_validate_json(first.model_dump_json()) == first


def test_load_applies_the_rules_in_order() -> None:
    whole = load(config(use="synthetic"), 0)
    small = load(config(use="synthetic", max_users=7, keep_last=4), 5)
    assert small.num_users == 7 and set(small.lengths.tolist()) == {4}
    full = histories(whole)
    assert all(full[user][-4:] == items for user, items in histories(small).items())
    with pytest.raises(ScenarioError, match="two domains"):
        load(config(use="synthetic", domains={"by": "genres"}), 0)
    with pytest.raises(ScenarioError, match="needs two domains"):
        load_domains(config(use="synthetic"), 0)


def test_load_domains() -> None:
    by_genre = config(use="synthetic", domains={"by": "genres"}, min_length=3)
    target, source = load_domains(by_genre, 0)
    assert not set(target.users) & set(source.users)
    assert not set(target.items) & set(source.items)
    again, other = load_domains(by_genre, 0)[0], load_domains(by_genre, 1)[0]
    assert target.sha256 == again.sha256 != other.sha256
    side = {"use": "synthetic"}
    pair = config(domains={"target": side, "source": side, "separate_ids": True}, keep_last=5)
    target, source = load_domains(pair, 0)
    assert target.lengths.max() == source.lengths.max() == 5


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "users", "items", "events"),
    [
        ("ml-100k", 943, 1682, 100_000),
        ("amazon_beauty_2014", 22_363, 12_101, 198_502),
        ("amazon_toys_2014", 19_412, 11_924, 167_597),
        ("amazon_office_2014", 4905, 2420, 53_258),
        ("amazon_pantry_2018", 12_871, 8347, 115_004),
        ("amazon_books_partial", 2750, 4276, 13_652),
        ("online_retail_uci", 4334, 3659, 386_326),
    ],
)
def test_real_folders_have_their_published_sizes(
    shared_data: Path, name: str, users: int, items: int, events: int
) -> None:
    from harness.data import read

    data = read(config(path=str(shared_data / name)))
    assert (data.num_users, data.num_items, data.num_events) == (users, items, events)


@pytest.mark.realdata
def test_real_pair_shares_the_published_number_of_users(shared_data: Path) -> None:
    sides = {s: {"path": str(shared_data / f"amazon_{s}_2014")} for s in ("beauty", "toys")}
    pair = config(domains={"target": sides["beauty"], "source": sides["toys"]})
    target, source = load_domains(pair, 0)
    assert target.num_users == 22_363
    assert source.report["shared_users_dropped"] == 2073
    assert source.report["shared_items_dropped"] == 0
    assert source.num_users == 19_412 - 2073


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["ml-100k", "ml-1m"])
def test_asset_and_folder_hold_the_same_histories(shared_data: Path, name: str) -> None:
    from harness.asset_table import ASSETS
    from harness.assets import is_complete
    from harness.data import read

    if not is_complete(ASSETS[name]):
        pytest.skip(f"{name} is not in the cache")
    asset, folder = read(config(use=name)), read(config(path=str(shared_data / name)))
    assert asset.num_events == {"ml-100k": 100_000, "ml-1m": 1_000_209}[name]

    def titled(data: Interactions) -> dict[str, list[str]]:
        return {
            user.removeprefix("1m_"): [data.titles[i] for i in sequence.tolist()]
            for user, sequence in zip(data.users, data.sequences, strict=True)
        }

    one, two = titled(asset), titled(folder)
    different = [user for user in one if one[user] != two.get(user)]
    assert len(one) == len(two) and different == []
    split = leave_one_out(asset)
    assert split.excluded == 0 and split.repeated_tests == 0
