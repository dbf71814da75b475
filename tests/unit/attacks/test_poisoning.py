"""A-hum, sign flip and ALIE against hand values and slow obvious twins."""

from __future__ import annotations

from statistics import NormalDist

import pytest
import torch
import torch.nn.functional as F

from attacks.a_hum import AHum, bound_row, fit_row, mine_hard_users
from attacks.alie import Alie, quantile_shift
from attacks.crafted_rows import insert_rows, moments, replace_rows
from attacks.sign_flip import SignFlip
from harness.core.attack import AttackContext
from harness.core.errors import RunError
from harness.core.messages import PAD, ModelUpdate
from harness.core.seeds import Seeds
from tests.unit.attacks.cases import DIM, NUM_ITEMS, VALUE, model, rows_of, update, upload, view

MALICIOUS = torch.tensor([True, False, False, True, False])


def craft(attack, message, malicious=MALICIOUS, targets=(7,), **options):
    context = AttackContext(0, 10, targets, NUM_ITEMS, {})
    seen = view(attack.threat_model, message, **options)
    return attack.craft(seen, message, malicious, context, Seeds(1))


def test_sign_flip_own_negates_and_scales():
    message = update()
    crafted = craft(SignFlip(scale=3.0), message)
    assert torch.equal(crafted.rows[MALICIOUS], -3 * message.rows[MALICIOUS])
    assert torch.equal(crafted.dense[VALUE][MALICIOUS], -3 * message.dense[VALUE][MALICIOUS])
    assert torch.equal(crafted.row_ids, message.row_ids)


def test_sign_flip_omniscient_is_minus_the_benign_mean():
    message = update(7)
    malicious = torch.arange(7) < 2
    crafted = craft(SignFlip(scale=2.0, knowledge="omniscient"), message, malicious)
    benign = message.dense["bias"][~malicious].mean(0)
    torch.testing.assert_close(crafted.dense["bias"][0], -2 * benign)
    sent: dict[int, list[torch.Tensor]] = {}
    for place in range(2, 7):
        for item, row in rows_of(message, place).items():
            sent.setdefault(item, []).append(row)
    for place in range(2):
        got = rows_of(crafted, place)
        assert got.keys() == sent.keys()
        for item, rows in sent.items():
            torch.testing.assert_close(got[item], -2 * torch.stack(rows).mean(0))


def test_sign_flip_negates_uploaded_vectors():
    message = upload()
    malicious = torch.arange(30) < 4
    crafted = craft(SignFlip(scale=1.0), message, malicious)
    assert torch.equal(crafted.vectors[:4], -message.vectors[:4])
    assert torch.equal(crafted.vectors[4:], message.vectors[4:])


def test_alie_quantile_by_hand():
    # n = 50, f = 24: s = 26 − 24 = 2 supporters of 26 benign, z = Φ⁻¹(24/26) [paper, section 3.2].
    assert quantile_shift(50, 24) == pytest.approx(1.4260768722848, abs=1e-10)
    assert NormalDist().cdf(quantile_shift(50, 10)) == pytest.approx(24 / 40)
    assert quantile_shift(10, 2) == pytest.approx(0.0)
    # Attackers in the majority: the quantile for one supporter, not infinity.
    assert NormalDist().cdf(quantile_shift(10, 7)) == pytest.approx(2 / 3)


def test_alie_says_where_its_formula_is_no_attack():
    (warning,) = Alie().check(100, 0.02)
    assert "z is 0.00 with 2 malicious of 100 clients" in warning
    assert Alie().check(100, 0.2) == []
    assert Alie().check(100, 0.0) == []
    assert Alie(z=1.5).check(100, 0.02) == []


@pytest.mark.parametrize("z", [None, 1.5])
def test_alie_matches_a_loop_over_coordinates(z):
    message = update(9)
    malicious = torch.arange(9) < 3
    crafted = craft(Alie(z=z), message, malicious)
    shift = quantile_shift(9, 3) if z is None else z
    assert shift > 0
    values = message.dense["bias"][~malicious]
    for k in range(DIM):
        column = values[:, k].tolist()
        mean = sum(column) / 6
        std = (sum((v - mean) ** 2 for v in column) / 5) ** 0.5
        assert crafted.dense["bias"][0, k] == pytest.approx(mean + shift * std, rel=1e-5)
    sent: dict[int, list[torch.Tensor]] = {}
    for place in range(3, 9):
        for item, row in rows_of(message, place).items():
            sent.setdefault(item, []).append(row)
    assert any(len(rows) > 1 for rows in sent.values())
    for item, rows in sent.items():
        stacked = torch.stack(rows)
        std = stacked.std(0) if len(rows) > 1 else torch.zeros(DIM)
        torch.testing.assert_close(rows_of(crafted, 1)[item], stacked.mean(0) + shift * std)


def test_moments_use_the_sample_deviation():
    message = update(2, slots=0)
    mean, std = moments(message).dense["bias"]
    a, b = message.dense["bias"]
    torch.testing.assert_close(mean, (a + b) / 2)
    torch.testing.assert_close(std, (a - b).abs() / 2**0.5)


def test_insert_rows_replaces_fills_and_grows():
    ids = torch.tensor([[3, 5], [4, PAD], [5, 6]])
    message = ModelUpdate(
        torch.arange(3), {}, ids, torch.ones(3, 2, 2), torch.ones(3, dtype=torch.int64)
    )
    malicious = torch.tensor([True, True, False])
    crafted = insert_rows(message, malicious, torch.tensor([5, 8]), torch.full((2, 2), 9.0))
    assert crafted.row_ids.tolist() == [[3, 5, 8], [4, 5, 8], [5, 6, PAD]]
    assert crafted.rows[0, :, 0].tolist() == [1.0, 9.0, 9.0]
    assert crafted.rows[2, :, 0].tolist() == [1.0, 1.0, 0.0]
    only = replace_rows(message, malicious, torch.tensor([8]), torch.full((1, 2), 9.0))
    assert only.row_ids.tolist() == [[8, PAD], [8, PAD], [5, 6]]
    assert only.rows[:2, 1].abs().sum() == 0


def test_a_hum_steps_are_gradients():
    stream = torch.Generator().manual_seed(0)
    users = torch.randn(5, DIM, generator=stream, dtype=torch.float64)
    row = torch.randn(DIM, generator=stream, dtype=torch.float64)
    leaf = users.clone().requires_grad_()
    F.binary_cross_entropy_with_logits(
        leaf @ row, torch.zeros(5).double(), reduction="sum"
    ).backward()
    torch.testing.assert_close(mine_hard_users(users, row, 1, 0.3), users - 0.3 * leaf.grad)
    leaf = row.clone().requires_grad_()
    F.binary_cross_entropy_with_logits(users @ leaf, torch.ones(5).double()).backward()
    torch.testing.assert_close(fit_row(users, row, 1, 0.3), row - 0.3 * leaf.grad)


def test_mining_makes_users_harder():
    stream = torch.Generator().manual_seed(0)
    users, row = torch.randn(20, DIM, generator=stream), torch.randn(DIM, generator=stream)
    assert (mine_hard_users(users, row, 30, 0.1) @ row < users @ row).all()


@pytest.mark.parametrize("users", ["mined", "random"])
@pytest.mark.parametrize("start", ["states", "gaussian"])
def test_a_hum_promotes_its_target(users, start):
    handle, message = model(), update()
    # States with a common direction, as a layer norm's shift gives them.
    handle.item_table[:20] += 0.5
    attack = AHum(users=users, start=start, steps=200, max_row_norm_ratio=2.0, num_users=50)
    own = tuple((i, i + 1) for i in range(15))
    crafted = craft(attack, message, targets=(25, 26), handle=handle, own=own)
    rows = [rows_of(crafted, place) for place in (0, 3)]
    limit = 2 * handle.item_table.norm(dim=1).max()
    for target in (25, 26):
        assert torch.equal(rows[0][target], rows[1][target]), "attackers differ"
        assert (handle.item_table[target] + rows[0][target]).norm() <= limit * (1 + 1e-5)
        if start == "states":
            states = handle.encode([[i, i + 3] for i in range(15)])
            third = (states @ handle.item_table.T).topk(3, dim=1).values[:, -1]
            before = states @ handle.item_table[target]
            after = states @ (handle.item_table[target] + rows[0][target])
            assert not (before > third).any() and (after > third).float().mean() > 0.9
    # The rest of the update is the client's own honest one.
    for item, row in rows_of(message, 3).items():
        assert torch.equal(rows[1][item], row)
    assert torch.equal(crafted.dense[VALUE], message.dense[VALUE])


def test_a_hum_gaussian_start_takes_a_variance():
    attack = AHum(start="gaussian", num_users=10_000)
    users = attack._users(torch.zeros(3, DIM), None, Seeds(0))
    # std 0.1, not 0.01; relative error of a standard deviation from n draws is 1/√(2n).
    assert users.std().item() == pytest.approx(0.1, rel=5 / (2 * users.numel()) ** 0.5)


def test_a_hum_states_start_has_the_sample_moments():
    stream = torch.Generator().manual_seed(3)
    states = torch.randn(40, 3, generator=stream) @ torch.randn(3, 3, generator=stream) + 2
    attack = AHum(num_users=10_000)
    users = attack._users(states, states, Seeds(0))
    torch.testing.assert_close(users.T.cov(), states.T.cov(), rtol=0.1, atol=0.1)
    torch.testing.assert_close(users.mean(0), states.mean(0), rtol=0.05, atol=0.05)


def test_a_hum_zero_rest_boost_and_bound():
    message = update()
    plain = craft(AHum(max_row_norm_ratio=None), message)
    boosted = craft(AHum(max_row_norm_ratio=None, boost=4.0, rest="zero"), message)
    assert boosted.row_ids[3].tolist() == [7, PAD, PAD, PAD]
    torch.testing.assert_close(rows_of(boosted, 3)[7], 4 * rows_of(plain, 3)[7])
    assert boosted.dense[VALUE][MALICIOUS].abs().sum() == 0
    assert bound_row(torch.tensor([3.0, 4.0]), torch.tensor(1.0)).tolist() == pytest.approx(
        [0.6, 0.8]
    )


def test_a_hum_without_histories_says_so():
    with pytest.raises(RunError, match="start: gaussian"):
        craft(AHum(), update(), own=((), ()))
