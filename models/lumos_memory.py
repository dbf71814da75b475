"""How many clients may train at once without more memory than there is."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import prod

from harness.core.local import LocalSpec
from harness.core.unread_rows import NARROWEST, TILE
from models.backbone import SequenceModel

STATES_PER_LAYER = 30
"""Hidden states that a layer holds a token at most: kept for the backward pass, their gradients,
and the factors of the weights' gradients. Measured for SASRec, the larger of the two encoders."""

COPIES = {"sgd": 2, "adam": 6}
"""Weights a client holds: its own, and its delta; Adam adds two moments, gradient and scratch."""

UPDATE_COPIES = 5
"""Item tables that a whole update holds: itself, what a client stage or the guard makes of it, and
the average's own in double precision."""

CLIENTS, TOKENS = 128, 3300
"""Clients and tokens a chunk: fewer leave a step with more calls than arithmetic, more leave the
caches. Measured for SASRec on one thread and on two."""

SHARED_TOKENS = 12_800
"""Tokens a chunk of clients without weights of their own, however many clients that is."""

TABLE_COPIES = 5
"""Item tables that a chunk's sum holds: its tiles, their join, and the average's in double."""


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


def softmax_bytes(
    model: SequenceModel, tokens: int, spec: LocalSpec, *, summed: bool
) -> tuple[int, int]:
    """Return what a softmax over the whole catalogue takes more: of a chunk, and of each client.

    Args:
        model: encoder and weights.
        tokens: of the packed sequence, history and views.
        spec: steps and optimiser.
        summed: whether only the sum of the updates is made, or each as large as the item table.
    """
    items, dim = model.table.shape
    size, copies = model.table.element_size(), COPIES[spec.optimizer]
    # Of each step h and g·h, and PPᵀ with what its norm takes.
    factors = spec.steps * tokens * (2 * dim + tokens) + 4 * tokens * tokens
    narrowest = NARROWEST * (copies * dim + 3 * tokens)
    # A mark for each item says which rows the client reads by index.
    client = items + size * (factors + narrowest + (0 if summed else UPDATE_COPIES * items * dim))
    return size * ((copies + 1) * TILE + TABLE_COPIES * items * dim), client


def cut(sizes: Sequence[int], most: int, tokens: int) -> list[slice]:
    """Cut a cohort into as few chunks as there must be, as even as they can be.

    Args:
        sizes: tokens of each client, ascending; a chunk is padded to its last one.
        most: clients a chunk.
        tokens: a chunk, padding included; a client beyond it is a chunk of its own.
    """
    chunks = _filled(sizes, most, tokens)
    if len(chunks) < 2:
        return chunks

    def as_few(limit: int, *, of_tokens: bool) -> bool:
        found = _filled(sizes, most, limit) if of_tokens else _filled(sizes, limit, tokens)
        return len(found) == len(chunks)

    # The lowest bounds that still do: processes that share the chunks then finish together.
    tokens = bisect_left(range(tokens), True, key=lambda limit: as_few(limit, of_tokens=True))
    most = bisect_left(range(most), True, 1, key=lambda limit: as_few(limit, of_tokens=False))
    return _filled(sizes, most, tokens)


def _filled(sizes: Sequence[int], most: int, tokens: int) -> list[slice]:
    """Fill one chunk after the other."""
    chunks: list[slice] = []
    start = 0
    while start < len(sizes):
        ends = range(start + 2, min(len(sizes), start + most) + 1)
        more = bisect_right(
            ends, tokens, key=lambda end, first=start: (end - first) * sizes[end - 1]
        )
        stop = start + 1 + more
        chunks.append(slice(start, stop))
        start = stop
    return chunks


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
