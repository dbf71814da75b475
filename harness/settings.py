"""A scenario's settings that name no plug-in: who takes part, what is measured and recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import psutil
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from harness.core.device import Arithmetic, Precision, available_device
from harness.core.params import Params

Label = Annotated[str, StringConstraints(pattern=r"^[\w][\w +%()\-]*$", max_length=60)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]
Sampling = Literal["uniform", "popularity"]
"""How the other candidates of a held-out item are drawn."""
Cutoff = Annotated[int, Field(ge=1, le=100_000_000)]
MAX_ROUND = 1_000_000

FREE_SHARE = 0.8
"""Of the memory that is free when a run starts; the rest is for models, data and the reader."""


def listed(value: Any) -> Any:
    """Return a list as a tuple, and one value as a tuple of it."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the values; one that stands twice is refused."""
    if len(set(values)) != len(values):
        raise ValueError("a value stands twice")
    return values


def _round(value: Any) -> Any:
    named = value in ("first", "middle", "last")
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not named and not (whole and 0 <= value <= MAX_ROUND):
        raise ValueError(f"must be first, middle, last or a round from 0 to {MAX_ROUND}")
    return value


_SHARE_SCHEMA = {"type": "number", "minimum": 0, "maximum": 1}
Fractions = Annotated[
    tuple[Share, ...],
    BeforeValidator(listed),
    Field(min_length=1),
    AfterValidator(distinct),
    # Editors see what may be written: one share, or a sweep over several.
    WithJsonSchema(
        {"anyOf": [_SHARE_SCHEMA, {"type": "array", "minItems": 1, "items": _SHARE_SCHEMA}]}
    ),
]
Round = Annotated[
    Any,
    BeforeValidator(_round),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["first", "middle", "last"]},
                {"type": "integer", "minimum": 0, "maximum": MAX_ROUND},
            ]
        }
    ),
]


Samplings = Annotated[
    tuple[Sampling, ...],
    BeforeValidator(listed),
    Field(min_length=1),
    AfterValidator(distinct),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["uniform", "popularity"]},
                {"type": "array", "minItems": 1, "items": {"enum": ["uniform", "popularity"]}},
            ]
        }
    ),
]


class NoisyClients(Params):
    """Honest clients with bad data: each event is hit with probability ``rate``.

    A hit event is replaced by a uniform item, dropped, or shuffled among the hit ones (``kind``).
    """

    fraction: Fractions = (0.0,)
    rate: Share = 0.5
    kind: Literal["item_replacement", "item_drop", "shuffle"] = "item_replacement"


class MaliciousClients(Params):
    """Clients that the poisoning attacks control."""

    fraction: Fractions = (0.0,)


class Clients(Params):
    """Who takes part."""

    noisy: NoisyClients = NoisyClients()
    malicious: MaliciousClients = MaliciousClients()

    @model_validator(mode="after")
    def _someone_honest(self) -> Clients:
        below = [
            max((f for f in fractions if f < 1), default=0.0)
            for fractions in (self.noisy.fraction, self.malicious.fraction)
        ]
        if sum(below) >= 1:
            raise ValueError(
                f"noisy {below[0]} and malicious {below[1]} leave no client honest in every cell, "
                "so nobody could be evaluated"
            )
        return self


class Targets(Params):
    """Items that targeted attacks promote: chosen by a rule, or listed by title."""

    count: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    choice: Literal["least_popular", "random", "items"] = "least_popular"
    items: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_items(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("items"), list):
            return values
        items = tuple(values["items"])
        implied = {"choice": "items", "count": len(items)} if items else {}
        return {**implied, **values, "items": items}

    @model_validator(mode="after")
    def _consistent(self) -> Targets:
        if (self.choice == "items") != bool(self.items):
            raise ValueError("give either a choice (least_popular, random) or items")
        if self.items and self.count != len(self.items):
            raise ValueError(f"count is {self.count} but {len(self.items)} items are listed")
        distinct(self.items)
        return self


class Evaluation(Params):
    """What is measured: cut-offs, candidates of Hit@1, resamples, users asked in words.

    Attributes:
        k: cut-offs of the full ranking.
        candidates: length of the lists of Hit@1, the held-out item among them.
        candidate_sampling: how the others are drawn: ``uniform``, ``popularity``, or both in one
            run, told apart by the protocol of their rows.
        bootstrap: resamples behind an interval.
        answer_users: users that a language stage is asked for.
    """

    k: Annotated[tuple[Cutoff, ...], Field(min_length=1)] = (10, 20)
    candidates: Annotated[int, Field(ge=2, le=1_000_000)] = 20
    candidate_sampling: Samplings = ("uniform",)
    bootstrap: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    answer_users: Annotated[int, Field(ge=0, le=100_000_000)] = 100

    @model_validator(mode="after")
    def _cutoffs(self) -> Evaluation:
        distinct(self.k)
        return self


class Record(Params):
    """What the transcript keeps: rounds, and how many of the cohort's clients (0 means all)."""

    rounds: tuple[Round, ...] = ("first", "middle", "last")
    clients: Annotated[int, Field(ge=0, le=100_000_000)] = 0


class Compute(Params):
    """How the work is spread and computed; jobs, threads and memory do not change results.

    Attributes:
        jobs: worker processes.
        threads: threads of each.
        memory: gigabytes that local training may take, all processes together; by default four
            fifths of what is free at the start. Where a chunk of clients does not fit, fewer
            train at once, and results may differ in their last bits.
        device: where local training and language models run; ``auto`` takes a CUDA device where
            there is one. Not the default, so that a scenario means the same numbers everywhere.
        precision: of the matrix products of local training: bfloat16 is faster where the machine
            multiplies it natively. Weights and their updates stay float32.
    """

    jobs: Annotated[int, Field(ge=1, le=1024)] = 1
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    memory: Annotated[float, Field(gt=0)] | None = None
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    precision: Precision = "float32"

    def arithmetic(self) -> Arithmetic:
        """Return device and number format as this machine has them.

        Raises:
            ScenarioError: CUDA is asked for and there is none.
        """
        return Arithmetic(available_device(self.device), self.precision)

    def memory_bytes(self) -> float:
        """Return what local training may take."""
        if self.memory is not None:
            return self.memory * 1e9
        return FREE_SHARE * psutil.virtual_memory().available


def changes_bytes(compute: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a resolved ``compute`` section sets that changes results."""
    defaults = {"device": "cpu", "precision": "float32"}
    return {k: compute[k] for k, usual in defaults.items() if compute.get(k, usual) != usual}


class Limits(Params):
    """What the server refuses, and when a run fails of it.

    Attributes:
        reject_share: a run fails when more than this share of the updates was rejected.
        refused_rounds: a run fails when, in so many rounds in a row, nothing was left of what
            arrived; the model stands still in such a round.
        norm_ratio: updates longer than so many times the cohort's median are refused; null refuses
            none for its length alone. The cohort is then held whole, whatever its size.
    """

    reject_share: Share = 0.5
    refused_rounds: Annotated[int, Field(ge=1, le=1_000_000)] = 3
    norm_ratio: Annotated[float, Field(gt=1)] | None = None
