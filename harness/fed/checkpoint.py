"""A training on disk by round: an interruption changes no number and costs seconds at most.

Nothing random is kept, because every stream is derived from the seed and the round (see
`harness.core.seeds`). What is kept: the weights, the memories of the
adversary and of the defences, the counters, and the
recorded rounds, each of which is written once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from harness.core.defense import Memory
from harness.core.observe import RoundRecord
from harness.core.system import System
from harness.fed.believing import Believed, believed, identity_of
from harness.fed.guard import GuardRecord
from harness.fed.rereading import under
from harness.fed.training import Training
from harness.store import Damaged, discard, read_tensors, stored, write_tensors

KEPT = 2
"""Rounds on disk: the newest, and one to go back to where that is damaged."""


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
            discard(path)
        self._saved = time.monotonic()

    def _facts(self, now: Progressing) -> dict[str, Any]:
        return {
            "identity": self._identity,
            "next_round": now.next_round,
            "defenses": sorted(now.defenses),
            "memory": {n: v for n, v in now.memory.items() if not isinstance(v, Tensor)},
            "guard": {**asdict(now.guard), "rejected": dict(now.guard.rejected)},
            "sent": now.sent,
            "records": [self._written[record.index] for record in now.records],
        }

    def _write_record(self, record: RoundRecord, weights: dict[str, Tensor]) -> str:
        tensors, kinds = dict[str, Tensor](), dict[str, str]()
        for part, value in (("message", record.message), ("aggregate", record.aggregate)):
            if value is not None:
                kinds[part] = type(value).__name__
                tensors |= {f"{part}.{name}": t for name, t in value.tensors().items()}
        if record.model is not None:
            tensors |= {f"model.{name}": tensor for name, tensor in weights.items()}
        facts = {"index": record.index, "kinds": kinds, "model": record.model is not None}
        return write_tensors(self._folder, f"record-{record.index:06d}", tensors, facts).name

    def restore(self, training: Training, start: Any) -> Progressing:
        """Return the newest round that is whole and can be believed, or the beginning.

        Args:
            training: whose rounds they are.
            start: the state that ``setup`` returned.
        """
        system = training.system
        if system.weights(start) is None:
            return Progressing(start)
        for path in reversed(stored(self._folder, "round-")):
            try:
                tensors, facts = read_tensors(path)
                other = identity_of(path, facts)
                if other != self._identity:
                    self._say(f"{path.name} is not used: {self._difference(other)}")
                    discard(path)
                    continue
                found = believed(path, tensors, facts, training, start)
            except Damaged as error:
                self._say(f"{error}; going back to the round before")
                # Left there, it would pass for the newest round and push new ones out.
                discard(path)
                continue
            self._written = {r.index: n for r, n in zip(found.records, found.files, strict=True)}
            self._say(f"going on after round {found.next_round}")
            return self._progressing(system, start, tensors, found)
        return Progressing(start)

    def _progressing(
        self, system: System, start: Any, tensors: dict[str, Tensor], found: Believed
    ) -> Progressing:
        return Progressing(
            state=system.with_weights(start, under("weights", tensors)),
            next_round=found.next_round,
            memory={**found.memory, **under("memory", tensors)},
            defenses={place: under(f"defense {place}", tensors) for place in found.defenses},
            guard=found.guard,
            sent=found.sent,
            records=found.records,
        )

    def _difference(self, other: dict[str, str]) -> str:
        """Say in words what another training's identity differs in."""
        names = sorted(self._identity.keys() | other.keys())
        return "; ".join(
            f"{name} was {other.get(name)}, is {self._identity.get(name)}"
            for name in names
            if other.get(name) != self._identity.get(name)
        )
