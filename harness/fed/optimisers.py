"""Clipping, Adam and decay for all clients of a chunk at once, each by itself."""

# The fused list operations of torch are public in use, not in its type stubs.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from harness.core.client_weight import ClientWeight
from harness.core.local import LocalSpec
from harness.core.unread_rows import UnreadRows

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


def clip_weights(
    weights: list[ClientWeight | UnreadRows], descents: dict[str, Tensor], spec: LocalSpec
) -> None:
    """Scale each client's gradient, factored and plain, to ℓ2 norm at most ``spec.clip_norm``."""
    squares = [weight.squared_norms() for weight in weights]
    squares += [descent.flatten(1).square().sum(1) for descent in descents.values()]
    norms = torch.stack(squares).sum(0).sqrt() / spec.learning_rate
    factor = _clip_factors(norms, spec.clip_norm)
    if _some_clipped(factor):
        for weight in weights:
            weight.scale(factor)
        _scale(list(descents.values()), factor)


def clip_per_client(
    gradients: list[Tensor], bound: float, rest: UnreadRows | None = None
) -> list[Tensor]:
    """Scale each client's gradient, and that of ``rest``, to ℓ2 norm at most ``bound`` together.

    In place; 0 leaves it.
    """
    if bound == 0:
        return gradients
    parts = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]
    if rest is not None:
        parts.append(rest.squared_norms().sqrt())
    factor = _clip_factors(torch.linalg.vector_norm(torch.stack(parts), dim=0), bound)
    if _some_clipped(factor):
        _scale(gradients, factor)
        if rest is not None:
            rest.scale(factor)
    return gradients


def _some_clipped(factor: Float[Tensor, " client"]) -> bool:
    """Whether anything has to be multiplied; on another device asking costs more than doing it."""
    return factor.device.type != "cpu" or bool((factor < 1).any())


def _clip_factors(norms: Float[Tensor, " client"], bound: float) -> Float[Tensor, " client"]:
    return (bound / (norms + 1e-6)).clamp(max=1.0)


def _scale(gradients: list[Tensor], factor: Float[Tensor, " client"]) -> None:
    for gradient in gradients:
        gradient.mul_(factor.reshape(-1, *[1] * (gradient.dim() - 1)))


class Adam:
    """Adam (Kingma and Ba, 2015) with decoupled decay; its state starts anew in every round."""

    def __init__(self, spec: LocalSpec, parameters: list[Tensor]) -> None:
        self.spec = spec
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]
        self.count = 0

    def __call__(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """Move the parameters by one step, in place."""
        self.count += 1
        beta1, beta2 = ADAM_BETAS
        torch._foreach_lerp_(self.first, gradients, 1 - beta1)
        torch._foreach_mul_(self.second, beta2)
        torch._foreach_addcmul_(self.second, gradients, gradients, 1 - beta2)
        scale = torch._foreach_sqrt(self.second)
        torch._foreach_div_(scale, (1 - beta2**self.count) ** 0.5)
        torch._foreach_add_(scale, ADAM_EPSILON)
        decay_all(parameters, self.spec)
        step_size = self.spec.learning_rate / (1 - beta1**self.count)
        torch._foreach_addcdiv_(parameters, self.first, scale, -step_size)


class AdamRows:
    """Adam on one tile of item rows."""

    def __init__(self, spec: LocalSpec, rows: Tensor) -> None:
        self._adam = Adam(spec, [rows])

    def __call__(
        self, rows: Float[Tensor, "client item dim"], gradient: Float[Tensor, "client item dim"]
    ) -> None:
        """Move ``rows`` by one step."""
        self._adam([rows], [gradient])


def shrink_of(spec: LocalSpec) -> float:
    """What a step of decoupled decay leaves of a weight."""
    return 1 - spec.learning_rate * spec.weight_decay


def decay_all(parameters: list[Tensor], spec: LocalSpec) -> None:
    """Let the parameters decay by one step, in place."""
    if spec.weight_decay:
        torch._foreach_mul_(parameters, shrink_of(spec))
