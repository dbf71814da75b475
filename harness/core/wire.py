"""What all messages share: named tensors, who sent each row, and the form that is announced.

A kind of message is a frozen dataclass of tensors (or dictionaries of tensors) whose leading axis
is its rows. It names its senders, and everything on a message's way (guard, adversary, recorder,
checkpoint) works on that: no room besides `harness.core.messages` knows the kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.core.errors import RunError


class Parts:
    """A frozen dataclass of tensors and of dictionaries of tensors."""

    def contents(self) -> Iterator[tuple[str, Any]]:
        """Yield whatever stands in the fields, a dictionary's entries under dotted names."""
        for entry in fields(self):  # pyright: ignore[reportArgumentType]
            content: Any = getattr(self, entry.name)
            if isinstance(content, Mapping):
                for key, value in content.items():
                    yield f"{entry.name}.{key}", value
            else:
                yield entry.name, content

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by dotted name.

        Raises:
            RunError: something else stands in a field.
        """
        found = dict(self.contents())
        for name, content in found.items():
            if not isinstance(content, Tensor):
                kind = type(self).__name__
                raise RunError(f"{kind}.{name} is a {type(content).__name__}, not a tensor")
        return found

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Return what `tensors` gave.

        Raises:
            KeyError: a field's tensor is missing.
        """
        values: dict[str, Any] = {}
        for entry in fields(cls):  # pyright: ignore[reportArgumentType]
            if str(entry.type).startswith(("dict", "Mapping")):
                start = entry.name + "."
                values[entry.name] = {
                    n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)
                }
            else:
                values[entry.name] = tensors[entry.name]
        return cls(**values)

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the same with every tensor changed."""
        return self.of_tensors({name: change(tensor) for name, tensor in self.tensors().items()})


class Aggregate(Parts):
    """What the server makes of a round's messages."""

    def misfit(self, form: Form | None) -> str:
        """Return why this is no aggregate of messages of this form; empty if it may be one."""
        del form
        for name, tensor in self.tensors().items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                return f"{name} is not finite"
        return ""


class Message(Parts):
    """Anything that clients send to the server, with a row or several for each client.

    Attributes:
        many_rows: a client sends several rows (else a row is a client's whole update).
        sums: the kind whose rows are summed in this one; None where each row has a sender.
        ragged: tensors whose first axis after the rows may have any length, with the value that
            pads it.
    """

    many_rows: ClassVar[bool] = False
    sums: ClassVar[type[Message] | None] = None
    ragged: ClassVar[Mapping[str, float]] = {}

    @property
    def sent_by(self) -> Int[Tensor, " row"]:
        """Client of each row: the field ``clients``, unless a kind says otherwise."""
        clients: Any = getattr(self, "clients", ...)
        if clients is ...:
            raise TypeError(f"{type(self).__name__} must say who sent each row: define sent_by")
        return clients

    def __len__(self) -> int:
        return len(self.sent_by)

    def select(self, keep: Bool[Tensor, " row"] | Int[Tensor, " kept"]) -> Self:
        """Return the rows where ``keep`` is true, or those at its places."""
        return self.map(lambda tensor: tensor[keep])

    def ordered(self, order: Int[Tensor, " row"]) -> Self:
        """Return the message whose row at place ``i`` now stands at ``order[i]``."""
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        return self.select(back)

    def put(self, rows: Bool[Tensor, " row"], other: Self) -> Self:
        """Return this message with some rows taken from ``other``, which has the same form."""
        theirs = other.tensors()
        mixed: dict[str, Tensor] = {}
        for name, tensor in self.tensors().items():
            mixed[name] = tensor.clone()
            mixed[name][rows] = theirs[name][rows]
        return self.of_tensors(mixed)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Return one message of the rows of several, in their order; at least one."""
        if len(parts) == 1:
            return parts[0]
        each = [part.tensors() for part in parts]
        try:
            return cls.of_tensors(
                {
                    name: torch.cat(cls._padded(name, [one[name] for one in each]))
                    for name in each[0]
                }
            )
        except (KeyError, RuntimeError) as error:
            raise RunError(f"the chunks of a {cls.__name__} can't be joined: {error}") from error

    @classmethod
    def _padded(cls, name: str, tensors: list[Tensor]) -> list[Tensor]:
        if name not in cls.ragged:
            return tensors
        width = max(tensor.shape[1] for tensor in tensors)
        # F.pad counts from the last axis.
        return [
            F.pad(t, (*[0] * 2 * (t.dim() - 2), 0, width - t.shape[1]), value=cls.ragged[name])
            for t in tensors
        ]

    def values(self) -> list[Tensor]:
        """Return the tensors of numbers, not of ids and counts."""
        return [tensor for tensor in self.tensors().values() if tensor.is_floating_point()]

    def peaks(self) -> Float[Tensor, " row"]:
        """Return each row's largest absolute value, NaN where there is one."""
        held = [t for t in self.values() if t[:1].numel()]
        if not held or not len(self):
            return torch.zeros(len(self))
        # The maximum carries NaN and infinity on, so one pass finds both.
        return torch.stack([flat(t).abs().amax(1) for t in held]).amax(0)

    def norms(self) -> Float[Tensor, " row"]:
        """Return each row's ℓ2 norm over all numbers, in float64; 1e200 does not overflow."""
        values = self.values()
        scale = torch.ones(len(self), dtype=torch.float64)
        # The squares of float32 fit into float64.
        large = any(value.dtype == torch.float64 for value in values)
        if large:
            peaks = self.peaks().double()
            scale = torch.where(peaks.isfinite() & (peaks > 0), peaks, scale)
        total = torch.zeros(len(self), dtype=torch.float64)
        for value in values:
            numbers = flat(value.double())
            total = total + (numbers / scale[:, None] if large else numbers).square().sum(1)
        return total.sqrt() * scale

    def bytes_per_client(self) -> float:
        """Return the mean bytes that a client sends."""
        sent = sum(t.numel() * t.element_size() for t in self.tensors().values())
        return sent / max(1, len(self.sent_by.unique()))

    def misfit(self, form: Form | None) -> str:
        """Return why this is no message of the announced form; empty if it is one.

        What makes single rows refusable is not looked at: see `faults`.
        """
        for name, content in self.contents():
            if not isinstance(content, Tensor):
                return f"{name} is no tensor"
            if content.layout != torch.strided or content.is_meta or content.is_complex():
                return f"{name} is sparse, complex or without numbers"
            if content.dim() == 0:
                return f"{name} has no rows"
        senders: Any = self.sent_by
        if not isinstance(senders, Tensor) or senders.dtype != torch.int64 or senders.dim() != 1:
            return "who sent it is not said by whole numbers"
        found = self.tensors()
        for name, tensor in found.items():
            if len(tensor) != len(senders):
                return f"{name} has {len(tensor)} rows for {len(senders)} senders"
        return "" if form is None else form.misfit(self, found)

    def faults(self, form: Form | None) -> list[tuple[str, Bool[Tensor, " row"]]]:
        """Return reasons to refuse single rows, with the rows; the message fits the form.

        Numbers are checked by the guard, for every kind alike.
        """
        if form is None:
            return []
        tensors, found = self.tensors(), list[tuple[str, Tensor]]()
        for name, top in form.below.items():
            ids = flat(tensors[name])
            if ids.numel():
                lowest = int(self.ragged.get(name, 0))
                found.append((f"{name} out of range", (ids < lowest).any(1) | (ids >= top).any(1)))
        if form.rows is not None:
            clients, counts = self.sent_by.unique(return_counts=True)
            pairs = zip(clients.tolist(), counts.tolist(), strict=True)
            wrong = [client for client, count in pairs if form.rows.get(client) != count]
            bad = torch.isin(self.sent_by, torch.tensor(wrong, dtype=torch.int64))
            found.append(("other number of rows", bad))
        return found


@dataclass(frozen=True)
class Form:
    """What a message must look like, as the server announced it with the round.

    Attributes:
        kind: kind of the message.
        dtypes: number format of each tensor, by dotted name.
        shapes: sizes after the leading axis; None where any will do.
        below: for tensors of ids, the number that all ids are below.
        rows: for kinds where a client sends several, how many each client sends.
    """

    kind: type[Message]
    dtypes: Mapping[str, torch.dtype]
    shapes: Mapping[str, tuple[int | None, ...]]
    below: Mapping[str, int] = field(default_factory=dict[str, int])
    rows: Mapping[int, int] | None = None

    @classmethod
    def like(
        cls,
        message: Message,
        below: Mapping[str, int] | None = None,
        rows: Mapping[int, int] | None = None,
    ) -> Form:
        """Return the form of a message, which may be of nobody."""
        tensors = message.tensors()
        shapes: dict[str, tuple[int | None, ...]] = {}
        for name, tensor in tensors.items():
            free = 1 if name in message.ragged else 0
            shapes[name] = (*[None] * free, *tensor.shape[1 + free :])
        dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
        return cls(type(message), dtypes, shapes, below or {}, rows)

    def misfit(self, message: Message, tensors: Mapping[str, Tensor]) -> str:
        """Return in what a message differs from this form; empty if in nothing."""
        if not isinstance(message, self.kind):
            return f"a {type(message).__name__} where a {self.kind.__name__} was announced"
        for name in sorted(self.shapes.keys() | tensors.keys()):
            if name not in tensors:
                return f"{name} is missing"
            if name not in self.shapes:
                return f"{name} was not announced"
            if said := self.difference(name, tensors[name].dtype, tuple(tensors[name].shape[1:])):
                return said
        return ""

    def difference(self, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> str:
        """Return in what a tensor of this number format and shape differs from the announced."""
        wanted = self.shapes[name]
        if dtype != self.dtypes[name]:
            return f"{name} is {_word(dtype)}, not {_word(self.dtypes[name])}"
        same = len(shape) == len(wanted)
        if not same or any(w is not None and s != w for s, w in zip(shape, wanted, strict=True)):
            return f"{name} has shape {_size(shape)}, not {_size(wanted)}"
        return ""


def flat(tensor: Tensor) -> Float[Tensor, "row number"]:
    """Return a tensor with all axes but the leading one made one."""
    return tensor.unsqueeze(1).flatten(1)


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _size(shape: Sequence[int | None]) -> str:
    return "×".join("any" if size is None else str(size) for size in shape) or "of a single number"
