"""The server's step: against torch's own optimisers, under noise, and as post-processing."""

from __future__ import annotations

import math

import pytest
import torch

from defenses.dp_fedavg import DPFedAvg
from defenses.local_dp import LocalDP
from defenses.server_optimizer import ServerOptimizer, server_step
from harness.core.defense import Federation
from harness.core.messages import ModelAggregate
from tests.unit.attacks.cases import DIM, NUM_ITEMS, same

FEDERATION = Federation(
    num_clients=100, cohort_size=10, num_rounds=20, num_items=NUM_ITEMS, round_index=0
)


def ready(defense, federation=FEDERATION):
    defense.setup(federation)
    return defense


def _means(rounds=4, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return [
        ModelAggregate(
            {"bias": torch.randn(5, generator=stream)},
            torch.arange(NUM_ITEMS),
            torch.randn(NUM_ITEMS, DIM, generator=stream),
        )
        for _ in range(rounds)
    ]


def test_averaging_is_the_mean_itself_and_keeps_no_memory():
    memory = {}
    mean = _means()[0]
    step = server_step(mean, ServerOptimizer(), 0.1, memory)
    assert same(step, mean) and not memory


def test_adam_without_noise_is_torch_adam():
    """With a τ that is nearly nothing, the step is Adam's as everybody knows it."""
    config = ServerOptimizer(
        server_optimizer="adam", server_learning_rate=0.1, server_adaptivity=1e-12
    )
    weight = torch.zeros(NUM_ITEMS, DIM, requires_grad=True)
    oracle = torch.optim.Adam([weight], lr=0.1, betas=(0.9, 0.99), eps=0.0)
    memory, position = {}, torch.zeros(NUM_ITEMS, DIM)
    for mean in _means():
        weight.grad = -mean.rows
        oracle.step()
        position = position + server_step(mean, config, 0.0, memory).rows
        torch.testing.assert_close(position, weight.detach(), rtol=1e-5, atol=1e-6)


def test_momentum_is_torch_sgd():
    config = ServerOptimizer(server_optimizer="momentum", server_learning_rate=0.5)
    weight = torch.zeros(5, requires_grad=True)
    oracle = torch.optim.SGD([weight], lr=0.5, momentum=0.9)
    memory, position = {}, torch.zeros(5)
    for mean in _means():
        weight.grad = -mean.dense["bias"]
        oracle.step()
        position = position + server_step(mean, config, 0.0, memory).dense["bias"]
    torch.testing.assert_close(position, weight.detach())


def test_noise_is_taken_off_the_second_moment():
    """Signal 0.5 under noise of 2: the step is the signal over its own size, not the noise's."""
    config = ServerOptimizer(
        server_optimizer="adam",
        server_learning_rate=1.0,
        server_momentum=0.0,
        server_second_moment=0.999,
        server_noise_adaptivity=0.0,
        server_moments="row",
    )
    signal, std, wide = 0.5, 2.0, 4000
    memory, stream, steps = {}, torch.Generator().manual_seed(0), []
    for _ in range(30):
        rows = signal + std * torch.randn(1, wide, generator=stream)
        mean = ModelAggregate({}, torch.zeros(1, dtype=torch.int64), rows)
        steps.append(server_step(mean, config, std, memory).rows.mean())
    assert torch.stack(steps[5:]).mean().item() == pytest.approx(1.0, rel=0.15)
    uncorrected = server_step(mean, config, 0.0, dict(memory)).rows.mean().item()
    assert uncorrected == pytest.approx(signal / math.hypot(signal, std), rel=0.25)


def test_the_least_divisor_grows_with_the_noise_and_is_gone_without_it():
    """Where nothing but noise below its own σ arrives, a step is divided by √(τ² + (κσ)²)."""
    config = ServerOptimizer(
        server_optimizer="adam",
        server_momentum=0.0,
        server_adaptivity=0.03,
        server_noise_adaptivity=0.4,
    )
    mean = ModelAggregate({"bias": torch.full((5,), 1e-3)}, torch.zeros(0, dtype=torch.int64),
                          torch.zeros(0, DIM))  # fmt: skip
    for std in (0.0, 0.1, 10.0):
        square = max(1e-6 - std**2, 0.0) + 0.03**2 + (0.4 * std) ** 2
        step = server_step(mean, config, std, {}).dense["bias"]
        torch.testing.assert_close(step, torch.full((5,), 1e-3 / math.sqrt(square)))


def test_a_row_shares_its_second_moment():
    config = ServerOptimizer(server_optimizer="adam", server_moments="row", server_momentum=0.0)
    mean, memory = _means()[0], {}
    step = server_step(mean, config, 0.0, memory)
    expected = mean.rows / mean.rows.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(step.rows, expected)
    assert memory["second item rows"].shape == (NUM_ITEMS, 1)


@pytest.mark.parametrize("kind", [DPFedAvg, LocalDP])
def test_the_server_s_step_reads_nothing_but_the_noisy_mean(kind):
    """Post-processing: the same means give the same steps, whatever the clients were."""
    defense = ready(kind(server_optimizer="adam", server_learning_rate=0.1))
    one, other = {}, {}
    for mean in _means():
        step = defense.on_apply(mean, FEDERATION, one)
        assert same(step, ready(kind(defense.config)).on_apply(mean, FEDERATION, other))


def test_effects_take_the_defence_apart():
    for kind in (DPFedAvg, LocalDP):
        defense = kind(server_optimizer="adam")
        assert list(defense.effects()) == ["clip", "noise"]
        values = defense.config.model_dump()
        for off in ({}, defense.effects()["clip"]):
            changed = kind(**{**values, **defense.effects()["noise"], **off})
            assert ready(changed).spent(FEDERATION) is None
            assert "noise" not in changed.effects()
            assert ("clip" in changed.effects()) == (not off)
            assert changed.config.server_optimizer == "adam", "the rule stays"
