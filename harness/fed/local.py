"""Batched local training: a chunk of clients at once, each on its own copy of the weights."""

# The fused list operations of torch are public in use, not in its type stubs.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.core.client_weight import ClientWeight
from harness.core.errors import ScenarioError
from harness.core.local import LocalSpec, StepLoss, Trained
from harness.core.messages import PAD
from harness.core.unread_rows import UnreadRows
from harness.fed.guard import MAX_ABSOLUTE

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8
OPTIMIZERS = ("adam", "sgd")


class BatchedTrainer:
    """Trains all clients of a chunk at once, exactly as a loop over clients would.

    Parameters get a leading client axis; item rows are kept compact (only those a client's losses
    read), so memory grows with the chunk and not with the catalogue. A row outside a client's
    ``row_ids`` has zero gradient at every step, and Adam leaves such a row where it is, so the
    compact table gives the same numbers as the full one. Where a loss reads every row, the others
    are `UnreadRows`: only updates that somebody has to see one by one are as large as the table.
    """

    def train(
        self,
        dense: dict[str, Tensor],
        table: Float[Tensor, "item dim"],
        row_ids: Int[Tensor, "client row"],
        loss: StepLoss,
        spec: LocalSpec,
        *,
        summed: bool = False,
    ) -> Trained:
        """Return each client's deltas: see `LocalTrainer.train`."""
        if spec.optimizer not in OPTIMIZERS:
            allowed = ", ".join(OPTIMIZERS)
            raise ScenarioError(f"optimizer {spec.optimizer!r}: allowed are {allowed}")
        rows = table[row_ids.clamp(min=0)] * (row_ids != PAD).unsqueeze(-1)
        if summed and spec.steps == 1 and spec.optimizer == "sgd" and spec.clip_norm == 0:
            rest = _unread(table, row_ids, loss, spec)
            trained = _one_shared_step(dense, rows, rest, loss, spec)
            if _acceptable(trained):
                return trained
        rest = _unread(table, row_ids, loss, spec)
        optimise = _descend if spec.optimizer == "sgd" else _adapt
        deltas, moved = optimise(dense, rows, rest, loss, spec)
        if summed:
            total = _sum({name: delta.sum(0) for name, delta in deltas.items()}, moved, rest)
            if _acceptable(total):
                return total
            if rest is not None:
                return replace(total, sound=False)
        with torch.no_grad():
            return Trained(deltas, moved if rest is None else rest.deltas(moved), summed=False)


def _unread(
    table: Float[Tensor, "item dim"],
    row_ids: Int[Tensor, "client row"],
    loss: StepLoss,
    spec: LocalSpec,
) -> UnreadRows | None:
    """Return the item rows outside the compact tables, if the loss reads them."""
    if not loss.every_row:
        return None
    return UnreadRows(
        table,
        row_ids,
        shrink=_shrink(spec),
        rule=None if spec.optimizer == "sgd" else lambda rows: _AdamRows(spec, rows),
        norms=spec.clip_norm > 0,
    )


@torch.no_grad()
def _sum(
    dense: dict[str, Tensor], moved: Float[Tensor, "client row dim"], rest: UnreadRows | None
) -> Trained:
    """Return summed dense deltas with the rows' own, or with the whole table's sum."""
    if rest is None:
        return Trained(dense, moved, summed=True)
    return Trained(dense, moved[:, :0], summed=True, table=rest.summed_deltas(moved))


def _acceptable(trained: Trained) -> bool:
    """Whether the guard would take each of a sum's tensors from a single client.

    A client that is broken, or beyond the guard's limit, shows in the sum, unless another one
    beyond the limit cancels it.
    """
    items = trained.rows if trained.table is None else trained.table
    # A comparison with NaN is false.
    return all(bool(d.abs().max() <= MAX_ABSOLUTE) for d in (*trained.dense.values(), items))


def _one_shared_step(
    dense: dict[str, Tensor],
    rows: Float[Tensor, "client row dim"],
    rest: UnreadRows | None,
    loss: StepLoss,
    spec: LocalSpec,
) -> Trained:
    """One plain gradient step, the dense deltas summed.

    It moves every client by its own gradient at the *shared* weights, so the sum of the deltas is
    the gradient of the summed losses: no weights per client.
    """
    anchor = rows.new_zeros((), requires_grad=True)
    shared = {name: p.detach().clone().requires_grad_() for name, p in dense.items()}
    own = ClientWeight(rows, len(rows), anchor)
    descents = _descents(loss(0, dict(shared), own, rest), anchor, shared, spec)
    decay = len(rows) * spec.learning_rate * spec.weight_decay
    for weight in (own,) if rest is None else (own, rest):
        weight.step(_shrink(spec))
    deltas = {name: d - decay * dense[name] if decay else d for name, d in descents.items()}
    return _sum(deltas, own.deltas(), rest)


def _descend(
    dense: dict[str, Tensor],
    rows: Float[Tensor, "client row dim"],
    rest: UnreadRows | None,
    loss: StepLoss,
    spec: LocalSpec,
) -> tuple[dict[str, Tensor], Float[Tensor, "client row dim"]]:
    """Plain gradient descent with clipping and decoupled decay; return the deltas."""
    anchor, clients = rows.new_zeros((), requires_grad=True), len(rows)
    factored = {n: ClientWeight(p, clients, anchor) for n, p in dense.items() if n in loss.factored}
    own = ClientWeight(rows, clients, anchor)
    plain = {
        name: parameter.expand(clients, *parameter.shape).clone().requires_grad_()
        for name, parameter in dense.items()
        if name not in factored
    }
    weights = [*factored.values(), own, *([] if rest is None else [rest])]
    for step in range(spec.steps):
        descents = _descents(loss(step, {**factored, **plain}, own, rest), anchor, plain, spec)
        with torch.no_grad():
            if spec.clip_norm:
                _clip(weights, descents, spec)
            for weight in weights:
                weight.step(_shrink(spec))
            _decay(list(plain.values()), spec)
            torch._foreach_add_(list(plain.values()), list(descents.values()))
    with torch.no_grad():
        deltas = {name: weight.deltas() for name, weight in factored.items()}
        deltas |= {name: parameter - dense[name] for name, parameter in plain.items()}
    return {name: deltas[name] for name in dense}, own.deltas()


def _adapt(
    dense: dict[str, Tensor],
    rows: Float[Tensor, "client row dim"],
    rest: UnreadRows | None,
    loss: StepLoss,
    spec: LocalSpec,
) -> tuple[dict[str, Tensor], Float[Tensor, "client row dim"]]:
    """Adam with clipping and decoupled decay; return the deltas. It needs gradients in full."""
    start = [*(p.expand(len(rows), *p.shape) for p in dense.values()), rows]
    current = [p.clone().requires_grad_() for p in start]
    update = _Adam(spec, current)
    for step in range(spec.steps):
        losses = loss(step, dict(zip(dense, current[:-1], strict=True)), current[-1], rest)
        gradients = torch.autograd.grad(losses.sum(), current, materialize_grads=True)
        with torch.no_grad():
            update(current, clip_per_client(list(gradients), spec.clip_norm, rest))
            if rest is not None:
                rest.step(_shrink(spec))
    deltas = [c.detach() - s for c, s in zip(current, start, strict=True)]
    return dict(zip(dense, deltas[:-1], strict=True)), deltas[-1]


def _descents(
    losses: Float[Tensor, " client"], anchor: Tensor, plain: dict[str, Tensor], spec: LocalSpec
) -> dict[str, Tensor]:
    """Return −η times the gradients of ``plain``; those of factored weights arrive there.

    With −η at the losses every gradient comes out as the step to take, and no pass over the
    weights is needed to scale it.
    """
    found = torch.autograd.grad(
        losses,
        [anchor, *plain.values()],
        grad_outputs=torch.full_like(losses, -spec.learning_rate),
        materialize_grads=True,
    )
    return dict(zip(plain, found[1:], strict=True))


def _clip(
    weights: list[ClientWeight | UnreadRows], descents: dict[str, Tensor], spec: LocalSpec
) -> None:
    """Scale each client's gradient, factored and plain, to ℓ2 norm at most ``spec.clip_norm``."""
    squares = [weight.squared_norms() for weight in weights]
    squares += [descent.flatten(1).square().sum(1) for descent in descents.values()]
    norms = torch.stack(squares).sum(0).sqrt() / spec.learning_rate
    factor = _clip_factors(norms, spec.clip_norm)
    if bool((factor < 1).any()):
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
    if bool((factor < 1).any()):
        _scale(gradients, factor)
        if rest is not None:
            rest.scale(factor)
    return gradients


def _clip_factors(norms: Float[Tensor, " client"], bound: float) -> Float[Tensor, " client"]:
    return (bound / (norms + 1e-6)).clamp(max=1.0)


def _scale(gradients: list[Tensor], factor: Float[Tensor, " client"]) -> None:
    for gradient in gradients:
        gradient.mul_(factor.reshape(-1, *[1] * (gradient.dim() - 1)))


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


class _AdamRows:
    """Adam on one tile of item rows."""

    def __init__(self, spec: LocalSpec, rows: Tensor) -> None:
        self._adam = _Adam(spec, [rows])

    def __call__(
        self, rows: Float[Tensor, "client item dim"], gradient: Float[Tensor, "client item dim"]
    ) -> None:
        """Move ``rows`` by one step."""
        self._adam([rows], [gradient])


def _shrink(spec: LocalSpec) -> float:
    """What a step of decoupled decay leaves of a weight."""
    return 1 - spec.learning_rate * spec.weight_decay


def _decay(parameters: list[Tensor], spec: LocalSpec) -> None:
    if spec.weight_decay:
        torch._foreach_mul_(parameters, _shrink(spec))
