"""Local training: the engine against central training, a plain loop over clients, and peers.

    python -m benchmarks.engine [--length 50 10] [--steps 5] [--peers] [--threads 2]

Work: SASRec, d = 64, 2 blocks, 2 heads, 3,416 items, 5 local SGD steps with one sampled negative a
position, cohort 256, one sequence a client. Unit: client-steps a second, rounds with aggregation
included. All sides take turns in one run, and each ratio is the median over the turns. All have
large pages, as the harness's workers do.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.environments import environment
from benchmarks.federation import rounds_of, with_large_pages
from benchmarks.peers import plain_sasrec as plain
from harness.core.seeds import Seeds
from models.backbone import build_backbone, initial_table
from models.sequences import causal_layout

COHORT = 256
POPULATION = 1024
BATCHES = 20


@dataclass(frozen=True)
class Side:
    """One contestant.

    Attributes:
        name: in the table.
        run: does some work and returns client-steps done and seconds taken.
    """

    name: str
    run: Callable[[], tuple[int, float]]


def federated(length: int, steps: int = plain.STEPS) -> Side:
    """Whole rounds of the harness: cohort, local training, guard, aggregation.

    A turn has as many steps of the cohort as the central side takes.
    """
    rounds = max(1, BATCHES // steps)
    histories = tuple(plain.histories(POPULATION, length))
    train = rounds_of(histories, COHORT, rounds=rounds, local_epochs=steps, max_length=length + 1)

    def run() -> tuple[int, float]:
        began = time.perf_counter()
        train()
        return rounds * COHORT * steps, time.perf_counter() - began

    return Side("federated", run)


def central(length: int) -> Side:
    """The same sequences through shared weights: what no federation can beat."""
    backbone = build_backbone(
        "sasrec",
        embedding_size=plain.DIM,
        num_blocks=plain.BLOCKS,
        num_heads=plain.HEADS,
        max_positions=length + 1,
    )
    dense = {n: p.requires_grad_() for n, p in backbone.initial(Seeds(0)).items()}
    table = initial_table(plain.NUM_ITEMS, plain.DIM, Seeds(0)).requires_grad_()
    optimizer = torch.optim.SGD([*dense.values(), table], lr=plain.LEARNING_RATE)
    histories = plain.histories(POPULATION, length)
    stream = np.random.default_rng(0)

    def step() -> None:
        chosen = histories[stream.choice(POPULATION, COHORT, replace=False)]
        negatives = torch.from_numpy(stream.integers(0, plain.NUM_ITEMS, (COHORT, length)))
        layout, _ = causal_layout(list(chosen[:, :-1]), length)
        hidden = backbone.hidden(dense, table[layout.ids], layout)
        positive = (hidden * table[torch.from_numpy(chosen[:, 1:])]).sum(-1)
        negative = (hidden * table[negatives]).sum(-1)
        loss = torch.nn.functional.softplus(-positive) + torch.nn.functional.softplus(negative)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()

    def run() -> tuple[int, float]:
        began = time.perf_counter()
        for _ in range(BATCHES):
            step()
        return BATCHES * COHORT, time.perf_counter() - began

    return Side("central", run)


def loop(length: int, clients: int = 48) -> Side:
    """A plain loop over clients with an average of the whole models at the end."""
    histories = plain.histories(POPULATION, length)
    model = plain.PlainSASRec(length)
    stream = np.random.default_rng(0)

    def run() -> tuple[int, float]:
        began = time.perf_counter()
        total: dict[str, torch.Tensor] = {}
        for client in range(clients):
            local = copy.deepcopy(model)
            plain.train_client(local, histories[client], stream)
            for name, value in local.state_dict().items():
                total[name] = total[name] + value if name in total else value
        model.load_state_dict({name: value / clients for name, value in total.items()})
        return clients * plain.STEPS, time.perf_counter() - began

    return Side("loop over clients", run)


def peer(name: str, script: str, python: Path, length: int, threads: int) -> Side:
    """Another framework in an environment of its own; it prints its client-steps and seconds."""
    path = Path(__file__).parent / "peers" / script

    def run() -> tuple[int, float]:
        done = subprocess.run(
            [python, path, str(length), str(threads)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
        result = json.loads(done.stdout.strip().splitlines()[-1])
        return int(result["client_steps"]), float(result["seconds"])

    return Side(name, run)


def take_turns(sides: list[Side], turns: int) -> dict[str, list[float]]:
    """Return each side's client-steps a second, turn by turn; the first turn is warm-up."""
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(turns + 1):
        for side in sides:
            steps, seconds = side.run()
            if turn:
                rates[side.name].append(steps / seconds)
    return rates


def main() -> None:
    """Run and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, nargs="+", default=[50, 10])
    parser.add_argument("--steps", type=int, default=plain.STEPS, help="1: no weights per client")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", action="store_true", help="also Flower and pfl")
    options = parser.parse_args()
    with_large_pages()
    torch.set_num_threads(options.threads)
    print("| L | side | client-steps/s | federated ÷ side |\n|---|---|---|---|")
    for length in options.length:
        sides = [federated(length, options.steps), central(length)]
        if options.steps == plain.STEPS:
            sides.append(loop(length))
        if options.peers:
            # Flower 1.42.0 asks for a certifi that no index had when this was written.
            flower = environment("flower", ["flwr[simulation]==1.42.0"], ["certifi>=2026.7"])
            pfl = environment("pfl", ["pfl==0.6.0"])
            sides += [
                peer("flower", "flower_rounds.py", flower, length, 1),
                peer("pfl", "pfl_rounds.py", pfl, length, options.threads),
            ]
        rates = take_turns(sides, options.turns)
        for name, values in rates.items():
            ratios = [a / b for a, b in zip(rates["federated"], values, strict=True)]
            print(f"| {length} | {name} | {median(values):,.0f} | {median(ratios):.2f} |")


if __name__ == "__main__":
    main()
