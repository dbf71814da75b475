"""Weights and recorded rounds as a checkpoint holds them, held against the training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError
from torch import Tensor

from harness.core.errors import RunError
from harness.core.messages import Aggregate, Message
from harness.core.observe import RoundRecord
from harness.core.params import Params
from harness.fed.guard import GuardRecord, admit
from harness.fed.training import Training
from harness.store import Damaged, read_tensors

Count = Annotated[int, Field(ge=0)]


class RecordFacts(Params):
    """What stands beside the tensors of a recorded round."""

    index: Count
    kinds: dict[str, str]
    model: bool


def read_record(path: Path, training: Training, start: Any) -> RoundRecord:
    """Read a recorded round.

    Args:
        path: its file, whose name tells the round.
        training: what it must fit.
        start: the state that ``setup`` returned.

    Raises:
        Damaged: it does not fit.
    """
    tensors, facts = read_tensors(path)
    said: RecordFacts = parsed(RecordFacts, path, facts)
    if not path.name.startswith(f"record-{said.index:06d}-"):
        raise Damaged(f"{path}: it is of round {said.index}, its name says another")
    try:
        message = kind_named(Message, said.kinds["message"]).of_tensors(under("message", tensors))
        aggregate = None
        if "aggregate" in said.kinds:
            kind = kind_named(Aggregate, said.kinds["aggregate"])
            aggregate = kind.of_tensors(under("aggregate", tensors))
    except (KeyError, TypeError) as error:
        raise Damaged(f"{path}: its message or aggregate is not known or not whole") from error
    _check_exchange(path, message, aggregate, training, start)
    system, model = training.system, None
    if said.model:
        weights = under("model", tensors)
        check_weights(path, weights, training, start)
        model = system.handle(system.with_weights(start, weights))
    if (model is None) != (system.handle(start) is None):
        raise Damaged(f"{path}: the model sent out is missing, or was never sent")
    return RoundRecord(said.index, message, model, aggregate)


def _check_exchange(
    path: Path, message: Message, aggregate: Aggregate | None, training: Training, start: Any
) -> None:
    """Raise unless the guard would admit the message again and the aggregate fits the form."""
    record, form = GuardRecord(), training.system.form(start)
    everybody = frozenset(range(training.federation().num_clients))
    try:
        admit(message, 0, record, set(), form, everybody)
        said = record.words() or ("" if aggregate is None else aggregate.misfit(form))
    except RunError as error:
        said = str(error)
    if said or not len(message):
        raise Damaged(f"{path}: no message or aggregate of this training ({said or 'nobody'})")


def check_weights(
    path: Path, weights: Mapping[str, Tensor], training: Training, start: Any
) -> None:
    """Raise `Damaged` unless these can be weights of the training's model."""
    wanted = training.system.weights(start)
    assert wanted is not None
    for name in sorted(wanted.keys() | weights.keys()):
        if name not in weights or name not in wanted:
            raise Damaged(f"{path}: weight {name} is {'missing' if name in wanted else 'unknown'}")
        one, other = weights[name], wanted[name]
        if one.dtype != other.dtype or one.shape != other.shape:
            have, want = (f"{t.dtype} {tuple(t.shape)}" for t in (one, other))
            raise Damaged(f"{path}: weight {name} is {have}, not {want}")
        if not bool(one.isfinite().all()):
            raise Damaged(f"{path}: weight {name} is not finite")


def parsed(model: type[Any], path: Path, facts: Mapping[str, Any]) -> Any:
    """Return facts as ``model``, or raise `Damaged` with what is wrong first."""
    try:
        return model.model_validate_json(json.dumps(facts))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise Damaged(f"{path}: {where}: {first['msg']}") from error


def under(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose name begins with ``part.``, without it."""
    start = part + "."
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}


def kind_named(base: type[Any], name: str) -> type[Any]:
    """Return the subclass of ``base`` that is called ``name``, defined last.

    Raises:
        KeyError: there is none.
    """
    named = [cls for cls in _below(base) if cls.__name__ == name]
    if not named:
        raise KeyError(name)
    return named[-1]


def _below(base: type[Any]) -> list[type[Any]]:
    return [cls for child in base.__subclasses__() for cls in (child, *_below(child))]
