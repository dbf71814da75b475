import math

import numpy as np
import pytest

from harness.metrics import reidentification as metric


def test_clean_uploads_are_their_own_nearest_neighbours_at_any_chunk():
    rng = np.random.default_rng(0)
    catalogue = rng.normal(size=(60, 8))
    truth = rng.permutation(60)[:25]
    for chunk in (1, 7, 1024):
        ranks = metric.similarity_ranks(3.5 * catalogue[truth], catalogue, truth, chunk=chunk)
        assert (ranks == 1).all()


def test_low_cosine_does_not_protect_a_noisy_upload():
    # Catalogue section 0.2: d = 768, unit vectors, sigma = 0.1 per coordinate.
    rng = np.random.default_rng(1)
    catalogue = rng.normal(size=(2000, 768))
    catalogue /= np.linalg.norm(catalogue, axis=1, keepdims=True)
    uploads = catalogue + rng.normal(0, 0.1, size=catalogue.shape)
    unit = uploads / np.linalg.norm(uploads, axis=1, keepdims=True)
    assert (unit * catalogue).sum(axis=1).mean() == pytest.approx(0.34, abs=0.02)
    ranks = metric.similarity_ranks(uploads, catalogue, np.arange(2000))
    assert metric.top_k(ranks, 1).mean() == 1


def test_unrelated_uploads_are_at_chance():
    rng = np.random.default_rng(2)
    catalogue, uploads = rng.normal(size=(101, 6)), rng.normal(size=(3000, 6))
    ranks = metric.similarity_ranks(uploads, catalogue, rng.integers(0, 101, size=3000))
    assert metric.median_rank(ranks) == pytest.approx((101 + 1) / 2, abs=4)
    error = math.sqrt(10 / 101 / 3000)
    assert abs(metric.top_k(ranks, 10).mean() - 10 / 101) < 4 * error


def test_items_with_one_vector_share_their_places():
    rng = np.random.default_rng(3)
    catalogue = np.repeat(rng.normal(size=(20, 33)), 4, axis=0)
    ranks = metric.similarity_ranks(catalogue, catalogue, np.arange(80))
    assert (ranks == (1 + 4) / 2).all()
    strict = metric.similarity_ranks(catalogue, catalogue, np.arange(80), tie="pessimistic")
    assert (strict == 4).all()


def test_nan_or_zero_uploads_are_not_measured():
    catalogue = np.eye(3)
    uploads = np.array([[np.nan, 0, 0], [0.0, 0, 0], [0, 0, 2.0]])
    ranks = metric.similarity_ranks(uploads, catalogue, np.arange(3))
    assert np.isnan(ranks).tolist() == [True, True, False]
    assert metric.median_rank(ranks) == 1
    assert math.isnan(metric.median_rank(ranks[:2]))


def test_disclosed_share_counts_distinct_own_items_only():
    owned = np.array([10, 11, 12, 13])
    assert metric.catalogue_disclosed(np.array([10, 10, 99, 12, -1]), owned) == 2 / 4
    assert metric.catalogue_disclosed(np.empty(0, dtype=int), owned) == 0
    assert math.isnan(metric.catalogue_disclosed(owned, np.empty(0, dtype=int)))


def test_disclosed_share_of_a_random_guesser_is_its_stated_chance():
    rng = np.random.default_rng(4)
    shares = [
        metric.catalogue_disclosed(rng.permutation(200)[:50], np.arange(80)) for _ in range(500)
    ]
    chance = metric.catalogue_disclosed_chance(50, 200)
    assert chance == 0.25 and abs(np.mean(shares) - chance) < 4 * np.std(shares) / 500**0.5


def test_median_rank_of_a_guesser_by_enumeration():
    # Two uploads that can be one of 2 items and one that can be one of 4: ranks 1 and 2 have mass
    # 2/2 + 1/4 each of 3, so half is passed at rank 2.
    assert metric.median_rank_chance(np.array([2, 2, 4])) == 2
    assert metric.median_rank_chance(np.full(7, 9)) == 5
    assert metric.median_rank_chance(np.full(7, 10)) == 5.5
    assert math.isnan(metric.median_rank_chance(np.zeros(0, dtype=np.int64)))
    rng = np.random.default_rng(0)
    choices = np.repeat([30, 80], [50, 20])
    drawn = np.median([rng.integers(1, choices + 1) for _ in range(2000)])
    assert metric.median_rank_chance(choices) == pytest.approx(drawn, abs=1)


def test_category_overlap_by_hand():
    table = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=bool)
    overlap = metric.category_overlap(np.array([0, 1, 2, 3, 0]), np.array([0, 0, 0, 0, 3]), table)
    np.testing.assert_array_equal(overlap, [1, 0.5, 0, 0, np.nan])


def test_no_constant_guess_overlaps_more_than_chance_says():
    stream = np.random.default_rng(0)
    table = stream.random((60, 5)) < 0.3
    truth, domain = np.arange(60), np.repeat([0, 1], [20, 40])
    best = 0.0
    for own in (0, 1):
        items = truth[domain == own]
        guesses = [
            np.nansum(metric.category_overlap(np.full(len(items), guess), items, table))
            for guess in items
            if table[guess].any()
        ]
        best += max(guesses)
    chance = metric.category_overlap_chance(truth, domain, table)
    assert chance == pytest.approx(best / table.any(1).sum())
    nothing = np.zeros((60, 5), dtype=bool)
    assert math.isnan(metric.category_overlap_chance(truth, domain, nothing))
