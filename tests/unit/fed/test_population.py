"""Roles are nested and disjoint; noise touches noisy users only and at the stated rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.seeds import Seeds
from harness.core.system import Domain
from harness.fed.population import assign_roles, corrupt

share = st.floats(0, 1, allow_nan=False)


def _domain(num_users=6, length=400, num_items=50):
    titles = tuple(str(i) for i in range(num_items))
    histories = tuple(np.arange(length) % num_items for _ in range(num_users))
    return Domain("toy", histories, titles, titles, np.full(num_users, -1))


@given(st.integers(1, 200), share, share, st.integers(0, 5))
def test_roles_are_disjoint_and_of_the_right_size(members, malicious, noisy, seed):
    roles = assign_roles(members, malicious, noisy, Seeds(seed))
    assert not (roles.malicious & roles.noisy).any()
    assert roles.malicious.sum() == pytest.approx(malicious * members, abs=1)
    room = members - roles.malicious.sum()
    assert roles.noisy.sum() == pytest.approx(min(noisy * members, room), abs=1)


@given(st.integers(1, 100), share, share, share, share)
def test_a_larger_fraction_keeps_the_members_of_a_smaller_one(members, a, b, c, d):
    small = assign_roles(members, min(a, b) / 2, min(c, d) / 2, Seeds(1))
    large = assign_roles(members, max(a, b) / 2, max(c, d) / 2, Seeds(1))
    assert (small.malicious <= large.malicious).all()
    assert (small.noisy <= large.noisy).all()


def test_replacement_hits_noisy_users_only_and_at_its_rate():
    domain, noisy = _domain(), np.array([True, True, True, False, False, False])
    dirty = corrupt(domain, noisy, "item_replacement", 0.3, Seeds(0))
    changed = [np.mean(a != b) for a, b in zip(dirty.histories, domain.histories, strict=True)]
    assert changed[3:] == [0, 0, 0]
    # A uniform draw leaves the item as it was once in fifty times.
    assert np.mean(changed[:3]) == pytest.approx(0.3 * 49 / 50, abs=4 * (0.21 / 1200) ** 0.5)


def test_rate_zero_is_the_identity():
    domain = _domain()
    assert corrupt(domain, np.ones(6, dtype=bool), "shuffle", 0.0, Seeds(0)) is domain


def test_a_users_noise_does_not_depend_on_who_else_is_noisy():
    domain = _domain()
    alone = corrupt(domain, np.arange(6) == 2, "item_replacement", 0.5, Seeds(3))
    everyone = corrupt(domain, np.ones(6, dtype=bool), "item_replacement", 0.5, Seeds(3))
    assert (alone.histories[2] == everyone.histories[2]).all()


def test_dropping_keeps_two_items_and_shuffling_keeps_the_multiset():
    domain = _domain(length=5)
    noisy = np.ones(6, dtype=bool)
    dropped = corrupt(domain, noisy, "item_drop", 1.0, Seeds(0))
    assert [len(h) for h in dropped.histories] == [2] * 6
    shuffled = corrupt(domain, noisy, "shuffle", 1.0, Seeds(0))
    assert all(sorted(h) == [0, 1, 2, 3, 4] for h in shuffled.histories)
