"""A training on disk by round: an interruption changes no number and costs seconds at most.

Nothing random is kept, because every stream is derived from the seed and the round (see
`harness.core.seeds`). What is kept: the weights, the memories of the
adversary and of the defences, the counters, and the
recorded rounds, each of which is written once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from harness.core.defense import Memory
from harness.core.errors import RunError
from harness.core.messages import Aggregate, Message, ModelAggregate, ModelUpdate
from harness.core.observe import RoundRecord
from harness.core.system import System
from harness.fed.guard import GuardRecord
from harness.store import Damaged, read_tensors, stored, write_tensors

KEPT = 2
"""Rounds on disk: the newest, and one to go back to where that is damaged."""

_KINDS: dict[str, type[Any]] = {"ModelUpdate": ModelUpdate, "ModelAggregate": ModelAggregate}


@dataclass
class Progressing:
    """A training under way.

    Attributes:
        state: the system's.
        next_round: the round that comes next.
        memory: the adversary's, between rounds.
        defenses: each defence's, between rounds, by its place in the training.
        guard: refused updates.
        sent: mean bytes of a client, by round.
        records: recorded rounds.
    """

    state: Any
    next_round: int = 0
    memory: dict[str, object] = field(default_factory=dict[str, object])
    defenses: dict[int, Memory] = field(default_factory=dict[int, Memory])
    guard: GuardRecord = field(default_factory=GuardRecord)
    sent: list[float] = field(default_factory=list[float])
    records: list[RoundRecord] = field(default_factory=list[RoundRecord])


class Checkpoints:
    """The rounds of one training on disk.

    Args:
        folder: for this training alone.
        identity: what decides the training's numbers; rounds of another one are not taken over.
        say: told where the training goes on, and what was damaged.
        seconds: least time between two rounds that are written.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, str],
        say: Callable[[str], None],
        seconds: float = 2.0,
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._say = say
        self._seconds = seconds
        self._saved = time.monotonic()
        self._waiting: dict[int, tuple[RoundRecord, dict[str, Tensor]]] = {}
        self._written: dict[int, str] = {}  # recorded round -> its file

    def keep(self, system: System, state: Any, record: RoundRecord) -> None:
        """Take a recorded round for the next `save`; ``state`` is the one its clients received."""
        weights = system.weights(state)
        if weights is not None:
            self._waiting[record.index] = (record, weights)

    def save(self, system: System, now: Progressing, *, always: bool = False) -> None:
        """Write the training as it stands after a round; older rounds but one are removed.

        Rounds that follow one another within ``seconds`` are not all written, so that short
        rounds cost no time.
        """
        weights = system.weights(now.state)
        due = always or time.monotonic() - self._saved >= self._seconds
        if weights is None or not due:
            return
        for index, (record, received) in self._waiting.items():
            self._written[index] = self._write_record(record, received)
        self._waiting.clear()
        tensors = {f"weights.{name}": tensor for name, tensor in weights.items()}
        tensors |= {f"memory.{n}": v for n, v in now.memory.items() if isinstance(v, Tensor)}
        for place, memory in now.defenses.items():
            tensors |= {f"defense {place}.{name}": tensor for name, tensor in memory.items()}
        write_tensors(self._folder, f"round-{now.next_round:06d}", tensors, self._facts(now))
        for path in stored(self._folder, "round-")[:-KEPT]:
            path.unlink(missing_ok=True)
        self._saved = time.monotonic()

    def _facts(self, now: Progressing) -> dict[str, Any]:
        return {
            "identity": self._identity,
            "next_round": now.next_round,
            "defenses": sorted(now.defenses),
            "memory": {n: v for n, v in now.memory.items() if not isinstance(v, Tensor)},
            "guard": {
                "received": now.guard.received,
                "rejected": dict(now.guard.rejected),
                "offenders": now.guard.offenders,
                "empty_rounds": now.guard.empty_rounds,
            },
            "sent": now.sent,
            "records": [self._written[record.index] for record in now.records],
        }

    def _write_record(self, record: RoundRecord, weights: dict[str, Tensor]) -> str:
        tensors, kinds = dict[str, Tensor](), dict[str, str]()
        for part, value in (("message", record.message), ("aggregate", record.aggregate)):
            if value is not None:
                kinds[part] = type(value).__name__
                tensors |= _flat(part, value)
        if record.model is not None:
            tensors |= {f"model.{name}": tensor for name, tensor in weights.items()}
        facts = {"index": record.index, "kinds": kinds, "model": record.model is not None}
        return write_tensors(self._folder, f"record-{record.index:06d}", tensors, facts).name

    def restore(self, system: System, start: Any) -> Progressing:
        """Return the newest whole round, or the beginning.

        Args:
            system: whose state it is.
            start: the state that ``setup`` returned.
        """
        if system.weights(start) is None:
            return Progressing(start)
        for path in reversed(stored(self._folder, "round-")):
            try:
                tensors, facts = read_tensors(path)
                if facts["identity"] != self._identity:
                    self._say(f"{path.name} is not used: {self._difference(facts['identity'])}")
                    path.unlink()
                    continue
                now = self._restored(system, start, tensors, facts)
            except Damaged as error:
                self._say(f"{error}; going back to the round before")
                # Left there, it would pass for the newest round and push new ones out.
                path.unlink(missing_ok=True)
                continue
            self._say(f"going on after round {now.next_round}")
            return now
        return Progressing(start)

    def _difference(self, other: dict[str, str]) -> str:
        """Say in words what another training's identity differs in."""
        names = sorted(self._identity.keys() | other.keys())
        return "; ".join(
            f"{name} was {other.get(name)}, is {self._identity.get(name)}"
            for name in names
            if other.get(name) != self._identity.get(name)
        )

    def _restored(
        self, system: System, start: Any, tensors: dict[str, Tensor], facts: dict[str, Any]
    ) -> Progressing:
        guard = facts["guard"]
        records = [self._read_record(system, start, name) for name in facts["records"]]
        self._written = dict(zip((r.index for r in records), facts["records"], strict=True))
        return Progressing(
            state=system.with_weights(start, _under("weights", tensors)),
            next_round=facts["next_round"],
            memory={**facts["memory"], **_under("memory", tensors)},
            defenses={p: _under(f"defense {p}", tensors) for p in facts["defenses"]},
            guard=GuardRecord(
                guard["received"],
                Counter(guard["rejected"]),
                [(int(r), int(c), str(why)) for r, c, why in guard["offenders"]],
                guard["empty_rounds"],
            ),
            sent=facts["sent"],
            records=records,
        )

    def _read_record(self, system: System, start: Any, name: str) -> RoundRecord:
        tensors, facts = read_tensors(self._folder / name)
        parts: dict[str, Any] = {
            part: _rebuilt(_KINDS[kind], _under(part, tensors))
            for part, kind in facts["kinds"].items()
        }
        model = None
        if facts["model"]:
            model = system.handle(system.with_weights(start, _under("model", tensors)))
        return RoundRecord(facts["index"], parts["message"], model, parts.get("aggregate"))


def _flat(part: str, value: Message | Aggregate) -> dict[str, Tensor]:
    """Return a message's or aggregate's tensors by dotted name."""
    if type(value).__name__ not in _KINDS:
        raise RunError(f"a {type(value).__name__} can't be kept in a checkpoint")
    found: dict[str, Tensor] = {}
    for entry in fields(value):  # pyright: ignore[reportArgumentType]
        content = getattr(value, entry.name)
        if isinstance(content, dict):
            found |= {f"{part}.{entry.name}.{key}": tensor for key, tensor in content.items()}
        else:
            found[f"{part}.{entry.name}"] = content
    return found


def _rebuilt(kind: type[Any], tensors: dict[str, Tensor]) -> Any:
    values: dict[str, Any] = {
        entry.name: tensors.get(entry.name, _under(entry.name, tensors)) for entry in fields(kind)
    }
    return kind(**values)


def _under(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = part + "."
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}
