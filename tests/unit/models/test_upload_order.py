"""SF-UBM's vectors leave in an order that only their domain knows, and centroids find back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks.inverse_codebook import InverseCodebook
from attacks.nearest_neighbor import NearestNeighbor
from defenses.replacement import Replacement
from harness.core.attack import InferenceAttack, ItemIdentity
from harness.core.messages import EmbeddingUpload
from harness.core.observe import ThreatModel, View
from harness.core.params import Paper
from harness.core.seeds import Seeds
from models.sf_ubm import SfUbm
from models.upload_order import upload_order
from tests.strength.text import TextWorld, clustered


class ByPlace(InferenceAttack):
    """Claims that the k-th vector is the catalogue's k-th item."""

    paper = Paper("ours", "baseline")
    reads = (EmbeddingUpload,)
    threat_model = ThreatModel("server", frozenset({"messages"}), frozenset({"catalogue"}))

    def infer(self, view: View, seeds: Seeds) -> ItemIdentity:
        (_, upload), *_ = view.messages()
        assert isinstance(upload, EmbeddingUpload)
        return ItemIdentity(upload.domain.clone(), torch.eye(view.num_items))


def _shuffled(world: TextWorld, seed: int) -> TextWorld:
    order = upload_order(world.state.owner, Seeds(seed).child("upload order"))
    return replace(world, state=replace(world.state, order=order))


@pytest.mark.parametrize("sigma", [0.0, 0.05, 10.0])
def test_a_vectors_place_says_nothing(sigma):
    """Of 240 uploads 2 are right by chance, of 20 orders 40; in catalogue order all 4,800 were."""
    found, chance = [], 0.0
    for seed in range(20):
        world = _shuffled(clustered(), seed)
        hits, chance = world.identified(ByPlace(), [Replacement(sigma=sigma)], 0)
        found.append(hits.sum())
    expected = 20 * 240 * chance
    assert chance == pytest.approx(2 / 240)
    assert abs(sum(found) - expected) < 4.5 * expected**0.5


def test_the_order_is_one_of_each_domains_own_items():
    owner = torch.tensor([0] * 50 + [1] * 70)
    orders = [upload_order(owner, Seeds(seed)) for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(120))
        assert torch.equal(owner[order], owner)
        assert not torch.equal(order[:50], torch.arange(50))


def test_every_centroid_comes_back_to_its_item():
    """With a cluster for every item each gets its own vector back, whatever the order."""
    world = clustered((40, 30))
    system = SfUbm(num_clusters=70, language_stage=False)
    for seed in range(3):
        state = _shuffled(world, seed).state
        (upload,) = system.local(state, None)  # pyright: ignore[reportArgumentType]
        assert not torch.equal(upload.vectors, state.text)
        returned = system.combine(state, [upload], Seeds(0))
        after = system.apply(state, returned)
        torch.testing.assert_close(after.centroids, state.text, rtol=0, atol=1e-6)


@pytest.mark.parametrize("attack", [NearestNeighbor(), InverseCodebook(samples=8)])
@pytest.mark.parametrize("sigma", [0.02, 0.2])
def test_what_an_attack_on_the_vectors_reaches_does_not_change(attack, sigma):
    """The noise falls on other items; success stays within five standard errors."""
    plain = clustered()
    plain = replace(plain, state=replace(plain.state, order=torch.arange(240)))
    rates = {
        name: np.mean(
            [world.identified(attack, [Replacement(sigma=sigma)], s)[0].mean() for s in range(4)]
        )
        for name, world in (("catalogue", plain), ("shuffled", clustered()))
    }
    error = (2 * 0.25 / (4 * 240)) ** 0.5
    assert rates["shuffled"] == pytest.approx(rates["catalogue"], abs=5 * error)


def test_units_are_items_whatever_the_order():
    """So that a unit is the same item in every cell and seed."""
    attack = NearestNeighbor()
    found = [_shuffled(clustered(), seed).identified(attack, [], 0)[0] for seed in (1, 2)]
    assert np.array_equal(*found) and found[0].all()
