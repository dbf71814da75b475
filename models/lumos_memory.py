"""How many clients may train at once without more memory than there is."""

from __future__ import annotations

from math import prod

from harness.core.local import LocalSpec
from models.backbone import SequenceModel

STATES_PER_LAYER = 30
"""Hidden states that a layer holds a token at most: kept for the backward pass, their gradients,
and the factors of the weights' gradients. Measured for SASRec, the larger of the two encoders."""

COPIES = {"sgd": 2, "adam": 6}
"""Weights a client holds: its own, and its delta; Adam adds two moments, gradient and scratch."""


def client_bytes(model: SequenceModel, tokens: int, num_layers: int, spec: LocalSpec) -> int:
    """Return the bytes that one client of a chunk takes during local training, rounded up.

    Args:
        model: encoder and weights.
        tokens: of the packed sequence, history and views.
        num_layers: blocks or stacked cells.
        spec: steps and optimiser.
    """
    dim, size = model.table.shape[1], model.table.element_size()
    weights = sum(prod(parameter.shape) for parameter in model.dense.values())
    # A client reads its tokens, and one negative a position and step.
    rows = tokens * (1 + spec.steps) * dim
    states = STATES_PER_LAYER * (num_layers + 1) * tokens * dim
    masks = 2 * tokens * tokens
    return size * (COPIES[spec.optimizer] * (weights + rows) + states + masks)


def chunk_size(wanted: int, available: float | None, bytes_per_client: int) -> int:
    """Return the number of clients to train at once: ``wanted``, or what fits, at least one.

    Args:
        wanted: what the scenario says.
        available: bytes that a training may take; None for no bound.
        bytes_per_client: of the largest client.
    """
    if available is None:
        return wanted
    return max(1, min(wanted, int(available // bytes_per_client)))
