"""The scenario: a YAML file as typed, frozen models, loaded with every problem at its position."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, StringConstraints, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from harness.arms import check_arm_names
from harness.core.params import Params
from harness.plugins import load_plugins
from harness.reading.explain import explain, newer, place, unexplained
from harness.reading.layers import read_layers
from harness.reading.paths import PATHS_FROM, as_written, paths_from
from harness.reading.problems import InvalidScenario
from harness.reading.references import check_references
from harness.reading.resolve import resolve
from harness.reading.scalar import plain_scalar
from harness.settings import (
    Clients,
    Compute,
    Evaluation,
    Label,
    Limits,
    Record,
    Seed,
    Targets,
    changes_bytes,
    distinct,
)

SCHEMA = 1
"""Version of the scenario format that this code reads and writes."""


class PluginEntry(Params):
    """A plug-in by name, with parameters."""

    use: str
    params: dict[str, Any] = Field(default_factory=dict)


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
    """One defence or several at once; a parameter's list is a sweep.

    With ``decompose`` it also runs without its noise and clip, where nobody attacks, to tell what
    its price is made of.
    """

    parts: Annotated[tuple[PluginEntry, ...], Field(min_length=1)]
    under: tuple[str, ...] | None = None
    systems: tuple[str, ...] | None = None
    decompose: bool = True


class Scenario(Params):
    """A scenario with every default filled in."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    name: Annotated[str, StringConstraints(min_length=1)]
    description: str = ""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    datasets: Annotated[dict[Label, dict[str, Any]], Field(min_length=1)]
    systems: dict[Label, SystemEntry] = Field(default_factory=dict)
    anchors: dict[Label, PluginEntry]
    clients: Clients = Clients()
    targets: Targets = Targets()
    attacks: dict[Label, PluginEntry] = Field(default_factory=dict)
    defenses: dict[Label, DefenseEntry] = Field(default_factory=dict)
    evaluation: Evaluation = Evaluation()
    record: Record = Record()
    compute: Compute = Compute()
    limits: Limits = Limits()
    _folder: str = PrivateAttr(default="")
    _written: dict[str, str] = PrivateAttr(default_factory=dict[str, str])

    @property
    def written(self) -> Mapping[str, str]:
        """Absolute path to its form relative to the scenario's folder, where it was given so."""
        return self._written

    @model_validator(mode="after")
    def _something_to_run(self) -> Scenario:
        distinct(self.seeds)
        if not self.systems and not self.anchors:
            raise ValueError("nothing to run: no systems and no anchors")
        return self

    def plain(self) -> dict[str, Any]:
        """Return the scenario as it would be written in a file, defaults included."""
        data = self.model_dump(mode="json", by_alias=True)
        for entry in data["systems"].values():
            if cells := _given(entry.pop("language_cells") or {}):
                entry["language_cells"] = cells
        for section in ("systems", "anchors", "attacks"):
            data[section] = {label: _flat(entry) for label, entry in data[section].items()}
        for entry in data["defenses"].values():
            entry["parts"] = [_flat(part) for part in entry["parts"]]
        data["defenses"] = {label: _given(entry) for label, entry in data["defenses"].items()}
        return data

    def identity(self) -> dict[str, Any]:
        """Return the scenario with paths as written: the same wherever its folder lies."""
        return as_written(self.plain(), self._written)

    def starts_at(self, folder: Path) -> str:
        """Return where the written paths start, for a copy of the scenario in ``folder``."""
        return paths_from(self._folder, folder)

    def resolved_yaml(self, folder: Path | None = None) -> str:
        """Return YAML that loads to this same scenario.

        Args:
            folder: where it is to be kept, so that paths are written relative; None writes them in
                full.
        """
        data, start = self.plain(), ""
        if folder is not None and self._written:
            # One line, and the first: a seal of the file leaves it out.
            start = f"{PATHS_FROM}: {json.dumps(self.starts_at(folder), ensure_ascii=False)}\n"
            data = self.identity()
        writer = YAML()
        writer.width = 100
        stream = io.StringIO()
        writer.dump(_quoted(data), stream)
        return start + stream.getvalue()


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


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
    """Return the SHA-256 of the resolved content, without what of ``compute`` changes no result.

    Device and number format count only where they are not the default. Paths count as written.
    """
    data = scenario.identity()
    del data["compute"]
    if changed := changes_bytes(scenario.compute.model_dump(mode="json")):
        data["compute"] = changed
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
    load_plugins()
    document = read_layers(Path(path), overrides)
    root, problems = document.root, document.problems
    raw = root.plain()
    if later := newer(raw, SCHEMA):
        raise InvalidScenario(place([later], root))
    data, findings = resolve(raw)
    findings += check_references(data)
    scenario: Scenario | None = None
    try:
        scenario = Scenario.model_validate_json(json.dumps(data))
    except ValidationError as error:
        findings += explain(error, Scenario)
    if scenario is not None and not findings:
        findings += check_arm_names(data)
    found = [*problems, *unexplained(place(findings, root), problems)]
    if found or scenario is None:
        raise InvalidScenario(sorted(found))
    if document.written:  # without relative paths it matters not where a scenario lies
        scenario._folder, scenario._written = document.folder, dict(document.written)
    return scenario
