"""k-means over item vectors: scikit-learn's, told to keep to one thread and no copy."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from numpy.random import RandomState
from torch import Tensor

from harness.core.seeds import Seeds


def k_means(
    vectors: Float[Tensor, "row dim"],
    num_clusters: int,
    *,
    max_iterations: int,
    tolerance: float,
    seeds: Seeds,
) -> tuple[Float[Tensor, "cluster dim"], Int[Tensor, " row"]]:
    """Cluster by greedy k-means++ and Lloyd's iterations; return centres and each row's cluster.

    Several threads add the members of a cluster in whatever order they finish: with four of them
    two calls on the same numbers give different centres. So it is one, whatever the machine allows.

    Time: scikit-learn's. Memory beyond the vectors: about 30 MB and the centres; the vectors are
    centred in place while it runs and put back, so they change in the last bits.

    Args:
        vectors: what is clustered; contiguous, and the caller's to lose.
        num_clusters: at most one a row.
        max_iterations: of Lloyd's algorithm.
        tolerance: relative movement of the centres at which it ends.
        seeds: for the initial centres.
    """
    # Imported where they are used: loading them takes longer than checking a scenario.
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # scikit-learn's own way to set its threads

    means = KMeans(
        n_clusters=min(num_clusters, len(vectors)),
        init="k-means++",
        n_init="auto",
        max_iter=max_iterations,
        tol=tolerance,
        copy_x=False,
        random_state=RandomState(seeds.numpy("k-means").bit_generator),
    )
    with threadpool_limits(limits=1, user_api="openmp"):
        means.fit(vectors.numpy())
    centres = torch.from_numpy(means.cluster_centers_).to(vectors.dtype)
    return centres, torch.from_numpy(means.labels_).long()
