"""k-means: a fixed point of Lloyd's iteration, the same on any number of threads."""

from __future__ import annotations

import torch
from numpy.random import RandomState
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from harness.core.clusters import k_means
from harness.core.neighbors import nearest
from harness.core.seeds import Seeds


def gaussian(count: int, dim: int) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(0))


def clustered(vectors: torch.Tensor, number: int, seed: int = 0, iterations: int = 300):
    return k_means(
        vectors.clone(), number, max_iterations=iterations, tolerance=0.0, seeds=Seeds(seed)
    )


def test_centres_are_means_and_members_are_nearest():
    vectors = gaussian(400, 6)
    centres, labels = clustered(vectors, 7)
    for cluster in range(7):
        mean = vectors[labels == cluster].mean(0)
        torch.testing.assert_close(centres[cluster], mean, rtol=0, atol=1e-6)
    assert torch.equal(nearest(vectors, centres, metric="l2").items[:, 0], labels)


def test_no_copy_changes_no_bit():
    """The copy that scikit-learn makes by default is of no consequence for the result."""
    vectors, seed = gaussian(500, 8), RandomState(Seeds(3).numpy("k-means").bit_generator)
    plain = KMeans(5, max_iter=20, tol=0.0, random_state=seed, n_init="auto")
    with threadpool_limits(1, "openmp"):
        plain.fit(vectors.numpy())
    centres, labels = clustered(vectors, 5, seed=3, iterations=20)
    assert torch.equal(centres, torch.from_numpy(plain.cluster_centers_))
    assert labels.tolist() == plain.labels_.tolist()


def test_the_number_of_threads_does_not_matter():
    vectors = gaussian(20_000, 32)
    found = []
    for threads in (1, 4, 4):
        with threadpool_limits(threads, "openmp"):
            found.append(clustered(vectors, 30, iterations=4))
    for centres, labels in found[1:]:
        assert torch.equal(centres, found[0][0]) and torch.equal(labels, found[0][1])


def test_never_more_clusters_than_rows():
    centres, labels = clustered(gaussian(3, 4), 90)
    assert len(centres) == 3 and sorted(labels.tolist()) == [0, 1, 2]
