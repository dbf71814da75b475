"""LUMOS's four sequences of a user as one packed sequence.

History and views share prefixes: the future view is the history with items appended, the rephrased
view is the history up to its first substitution. Encoding the shared part once is exact, because
the encoder is causal and positions count from the oldest item; a test compares it with four
separate passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from models.sequences import Layout, causal_mask

VIEWS = ("future", "rephrased", "counterfactual")
HISTORY, FUTURE, REPHRASED, COUNTERFACTUAL = range(4)


@dataclass(frozen=True)
class PackedUser:
    """One user's tokens.

    Attributes:
        ids: items: history, then the tails of the three views.
        positions: position of each token in its own sequence.
        segments: which sequence a token belongs to.
        shared: history items that the rephrased view begins with.
        ends: token index of the last item of history and views (0 where a view is absent).
        present: whether each view exists.
    """

    ids: Int[np.ndarray, " token"]
    positions: Int[np.ndarray, " token"]
    segments: Int[np.ndarray, " token"]
    shared: int
    ends: tuple[int, int, int, int]
    present: tuple[bool, bool, bool]


def pack_user(
    history: Sequence[int] | Int[np.ndarray, " event"],
    future: Sequence[int] | None,
    rephrased: Sequence[int] | None,
    counterfactual: Sequence[int] | None,
) -> PackedUser:
    """Pack one user's sequences.

    Args:
        history: items, already cut to the encoder's length; not empty.
        future: items that follow the history; None or empty if the view is absent.
        rephrased: the history with substitutions, as long as the history; None if absent.
        counterfactual: a sequence of its own; None or empty if absent.
    """
    length, shared = len(history), 0
    if rephrased is not None:
        while shared < length and rephrased[shared] == history[shared]:
            shared += 1
    # A rephrasing equal to the history is no view: its state would be the history's own.
    tail = () if rephrased is None or shared == length else rephrased[shared:]
    parts = [np.asarray(part or (), dtype=np.int64) for part in (future, tail, counterfactual)]
    parts.insert(0, np.asarray(history, dtype=np.int64))
    lengths = [len(part) for part in parts]
    stops = np.cumsum(lengths).tolist()
    present = (lengths[FUTURE] > 0, lengths[REPHRASED] > 0, lengths[COUNTERFACTUAL] > 0)
    # A view's first token stands where its own sequence has got to.
    offsets = np.array([0, length, shared, 0]) - np.array([0, *stops[:-1]])
    segments = np.repeat(np.arange(4), lengths)
    return PackedUser(
        ids=np.concatenate(parts),
        positions=np.arange(stops[-1]) + offsets[segments],
        segments=segments,
        shared=shared,
        ends=(
            length - 1,
            stops[FUTURE] - 1 if present[0] else 0,
            stops[REPHRASED] - 1 if present[1] else 0,
            stops[COUNTERFACTUAL] - 1 if present[2] else 0,
        ),
        present=present,
    )


@dataclass(frozen=True)
class PackedBatch:
    """A chunk of packed users.

    Attributes:
        layout: token ids are catalogue item ids.
        ends: last token of history and views.
        present: which views exist.
        lengths: history items of each user (they are the first tokens).
        in_history: tokens of the history itself.
    """

    layout: Layout
    ends: Int[Tensor, "user 4"]
    present: Bool[Tensor, "user 3"]
    lengths: Int[Tensor, " user"]
    in_history: Bool[Tensor, "user token"]

    def to(self, device: str) -> PackedBatch:
        """Return the batch on ``device``."""
        tensors = (self.ends, self.present, self.lengths, self.in_history)
        return PackedBatch(self.layout.to(device), *(tensor.to(device) for tensor in tensors))


def collate(users: Sequence[PackedUser]) -> PackedBatch:
    """Pad packed users to one width and build their attention masks."""
    width = max(len(u.ids) for u in users)

    def padded(rows: list[Int[np.ndarray, " token"]], fill: int) -> Int[Tensor, "user token"]:
        out = np.full((len(rows), width), fill, dtype=np.int64)
        for row, values in enumerate(rows):
            out[row, : len(values)] = values
        return torch.from_numpy(out)

    segments = padded([u.segments for u in users], -1)
    positions = padded([u.positions for u in users], 0)
    shared = torch.tensor([u.shared for u in users])
    lengths = torch.tensor([u.ends[0] + 1 for u in users])
    ids = padded([u.ids for u in users], -1)
    layout = Layout(
        # Padding repeats the user's first item, so that it adds no row to what the client sends.
        ids=torch.where(ids < 0, ids[:, :1], ids),
        positions=positions,
        mask=_mask(segments, positions, shared),
        parent=_parent(segments, positions, shared, lengths),
    )
    return PackedBatch(
        layout=layout,
        ends=torch.tensor([u.ends for u in users]),
        present=torch.tensor([u.present for u in users]),
        lengths=lengths,
        in_history=segments == HISTORY,
    )


def collate_histories(
    histories: Sequence[Int[np.ndarray, " event"]], max_length: int
) -> PackedBatch:
    """Do as `collate` for users without views, all at once.

    Args:
        histories: items, oldest first, at least one each.
        max_length: most recent items kept.
    """
    kept = [history[-max_length:] for history in histories]
    lengths = torch.from_numpy(np.fromiter(map(len, kept), np.int64, len(kept)))
    steps = torch.arange(int(lengths.max()))
    real = steps < lengths.unsqueeze(1)
    ids = torch.from_numpy(np.concatenate(kept).astype(np.int64))
    # Padding repeats the user's first item, so that it adds no row to what the client sends.
    starts = lengths.cumsum(0) - lengths
    index = (starts.unsqueeze(1) + steps).where(real, starts.unsqueeze(1))
    positions = steps.expand_as(real).where(real, torch.tensor(0))
    layout = Layout(
        ids=ids[index],
        positions=positions,
        mask=causal_mask(len(steps)),
        parent=(steps - 1).expand_as(real).where(positions > 0, torch.tensor(-1)),
    )
    absent = torch.zeros(len(kept), 3, dtype=torch.bool)
    ends = torch.zeros(len(kept), 4, dtype=torch.int64)
    ends[:, HISTORY] = lengths - 1
    return PackedBatch(layout, ends, absent, lengths, real)


def _mask(segments: Tensor, positions: Tensor, shared: Tensor) -> Bool[Tensor, "user token token"]:
    query, key = segments.unsqueeze(2), segments.unsqueeze(1)
    key_position = positions.unsqueeze(1)
    trunk = key == HISTORY
    same_sequence = (
        (query == key)
        | ((query == FUTURE) & trunk)
        | ((query == REPHRASED) & trunk & (key_position < shared.reshape(-1, 1, 1)))
    )
    mask = same_sequence & (key_position <= positions.unsqueeze(2))
    # Padding tokens look at themselves, so that no softmax row is empty.
    return mask | torch.eye(segments.shape[1], dtype=torch.bool)


def _parent(
    segments: Tensor, positions: Tensor, shared: Tensor, lengths: Tensor
) -> Int[Tensor, "user token"]:
    before = torch.arange(segments.shape[1]).expand_as(segments) - 1
    first = torch.ones_like(segments, dtype=torch.bool)
    first[:, 1:] = segments[:, 1:] != segments[:, :-1]
    branch = torch.where(segments == FUTURE, lengths.unsqueeze(1) - 1, before)
    branch = torch.where(segments == REPHRASED, shared.unsqueeze(1) - 1, branch)
    branch = torch.where(segments == COUNTERFACTUAL, -1, branch)
    return torch.where(first, branch, before).where(positions > 0, torch.tensor(-1))
