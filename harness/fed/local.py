"""Batched local training: a chunk of clients at once, each on its own copy of the weights."""

# The fused list operations of torch are public in use, not in its type stubs.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.core.errors import ScenarioError
from harness.core.local import LocalSpec, StepLoss
from harness.core.messages import PAD

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


class BatchedTrainer:
    """Trains all clients of a chunk at once, exactly as a loop over clients would.

    Parameters get a leading client axis; item rows are kept compact (only those a client's losses
    read), so memory grows with the chunk and not with the catalogue. A row outside a client's
    ``row_ids`` has zero gradient at every step, and Adam leaves such a row where it is, so the
    compact table gives the same numbers as the full one.
    """

    def train(
        self,
        dense: dict[str, Tensor],
        table: Float[Tensor, "item dim"],
        row_ids: Int[Tensor, "client row"],
        loss: StepLoss,
        spec: LocalSpec,
    ) -> tuple[dict[str, Tensor], Float[Tensor, "client row dim"]]:
        """Return each client's dense deltas and item-row deltas after ``spec.steps`` steps.

        Args:
            dense: global dense parameters.
            table: global item table.
            row_ids: item rows each client needs, padded with ``PAD``.
            loss: the local objective, one value a client.
            spec: steps, optimiser, clipping.
        """
        num_clients = len(row_ids)
        names = list(dense)
        start = [dense[n].unsqueeze(0).expand(num_clients, *dense[n].shape) for n in names]
        start.append(table[row_ids.clamp(min=0)] * (row_ids != PAD).unsqueeze(-1))
        current = [p.clone().requires_grad_() for p in start]
        update = _optimizer(spec, current)
        for step in range(spec.steps):
            losses = loss(step, dict(zip(names, current[:-1], strict=True)), current[-1])
            gradients = torch.autograd.grad(losses.sum(), current, materialize_grads=True)
            with torch.no_grad():
                update(current, clip_per_client(list(gradients), spec.clip_norm))
        deltas = [c.detach() - s for c, s in zip(current, start, strict=True)]
        return dict(zip(names, deltas[:-1], strict=True)), deltas[-1]

    def train_summed(
        self,
        dense: dict[str, Tensor],
        table: Float[Tensor, "item dim"],
        row_ids: Int[Tensor, "client row"],
        loss: StepLoss,
        spec: LocalSpec,
    ) -> tuple[dict[str, Tensor], Float[Tensor, "client row dim"]]:
        """Return the dense deltas summed over clients, and each client's item-row deltas.

        One plain gradient step moves every client by its own gradient at the *shared* weights, so
        the sum of the deltas is the gradient of the summed losses: no weights per client.

        Args:
            dense: global dense parameters.
            table: global item table.
            row_ids: item rows each client needs, padded with ``PAD``.
            loss: the local objective, one value a client.
            spec: must be :attr:`LocalSpec.summable`.
        """
        assert spec.summable
        names, real = list(dense), (row_ids != PAD).unsqueeze(-1)
        shared = [dense[n].detach().clone().requires_grad_() for n in names]
        rows = (table[row_ids.clamp(min=0)] * real).requires_grad_()
        losses = loss(0, dict(zip(names, shared, strict=True)), rows)
        gradients = torch.autograd.grad(losses.sum(), [*shared, rows], materialize_grads=True)
        decay = spec.weight_decay
        with torch.no_grad():
            deltas = [
                -spec.learning_rate * (g + len(row_ids) * decay * p)
                for g, p in zip(gradients[:-1], shared, strict=True)
            ]
            moved = -spec.learning_rate * (gradients[-1] + decay * rows.detach())
        return dict(zip(names, deltas, strict=True)), moved


def clip_per_client(gradients: list[Tensor], bound: float) -> list[Tensor]:
    """Scale each client's gradient to ℓ2 norm at most ``bound`` (0: leave it), in place."""
    if bound == 0:
        return gradients
    parts = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]
    norms = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    factor = (bound / (norms + 1e-6)).clamp(max=1.0)
    if bool((factor < 1).any()):
        for gradient in gradients:
            gradient.mul_(factor.reshape(-1, *[1] * (gradient.dim() - 1)))
    return gradients


class _Sgd:
    """Plain gradient descent with decoupled decay."""

    def __init__(self, spec: LocalSpec) -> None:
        self.spec = spec

    def __call__(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        _decay(parameters, self.spec)
        torch._foreach_add_(parameters, gradients, alpha=-self.spec.learning_rate)


class _Adam:
    """Adam (Kingma and Ba, 2015) with decoupled decay; its state starts anew in every round."""

    def __init__(self, spec: LocalSpec, parameters: list[Tensor]) -> None:
        self.spec = spec
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]
        self.count = 0

    def __call__(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        self.count += 1
        beta1, beta2 = ADAM_BETAS
        torch._foreach_lerp_(self.first, gradients, 1 - beta1)
        torch._foreach_mul_(self.second, beta2)
        torch._foreach_addcmul_(self.second, gradients, gradients, 1 - beta2)
        scale = torch._foreach_sqrt(self.second)
        torch._foreach_div_(scale, (1 - beta2**self.count) ** 0.5)
        torch._foreach_add_(scale, ADAM_EPSILON)
        _decay(parameters, self.spec)
        step_size = self.spec.learning_rate / (1 - beta1**self.count)
        torch._foreach_addcdiv_(parameters, self.first, scale, -step_size)


def _decay(parameters: list[Tensor], spec: LocalSpec) -> None:
    if spec.weight_decay:
        torch._foreach_mul_(parameters, 1 - spec.learning_rate * spec.weight_decay)


def _optimizer(spec: LocalSpec, parameters: list[Tensor]) -> _Sgd | _Adam:
    if spec.optimizer == "sgd":
        return _Sgd(spec)
    if spec.optimizer == "adam":
        return _Adam(spec, parameters)
    raise ScenarioError(f"optimizer {spec.optimizer!r}: allowed are adam, sgd")
