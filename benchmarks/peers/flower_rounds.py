"""The same rounds in Flower's simulation engine, two actors.

    python flower_rounds.py LENGTH

Prints client-steps and the seconds between the first round's end and the last round's, so that
neither Ray's start nor the actors' imports count against Flower.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ.update(FLWR_TELEMETRY_ENABLED="0", RAY_DISABLE_METRICS="1", OMP_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import plain_sasrec as plain
import torch
from flwr.client import ClientApp, NumPyClient
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.simulation import run_simulation

COHORT = 256
ROUNDS = 3
LENGTH = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 50


class Client(NumPyClient):
    """One user."""

    def __init__(self, history: np.ndarray, seed: int) -> None:
        self.history = history
        self.seed = seed

    def fit(self, parameters: list[np.ndarray], config: dict) -> tuple:
        """Load the global model, train five steps, send all weights back."""
        torch.set_num_threads(1)
        model = plain.PlainSASRec(len(self.history) - 1)
        names = model.state_dict()
        model.load_state_dict(
            {n: torch.from_numpy(p) for n, p in zip(names, parameters, strict=True)}
        )
        plain.train_client(model, self.history, np.random.default_rng(self.seed))
        return [value.numpy() for value in model.state_dict().values()], 1, {}


class Clocked(FedAvg):
    """FedAvg that notes when each round ended."""

    ends: list[float]

    def aggregate_fit(self, *arguments, **named):
        """Aggregate as FedAvg does."""
        result = super().aggregate_fit(*arguments, **named)
        self.ends.append(time.perf_counter())
        return result


def main() -> None:
    """Run the simulation and print one line of JSON."""
    histories = plain.histories(COHORT, LENGTH)
    start = [value.numpy() for value in plain.PlainSASRec(LENGTH).state_dict().values()]
    strategy = Clocked(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_available_clients=COHORT,
        initial_parameters=ndarrays_to_parameters(start),
    )
    strategy.ends = []

    def client(context):
        place = int(context.node_config["partition-id"])
        return Client(histories[place], place).to_client()

    def server(context):
        config = ServerConfig(num_rounds=ROUNDS)
        return ServerAppComponents(strategy=strategy, config=config)

    run_simulation(
        ServerApp(server_fn=server),
        ClientApp(client_fn=client),
        num_supernodes=COHORT,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    seconds = strategy.ends[-1] - strategy.ends[0]
    done = (len(strategy.ends) - 1) * COHORT * plain.STEPS
    print(json.dumps({"client_steps": done, "seconds": seconds}))


if __name__ == "__main__":
    main()
