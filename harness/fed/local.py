"""Batched local training: a chunk of clients at once, each on its own copy of the weights."""

from __future__ import annotations

from torch import Tensor

from harness.core.device import ON_CPU, Arithmetic
from harness.core.errors import ScenarioError
from harness.core.item_rows import read_items
from harness.core.local import LocalTask, Trained, TrainedSum
from harness.core.messages import largest
from harness.fed.guard import MAX_ABSOLUTE
from harness.fed.steps import Chunk, adapt, descend, descend_sum, one_shared_step, single, sum_up

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

    def train(self, task: LocalTask) -> Trained:
        """Return each client's deltas: see `LocalTrainer.train`."""
        chunk = self._chunk(task)
        trained = single(*(descend(chunk) if task.spec.optimizer == "sgd" else adapt(chunk)))
        return Trained(_on_cpu(trained.dense), trained.rows.cpu())

    def train_sum(self, task: LocalTask) -> TrainedSum | None:
        """Return their sum: see `LocalTrainer.train_sum`."""
        chunk = self._chunk(task)
        items = read_items(task.row_ids, len(task.table)).to(self._arithmetic.device)
        if task.spec.one_plain_step:
            total = one_shared_step(chunk, items)
        elif task.spec.optimizer == "sgd":
            total = descend_sum(chunk, items)
        else:
            deltas, moved, rest = adapt(chunk)
            summed = {name: delta.sum(0) for name, delta in deltas.items()}
            total = sum_up(items, summed, moved, rest)
        total = TrainedSum(
            _on_cpu(total.dense), total.item_ids.cpu(), total.rows.cpu(), total.senders.cpu()
        )
        # A client that is broken, or beyond the guard's limit, shows in the sum, unless another
        # one beyond the limit cancels it. A comparison with NaN is false.
        sound = largest(total.dense, total.rows) <= MAX_ABSOLUTE
        return total if sound else None

    def _chunk(self, task: LocalTask) -> Chunk:
        if task.spec.optimizer not in OPTIMIZERS:
            allowed = ", ".join(OPTIMIZERS)
            raise ScenarioError(f"optimizer {task.spec.optimizer!r}: allowed are {allowed}")
        device, products = self._arithmetic.device, self._arithmetic.products
        return Chunk(**vars(task), products=products).to(device)


def _on_cpu(dense: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return deltas where all else of a round happens."""
    return {name: delta.cpu() for name, delta in dense.items()}
