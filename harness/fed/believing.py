"""What a checkpoint must say to be believed: a right hash makes it whole, not sane.

A file may come from a mistaken program or hand and still carry the hash of its content. Everything
that can be held against the training is: the round against its name and the training's length,
weights against the model (names, shapes, number formats, finite), records against the announced
form and the rounds that were wanted, counters against one another. What can't be: other finite
weights of the same shapes, and what an attack remembers. The hash is no signature.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field
from torch import Tensor

from harness.core.observe import RoundRecord
from harness.core.params import Params
from harness.fed.guard import OFFENDERS, GuardRecord
from harness.fed.rereading import Count, check_weights, parsed, read_record, under
from harness.fed.training import Training
from harness.store import Damaged

RecordFile = Annotated[str, Field(pattern=r"^record-\d{6}-[0-9a-f]{16}\.safetensors$")]


class GuardFacts(Params):
    """`GuardRecord` in JSON's types."""

    received: Count
    rejected: dict[str, Annotated[int, Field(ge=1)]]
    offenders: tuple[tuple[Count, int, str], ...]
    empty_rounds: Count
    refused_rounds: Count


class RoundFacts(Params):
    """What stands beside the tensors of a round."""

    identity: dict[str, str]
    next_round: Annotated[int, Field(ge=1)]
    defenses: tuple[Count, ...]
    memory: dict[str, Any]
    guard: GuardFacts
    sent: tuple[Annotated[float, Field(ge=0)], ...]
    records: tuple[RecordFile, ...]


@dataclass(frozen=True)
class Believed:
    """A checkpoint that passed, tensors left out.

    Attributes:
        next_round: the round that comes next.
        defenses: places of the defences that remember something.
        memory: what the adversary remembers besides tensors.
        guard: counters.
        sent: mean bytes of a client, by round.
        records: recorded rounds.
        files: their files.
    """

    next_round: int
    defenses: tuple[int, ...]
    memory: dict[str, object]
    guard: GuardRecord
    sent: list[float]
    records: list[RoundRecord]
    files: list[str]


def identity_of(path: Path, facts: Mapping[str, Any]) -> dict[str, str]:
    """Return which training a checkpoint says it is of.

    Raises:
        Damaged: it does not say.
    """
    if not isinstance(facts.get("identity"), dict):
        raise Damaged(f"{path}: it does not say which training it is of")
    identity = cast("dict[str, Any]", facts["identity"])
    return {name: str(value) for name, value in identity.items()}


def believed(
    path: Path, tensors: dict[str, Tensor], facts: dict[str, Any], training: Training, start: Any
) -> Believed:
    """Return a checkpoint's content if all of it fits the training.

    Args:
        path: the file, whose name tells the round; records lie beside it.
        tensors: read from it.
        facts: read from it.
        training: what it must fit.
        start: the state that ``setup`` returned.

    Raises:
        Damaged: something does not fit.
    """
    said: RoundFacts = parsed(RoundFacts, path, facts)
    if not path.name.startswith(f"round-{said.next_round:06d}-"):
        raise Damaged(f"{path}: it is of round {said.next_round}, its name says another")
    last = training.system.num_rounds()
    if said.next_round > last:
        raise Damaged(f"{path}: round {said.next_round} of a training of {last}")
    _check_memories(path, tensors, said, training)
    check_weights(path, under("weights", tensors), training, start)
    guard = _guard(path, said)
    records = [read_record(path.parent / name, training, start) for name in said.records]
    _check_records(path, [record.index for record in records], said, training)
    return Believed(
        next_round=said.next_round,
        defenses=said.defenses,
        memory=dict(said.memory),
        guard=guard,
        sent=list(said.sent),
        records=records,
        files=list(said.records),
    )


def _check_memories(
    path: Path, tensors: Mapping[str, Tensor], said: RoundFacts, training: Training
) -> None:
    """Raise unless what is remembered belongs to somebody; a defence's numbers must be finite."""
    if any(place >= len(training.defenses) for place in said.defenses):
        raise Damaged(f"{path}: defences {said.defenses} of {len(training.defenses)} remember")
    parts = ("weights.", "memory.", *(f"defense {place}." for place in said.defenses))
    for name, tensor in tensors.items():
        if not name.startswith(parts):
            raise Damaged(f"{path}: {name} is not known")
        if name.startswith("defense ") and not bool(tensor.isfinite().all()):
            raise Damaged(f"{path}: {name} is not finite")


def _guard(path: Path, said: RoundFacts) -> GuardRecord:
    """Return the counters, if they agree with one another."""
    facts, refused = said.guard, sum(said.guard.rejected.values())
    sane = (
        refused <= facts.received
        and len(facts.offenders) == min(OFFENDERS, refused)
        and all(index < said.next_round for index, _, _ in facts.offenders)
        and facts.refused_rounds <= facts.empty_rounds <= said.next_round
        and len(said.sent) == said.next_round
    )
    if not sane:
        raise Damaged(f"{path}: its counters do not agree with one another")
    return GuardRecord(
        facts.received,
        Counter(facts.rejected),
        list(facts.offenders),
        facts.empty_rounds,
        facts.refused_rounds,
    )


def _check_records(path: Path, indices: list[int], said: RoundFacts, training: Training) -> None:
    """Raise unless the rounds on record are those that were wanted, empty ones left out."""
    wanted = [index for index in range(said.next_round) if training.recorder.wants(index)]
    missing = len(wanted) - len(indices)
    rising = all(before < after for before, after in pairwise(indices))
    if not rising or not set(indices) <= set(wanted) or missing > said.guard.empty_rounds:
        raise Damaged(f"{path}: rounds {indices} are on record, {wanted} were to be")
