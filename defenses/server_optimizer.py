"""The server's optimiser as post-processing of a noisy mean; registers nothing.

Reddi et al., "Adaptive federated optimization", ICLR 2021, arXiv:2003.00295, algorithm 2: the mean
of the cohort's updates is taken for a gradient, and the global model moves by a step of momentum
(FedAvgM) or Adam (FedAdam) instead of by the mean itself. Whatever is computed from noisy means
alone costs no privacy (Dwork and Roth 2014, proposition 2.1), so the budget stays the same.

Adaptive steps matter because a private mean is over the cohort: the row of an item that few clients
have moves little, and an adaptive step gives it back its size without anybody's count.

Differs from the paper: the averages are corrected for their start, as in Kingma and Ba,
arXiv:1412.6980, algorithm 1 (the paper starts the second at τ²) [ours]; the noise's variance, which
is public, is taken off the second moment, v̂ ← max(v̂ − σ², 0) + τ² + (κσ)², after Tang,
Shpilevskiy and Lécuyer, "DP-AdamBC", AAAI 2024, arXiv:2312.14334, algorithm 1 (max(v̂ − σ², τ²)
there; a sum has no kink where signal and noise are alike [ours]), since otherwise v̂ is σ² nearly
everywhere and Adam is momentum with a smaller step; the least divisor grows with the noise (κσ)
[ours], so that one setting fits every budget, and a step that noise has to damp is not damped where
there is none (what a defence costs without its noise would else be booked on the clip); and the
second moment may be shared by an item's row (``row``), where 64 coordinates give one number less
noisily than each its own [ours].
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from harness.core.defense import Memory
from harness.core.messages import ModelAggregate
from harness.core.params import Params

_ROWS = "item rows"
_STEPS = "steps"


class ServerOptimizer(Params):
    """How the server turns a mean of updates into a step of the global model."""

    server_optimizer: Literal["average", "momentum", "adam"] = Field(
        "average", description="the noisy mean itself, or FedAvgM or FedAdam of it"
    )
    server_learning_rate: float = Field(1.0, gt=0, description="step size η")
    server_momentum: float = Field(
        0.9, ge=0, lt=1, description="decay β1 of the mean of the means [Reddi et al.: 0.9]"
    )
    server_second_moment: float = Field(
        0.99, ge=0, lt=1, description="decay β2 of their squares [Reddi et al.: 0.99]"
    )
    server_adaptivity: float = Field(
        1e-3, gt=0, description="τ, the least size a step is divided by [Reddi et al.: 1e-3]"
    )
    server_noise_adaptivity: float = Field(
        0.4, ge=0, description="κ, adds (κσ)² to τ² under noise of that σ [ours: on validation]"
    )
    server_moments: Literal["coordinate", "row"] = Field(
        "coordinate", description="what has a second moment of its own"
    )


def server_step(
    mean: ModelAggregate, config: ServerOptimizer, noise_std: float, memory: Memory
) -> ModelAggregate:
    """Return the step that the global model takes.

    Args:
        mean: of a round, noise included; its rows cover the catalogue.
        config: which optimiser.
        noise_std: standard deviation of the noise on each coordinate of ``mean``; 0 for none.
        memory: averages of the rounds before; moved on.
    """
    if config.server_optimizer == "average":
        return _scaled(mean, config.server_learning_rate)
    step = memory.get(_STEPS, torch.zeros((), dtype=torch.int64)) + 1
    memory[_STEPS] = step

    def moved(name: str, delta: Tensor) -> Tensor:
        return _moved(name, delta, config, noise_std, memory, int(step))

    return replace(
        mean,
        dense={name: moved(f"dense {name}", delta) for name, delta in mean.dense.items()},
        rows=moved(_ROWS, mean.rows),
    )


def _scaled(mean: ModelAggregate, rate: float) -> ModelAggregate:
    if rate == 1:
        return mean
    return replace(
        mean,
        dense={name: delta * rate for name, delta in mean.dense.items()},
        rows=mean.rows * rate,
    )


def _moved(
    name: str, delta: Tensor, config: ServerOptimizer, noise_std: float, memory: Memory, step: int
) -> Tensor:
    """Return one tensor's step."""
    rate, decay = config.server_learning_rate, config.server_momentum
    first = memory.get(f"first {name}", torch.zeros_like(delta))
    if config.server_optimizer == "momentum":
        # FedAvgM: the sum of decayed means, not their average.
        first = decay * first + delta
        memory[f"first {name}"] = first
        return rate * first
    first = decay * first + (1 - decay) * delta
    square = _square(name, delta, config)
    slow = config.server_second_moment
    second = slow * memory.get(f"second {name}", torch.zeros_like(square)) + (1 - slow) * square
    memory[f"first {name}"], memory[f"second {name}"] = first, second
    unbiased = second / (1 - slow**step)
    least = config.server_adaptivity**2 + (config.server_noise_adaptivity * noise_std) ** 2
    scale = ((unbiased - noise_std**2).clamp_min(0) + least).sqrt()
    return rate * first / (1 - decay**step) / scale


def _square(name: str, delta: Tensor, config: ServerOptimizer) -> Tensor:
    """Return the squares; their mean by item row, or over a dense tensor, where they share it."""
    square = delta.square()
    if config.server_moments == "coordinate" or not square.numel():
        return square
    if name == _ROWS:
        return square.mean(-1, keepdim=True)
    return square.mean().reshape([1] * square.dim())
