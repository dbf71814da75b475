"""Batched local training: a chunk of clients at once, each on its own copy of the weights."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float, Int
from torch import Tensor

from harness.core.device import ON_CPU, Arithmetic
from harness.core.errors import ScenarioError
from harness.core.local import LocalSpec, StepLoss, Trained
from harness.fed.guard import MAX_ABSOLUTE
from harness.fed.steps import Chunk, adapt, descend, one_shared_step, single, sum_up

OPTIMIZERS = ("adam", "sgd")


class BatchedTrainer:
    """Trains all clients of a chunk at once, exactly as a loop over clients would.

    Parameters get a leading client axis; item rows are kept compact (only those a client's losses
    read), so memory grows with the chunk and not with the catalogue. A row outside a client's
    ``row_ids`` has zero gradient at every step, and Adam leaves such a row where it is, so the
    compact table gives the same numbers as the full one. Where a loss reads every row, the others
    are `UnreadRows`: only updates that somebody has to see one by one are as large as the table.

    Args:
        arithmetic: where chunks are computed, and in which number format; what comes in and what
            goes out is on the CPU.
    """

    def __init__(self, arithmetic: Arithmetic = ON_CPU) -> None:
        self._arithmetic = arithmetic

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
        device, products = self._arithmetic.device, self._arithmetic.products
        chunk = Chunk(dense, table, row_ids, loss, spec, products).to(device)
        if summed and spec.one_plain_step:
            trained = _on_cpu(one_shared_step(chunk))
            if _acceptable(trained):
                return trained
        deltas, moved, rest = descend(chunk) if spec.optimizer == "sgd" else adapt(chunk)
        if summed:
            total = {name: delta.sum(0) for name, delta in deltas.items()}
            trained = _on_cpu(sum_up(total, moved, rest))
            if _acceptable(trained):
                return trained
            if rest is not None:
                return replace(trained, sound=False)
        return _on_cpu(single(deltas, moved, rest))


def _on_cpu(trained: Trained) -> Trained:
    """Return the result where all else of a round happens."""
    table = None if trained.table is None else trained.table.cpu()
    dense = {name: delta.cpu() for name, delta in trained.dense.items()}
    return replace(trained, dense=dense, rows=trained.rows.cpu(), table=table)


def _acceptable(trained: Trained) -> bool:
    """Whether the guard would take each of a sum's tensors from a single client.

    A client that is broken, or beyond the guard's limit, shows in the sum, unless another one
    beyond the limit cancels it.
    """
    items = trained.rows if trained.table is None else trained.table
    # A comparison with NaN is false.
    return all(bool(d.abs().max() <= MAX_ABSOLUTE) for d in (*trained.dense.values(), items))
