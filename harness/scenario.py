"""The scenario: a YAML file as typed, frozen models, loaded with every problem at its position."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from harness.arms import check_arm_names
from harness.core.params import Params
from harness.core.registry import discover
from harness.explain import Finding, explain, place
from harness.layers import read_layers
from harness.problems import InvalidScenario, Problem
from harness.references import check_references
from harness.resolve import resolve
from harness.yaml_scalar import plain_scalar

SCHEMA = 1
"""Version of the scenario format that this code reads and writes."""

Label = Annotated[str, StringConstraints(pattern=r"^[\w][\w +%()\-]*$", max_length=60)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]


def _listed(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("a value stands twice")
    return values


def _round(value: Any) -> Any:
    named = value in ("first", "middle", "last")
    counted = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not named and not counted:
        raise ValueError("must be first, middle, last or a round from 0")
    return value


Fractions = Annotated[tuple[Share, ...], BeforeValidator(_listed), Field(min_length=1)]
Round = Annotated[Any, BeforeValidator(_round)]


class PluginEntry(Params):
    """A plug-in by name, with parameters."""

    use: str
    params: dict[str, Any] = {}


class LanguageCells(Params):
    """Cells of a system whose language stage is trained; a part left out means all."""

    seeds: tuple[Seed, ...] | None = None
    defenses: tuple[str, ...] | None = None
    attacks: tuple[str, ...] | None = None


class SystemEntry(PluginEntry):
    """A system on a data set."""

    dataset: str
    language_cells: LanguageCells | None = None


class DefenseEntry(Params):
    """One defence or several at once; a parameter's list is a sweep."""

    parts: Annotated[tuple[PluginEntry, ...], Field(min_length=1)]
    under: tuple[str, ...] | None = None
    systems: tuple[str, ...] | None = None


class NoisyClients(Params):
    """Honest clients with bad data: each event is replaced with probability ``rate``."""

    fraction: Fractions = (0.0,)
    rate: Share = 0.5
    kind: Literal["item_replacement"] = "item_replacement"


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

    count: Annotated[int, Field(ge=1)] = 1
    choice: Literal["least_popular", "random", "items"] = "least_popular"
    items: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_items(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("items"), list) and values["items"]:
            return {"choice": "items", "count": len(values["items"]), **values}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Targets:
        if (self.choice == "items") != bool(self.items):
            raise ValueError("give either a choice (least_popular, random) or items")
        if self.items and self.count != len(self.items):
            raise ValueError(f"count is {self.count} but {len(self.items)} items are listed")
        _distinct(self.items)
        return self


class Evaluation(Params):
    """What is measured: cut-offs, candidates of Hit@1, resamples, users asked in words."""

    k: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (10, 20)
    candidates: Annotated[int, Field(ge=2)] = 20
    bootstrap: Annotated[int, Field(ge=0)] = 1000
    answer_users: Annotated[int, Field(ge=0)] = 100

    @model_validator(mode="after")
    def _cutoffs(self) -> Evaluation:
        _distinct(self.k)
        return self


class Record(Params):
    """What the transcript keeps: rounds, and how many of the cohort's clients (0 means all)."""

    rounds: tuple[Round, ...] = ("first", "middle", "last")
    clients: Annotated[int, Field(ge=0)] = 0


class Compute(Params):
    """How the work is spread; does not change results."""

    jobs: Annotated[int, Field(ge=1, le=1024)] = 1
    threads: Annotated[int, Field(ge=1, le=1024)] = 1


class Limits(Params):
    """A run fails when more than this share of the updates was rejected."""

    reject_share: Share = 0.5


class Scenario(Params):
    """A scenario with every default filled in."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    name: Annotated[str, StringConstraints(min_length=1)]
    description: str = ""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    datasets: Annotated[dict[Label, dict[str, Any]], Field(min_length=1)]
    systems: dict[Label, SystemEntry] = {}
    anchors: dict[Label, PluginEntry]
    clients: Clients = Clients()
    targets: Targets = Targets()
    attacks: dict[Label, PluginEntry] = {}
    defenses: dict[Label, DefenseEntry] = {}
    evaluation: Evaluation = Evaluation()
    record: Record = Record()
    compute: Compute = Compute()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _something_to_run(self) -> Scenario:
        _distinct(self.seeds)
        if not self.systems and not self.anchors:
            raise ValueError("nothing to run: no systems and no anchors")
        return self

    def plain(self) -> dict[str, Any]:
        """Return the scenario as it would be written in a file, defaults included."""
        data = self.model_dump(mode="json", by_alias=True, exclude_none=False)
        for section in ("systems", "anchors", "attacks"):
            data[section] = {label: _flat(entry) for label, entry in data[section].items()}
        for entry in data["defenses"].values():
            entry["parts"] = [_flat(part) for part in entry["parts"]]
        return data

    def resolved_yaml(self) -> str:
        """Return YAML that loads to this same scenario."""
        writer = YAML()
        writer.width = 100
        stream = io.StringIO()
        writer.dump(_quoted(self.plain()), stream)
        return stream.getvalue()


def _flat(entry: dict[str, Any]) -> dict[str, Any]:
    params = entry.pop("params")
    return {**entry, **params}


def _quoted(value: Any) -> Any:
    """Quote text that would be read as something else."""
    if isinstance(value, dict):
        return {key: _quoted(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_quoted(child) for child in value]
    if not isinstance(value, str):
        return value
    try:
        as_is = plain_scalar(value) == value
    except ValueError:
        as_is = False
    return value if as_is and value.isprintable() else DoubleQuotedScalarString(value)


def scenario_hash(scenario: Scenario) -> str:
    """Return the SHA-256 of the resolved content; ``compute``, which changes no result, aside."""
    data = scenario.plain()
    del data["compute"]
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def load(path: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """Read, check and resolve a scenario.

    Args:
        path: the file.
        overrides: ``path.to.key=VALUE`` in YAML; they win over the file.

    Raises:
        ScenarioError: with every problem that was found, one a line.
    """
    discover()
    root, problems = read_layers(Path(path), overrides)
    raw = root.plain()
    if newer := _newer(raw):
        raise InvalidScenario(place([newer], root))
    data, findings = resolve(raw)
    findings += check_references(data)
    scenario: Scenario | None = None
    try:
        scenario = Scenario.model_validate_json(json.dumps(data))
    except ValidationError as error:
        findings += explain(error, Scenario)
    if scenario is not None and not findings:
        findings += check_arm_names(data)
    found = [*problems, *_unexplained(place(findings, root), problems)]
    if found or scenario is None:
        raise InvalidScenario(sorted(found))
    return scenario


def _unexplained(found: list[Problem], known: Sequence[Problem]) -> list[Problem]:
    """Leave out what only follows from a value that could not be read."""
    places = {problem.mark for problem in known}
    return [problem for problem in found if problem.mark not in places]


def _newer(raw: dict[str, Any]) -> Finding | None:
    version = raw.get("schema")
    if isinstance(version, int) and not isinstance(version, bool) and version > SCHEMA:
        message = f"made for schema {version}; this version reads schema {SCHEMA}: upgrade"
        return Finding(("schema",), message)
    return None
