"""A defence's strength written as a range: strengths spread evenly over it, and room for more.

``noise_multiplier: {from: 0.01, to: 10, points: 4, refine: 3}`` stands for 0.01, 0.1, 1 and 10, and
for up to three strengths more, which :mod:`harness.bisection` puts where something changes.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import Field, ValidationError, model_validator

from harness.core.defense import Defense
from harness.core.params import Component, Params
from harness.reading.explain import Finding, explain
from harness.reading.problems import Step

DIGITS = 3
"""Significant digits of the strengths between the ends, so that they can be read and quoted."""

Spacing = Literal["log", "linear"]


class StrengthRange(Params):
    """The strengths of a sweep as a range; ends included."""

    start: float = Field(alias="from", ge=0, description="weakest or smallest strength")
    end: float = Field(alias="to", description="largest strength")
    points: int = Field(4, ge=2, le=100, description="strengths that are measured in any case")
    refine: int = Field(
        3, ge=0, le=20, description="most strengths added where something changes between two"
    )
    threshold: float = Field(
        0.1, gt=0, lt=1, description="smallest change, on a scale from 0 to 1, worth a strength"
    )
    ratio: float = Field(
        1.05,
        gt=1,
        description="neighbours nearer than this are not parted: the larger over the smaller; "
        "spaced linearly, less than (ratio - 1) of the range apart",
    )
    spacing: Spacing = Field("log", description="linear where a strength is 0 or a share")

    @model_validator(mode="after")
    def _spread(self) -> StrengthRange:
        if self.end <= self.start:
            raise ValueError(f"from {self.start:g} must be below to {self.end:g}")
        if self.spacing == "log" and self.start == 0:
            raise ValueError("from 0 has no logarithm: start above 0, or give spacing: linear")
        if len(set(self.strengths)) < self.points:
            raise ValueError(
                f"{self.points} points from {self.start:g} to {self.end:g} are not all different "
                f"in {DIGITS} digits: fewer points, or a wider range"
            )
        return self

    @property
    def strengths(self) -> tuple[float, ...]:
        """The strengths that are measured in any case, ascending; the ends as they are written."""
        shares = (i / (self.points - 1) for i in range(1, self.points - 1))
        return (self.start, *(_readable(self._at(share)) for share in shares), self.end)

    def between(self, low: float, high: float) -> float | None:
        """Return the strength halfway between two, on the range's scale; None if too near."""
        if self.spacing == "log":
            near = high <= low * self.ratio
            middle = math.sqrt(low * high)
        else:
            near = high - low <= (self.ratio - 1) * (self.end - self.start)
            middle = (low + high) / 2
        middle = _readable(middle)
        return middle if not near and low < middle < high else None

    def halvings(self, low: float, high: float) -> int:
        """Return how often the range was halved to get a pair so near, to the nearest whole."""
        if self.spacing == "log":
            share = math.log(high / low) / math.log(self.end / self.start)
        else:
            share = (high - low) / (self.end - self.start)
        return round(-math.log2(share))

    def _at(self, share: float) -> float:
        if self.spacing == "log":
            return self.start * (self.end / self.start) ** share
        return self.start + share * (self.end - self.start)


def _readable(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


class Ranges(NamedTuple):
    """The ranges among a plug-in's parameters.

    Attributes:
        good: by parameter.
        bad: parameters whose range can't be read.
        findings: why not.
    """

    good: dict[str, StrengthRange]
    bad: frozenset[str]
    findings: list[Finding]


def read_ranges(
    plugin: type[Component], params: Mapping[str, Any], path: tuple[Step, ...]
) -> Ranges:
    """Return the ranges among the parameters of a defence.

    Args:
        plugin: the defence.
        params: as written: a range is a mapping where the Config takes one number.
        path: where the parameters stand.
    """
    good, findings = dict[str, StrengthRange](), list[Finding]()
    names = [name for name, value in params.items() if _is_range(plugin, name, value)]
    for name in names:
        if not (issubclass(plugin, Defense) and plugin.strength):
            message = f"{plugin.name} declares no strength, so that a range has no meaning"
            findings.append(Finding((*path, name), f"{message}: list the values"))
            continue
        try:
            good[name] = StrengthRange.model_validate_json(json.dumps(params[name]))
        except ValidationError as error:
            findings += explain(error, StrengthRange, (*path, name))
    return Ranges(good, frozenset(names) - good.keys(), findings)


def ranges_of(plugin: type[Component], params: Mapping[str, Any]) -> dict[str, StrengthRange]:
    """Return the ranges among parameters that are known to be valid, by parameter."""
    return read_ranges(plugin, params, ()).good


def written(found: StrengthRange) -> dict[str, Any]:
    """Return a range as it stands in a scenario, its defaults filled in."""
    return found.model_dump(mode="json", by_alias=True)


def takes_number(annotation: Any) -> bool:
    """Return whether a field with this annotation takes any number, so that it can have a range."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return any(takes_number(argument) for argument in get_args(annotation))
    if origin is Annotated:
        return takes_number(get_args(annotation)[0])
    return annotation is float


def _is_range(plugin: type[Component], name: str, value: Any) -> bool:
    fields = plugin.Config.model_fields
    return isinstance(value, dict) and name in fields and takes_number(fields[name].annotation)
