"""The same rounds in pfl's simulated backend (one process, which keeps one model in place).

    python pfl_rounds.py LENGTH THREADS

Prints client-steps and the seconds of all rounds after the first.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import plain_sasrec as plain
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel

COHORT = 256
ROUNDS = 4


class Model(plain.PlainSASRec):
    """The plain model with the two methods that pfl asks for."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.stream = np.random.default_rng(0)

    def loss(self, history: torch.Tensor) -> torch.Tensor:
        """Draw fresh negatives as the others do."""
        shape = (len(history), history.shape[1] - 1)
        negatives = torch.from_numpy(self.stream.integers(0, plain.NUM_ITEMS, shape))
        return super().loss(history.long(), negatives)

    def metrics(self, history: torch.Tensor) -> dict:
        """Nothing is evaluated."""
        return {}


class Clock(TrainingProcessCallback):
    """Notes when each round ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        """Go on until the algorithm ends."""
        self.ends.append(time.perf_counter())
        return False, Metrics()


def main() -> None:
    """Run and print one line of JSON."""
    length, threads = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    histories = plain.histories(COHORT, length)
    users = itertools.cycle(range(COHORT))

    def dataset(user: int) -> Dataset:
        return Dataset(raw_data=[torch.from_numpy(histories[user][None])], user_id=str(user))

    def federated() -> FederatedDataset:
        return FederatedDataset(dataset, lambda: next(users))

    network = Model(length)
    model = PyTorchModel(network, torch.optim.SGD, torch.optim.SGD(network.parameters(), lr=1.0))
    clock = Clock()
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=ROUNDS,
            evaluation_frequency=10**6,
            train_cohort_size=COHORT,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(training_data=federated(), val_data=federated()),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=plain.STEPS,
            local_learning_rate=plain.LEARNING_RATE,
            local_batch_size=None,
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=None),
        callbacks=[clock],
    )
    seconds = clock.ends[-1] - clock.ends[0]
    done = (len(clock.ends) - 1) * COHORT * plain.STEPS
    print(json.dumps({"client_steps": done, "seconds": seconds}))


if __name__ == "__main__":
    main()
