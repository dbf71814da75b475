"""The limits file of a gate: typed and strict, read with every problem at its position."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from harness.core.params import Params
from harness.reading.compose import Node
from harness.reading.explain import Finding, explain, newer, place, unexplained
from harness.reading.problems import InvalidScenario, Problem
from harness.reading.source import read_yaml
from harness.settings import distinct, listed

SCHEMA = 1
"""Version of the limits format that this code reads and writes."""
WHAT = "limits file"

Quantity = Literal["value", "above_chance", "advantage", "ratio", "difference"]
_Some = (BeforeValidator(listed), Field(min_length=1), AfterValidator(distinct))
Texts = Annotated[tuple[str, ...], *_Some]
Counts = Annotated[tuple[int, ...], *_Some]
Numbers = Annotated[tuple[float, ...], *_Some]


class Selector(Params):
    """Which estimates a limit holds for: those whose every given key has one of its values."""

    metric: Texts
    system: Texts = ()
    dataset: Texts = ()
    defense: Texts = ()
    strength: Numbers = ()
    poisoning: Texts = ()
    malicious: Numbers = ()
    noisy: Numbers = ()
    attack: Texts = ()
    k: Counts = ()
    protocol: Texts = ()

    def given(self) -> dict[str, tuple[str | float, ...]]:
        """Return the keys that select, with their values."""
        return {key: values for key, values in dict(self).items() if values}


class Limit(Params):
    """A bound on a quantity of every estimate that is selected.

    Attributes:
        name: shown in the gate's table and in CI; made from the rest if empty.
        select: the estimates.
        quantity: ``value`` of the metric; ``above_chance``, the value less its chance level;
            ``advantage``, 0 for guessing and 1 for certainty; ``ratio`` to the undefended arm and
            ``difference`` from it, paired over seeds and users.
        at_least: the interval may not reach below this.
        at_most: the interval may not reach above this.
        max_missing: largest share of the users, items or uploads that may have no value; 0.05, and
            no bound for metrics over some of them by definition, such as ``hit1_valid``.
    """

    name: str = ""
    select: Selector
    quantity: Quantity = "value"
    at_least: float | None = None
    at_most: float | None = None
    max_missing: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="after")
    def _bounded(self) -> Limit:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a limit needs at_least or at_most")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(
                f"at_least {self.at_least:g} is above at_most {self.at_most:g}, "
                "so nothing could pass"
            )
        return self


class LimitsFile(Params):
    """A limits file with every default filled in."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    name: str = ""
    description: str = ""
    limits: Annotated[tuple[Limit, ...], Field(min_length=1)]


class Limits(NamedTuple):
    """A limits file that was read.

    Attributes:
        path: as the user gave it.
        content: what it says.
        root: where it says it.
    """

    path: Path
    content: LimitsFile
    root: Node

    def line(self, index: int) -> int:
        """Return the line on which a limit starts."""
        return self.root.locate(("limits", index))[0].line

    def invalid(self, findings: Iterable[Finding]) -> InvalidScenario:
        """Return an error that shows the findings at their positions."""
        return InvalidScenario(sorted(place(findings, self.root)))


def read_limits(path: Path) -> Limits:
    """Read and check a limits file.

    Raises:
        ScenarioError: with every problem that was found, one a line.
    """
    document = read_yaml(path, WHAT)
    root, raw = document.root, document.root.plain()
    if not isinstance(raw, dict):
        shape = Problem(root.mark, "", "a limits file is a mapping")
        raise InvalidScenario([*document.problems, shape])
    if later := newer(raw, SCHEMA):
        raise InvalidScenario(place([later], root))
    content, findings = _validated(raw)
    found = [*document.problems, *unexplained(place(findings, root), document.problems)]
    if found or content is None:
        raise InvalidScenario(sorted(found))
    return Limits(path, content, root)


def _validated(raw: dict[str, Any]) -> tuple[LimitsFile | None, list[Finding]]:
    try:
        content = LimitsFile.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        return None, explain(error, LimitsFile)
    first: dict[str, int] = {}
    findings: list[Finding] = []
    for index, limit in enumerate(content.limits):
        if limit.name and first.setdefault(limit.name, index) != index:
            message = f"the name {limit.name!r} stands already at limits[{first[limit.name]}]"
            findings.append(Finding(("limits", index, "name"), message))
    return content, findings
