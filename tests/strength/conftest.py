"""The two tiers' benches: made-up data in seconds, MovieLens in minutes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.assets import resolve
from harness.core.errors import AssetError
from harness.core.system import Resources
from harness.data import DatasetConfig
from harness.prepared import prepared_data
from tests.strength.bench import Bench
from tests.strength.lumos import make_world
from tests.strength.text import clustered, encoded

ONE_STEP = {"rounds": 1, "local_epochs": 1, "learning_rate": 0.1}
"""One plain gradient step, the attacker's best case."""


@pytest.fixture(scope="session")
def smoke() -> Bench:
    """Sixty-four made-up users; text vectors around made-up centres."""
    dataset = DatasetConfig(use="synthetic", options={"num_users": 64})
    reading = make_world(dataset, **ONE_STEP, max_length=9, cohort_fraction=1.0, embedding_size=32)
    training = {"rounds": 8, "local_epochs": 2, "learning_rate": 1.0, "max_length": 20}
    poisoning = make_world(dataset, **training, cohort_fraction=0.5)
    return Bench(reading, poisoning, clustered(), seeds=(0, 1, 2), poison_seeds=(0, 1, 2, 3, 4))


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Three hundred users of MovieLens-100K; titles of MovieLens-1M through the real encoder."""
    paths = {}
    for role, asset in (("encoder", "minilm-l6"), ("", "ml-100k"), ("", "ml-1m")):
        try:
            paths[role] = str(resolve(asset))
        except AssetError as error:
            pytest.skip(f"{asset} is not at hand: {error}")
    dataset = DatasetConfig(use="ml-100k", max_users=300, keep_last=22)
    reading = make_world(dataset, **ONE_STEP, max_length=9, cohort_fraction=0.2, embedding_size=32)
    training = {"rounds": 15, "local_epochs": 2, "learning_rate": 2.0, "max_length": 20}
    poisoning = make_world(dataset, **training, cohort_fraction=0.25, k=20)
    halves = DatasetConfig(use="ml-1m", domains={"by": "genres"}, keep_last=20, max_users=300)
    data = prepared_data(halves.model_dump_json())
    resources = Resources(paths, Path(tmp_path_factory.mktemp("derived")), lambda line: None)
    text = encoded(data.domains, data.test, resources)
    poisoning = replace(poisoning, num_targets=20)
    return Bench(reading, poisoning, text, seeds=(0, 1, 2), poison_seeds=(0, 1, 2))
