"""Histories of a large population on disk: an Arrow file that is mapped, never read whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from harness.core.errors import DataError

_COLUMN = "items"


class Ragged(Sequence[Int[np.ndarray, " event"]]):
    """Sequences of different lengths in one flat array; an element is a view and costs nothing.

    Args:
        values: all sequences, one behind the other.
        offsets: where each begins, and where the last ends.
    """

    def __init__(
        self, values: Int[np.ndarray, " event"], offsets: Int[np.ndarray, " bound"]
    ) -> None:
        self._values = values
        self._offsets = offsets

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int]]) -> Ragged:
        """Return the sequences held in memory."""
        parts = [np.asarray(sequence, dtype=np.int64) for sequence in sequences]
        offsets = np.cumsum([0, *(len(part) for part in parts)])
        return cls(np.concatenate([np.zeros(0, dtype=np.int64), *parts]), offsets)

    @classmethod
    def opened(cls, path: Path) -> Ragged:
        """Map a file that `write` made.

        Raises:
            DataError: there is no such file, or it holds something else.
        """
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            column = table.column(_COLUMN)
        except (OSError, pa.ArrowException, KeyError) as error:
            raise DataError(f"{path}: no Arrow file with a list column {_COLUMN!r}") from error
        if column.num_chunks > 1 or not pa.types.is_large_list(column.type):
            raise DataError(f"{path}: column {_COLUMN!r} is not one block of lists")
        if not len(column):
            return cls.of([])
        lists = column.chunk(0)
        return cls(
            lists.values.to_numpy(zero_copy_only=True), lists.offsets.to_numpy(zero_copy_only=True)
        )

    def write(self, path: Path) -> None:
        """Write an Arrow file."""
        lists = pa.LargeListArray.from_arrays(
            pa.array(self._offsets, type=pa.int64()), pa.array(self._values, type=pa.int32())
        )
        table = pa.table({_COLUMN: lists})
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Int[np.ndarray, " event"]: ...
    @overload
    def __getitem__(self, index: slice) -> Ragged: ...
    def __getitem__(self, index: int | slice) -> Int[np.ndarray, " event"] | Ragged:
        """Return one sequence, or a run of them."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ValueError("only whole runs of sequences can be cut out")
            return Ragged(self._values, self._offsets[start : max(start, stop) + 1])
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        place = index % len(self)
        return self._values[self._offsets[place] : self._offsets[place + 1]]

    def lengths(self) -> Int[np.ndarray, " sequence"]:
        """Return the length of every sequence."""
        return np.diff(self._offsets)
