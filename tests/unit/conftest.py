"""Small plug-ins that stand in the registries alone, for tests of scenarios, plans and commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

import harness.editor_schema
import harness.listing
import harness.plugins
import harness.reading.resolve
import harness.scenario
from harness.core.attack import InferenceAttack, PoisoningAttack
from harness.core.defense import Defense, Federation
from harness.core.messages import Aggregate, EmbeddingUpload, Message, ModelUpdate, Silence
from harness.core.observe import ThreatModel
from harness.core.params import Paper, Params
from harness.core.registry import ATTACKS, DEFENSES, SYSTEMS
from harness.core.system import System

SOURCE = Paper("ours", "baseline")
SERVER = ThreatModel("server", frozenset({"messages"}), words="The server reads the updates.")


class DatasetConfig(Params):
    """Stands in for the data room's configuration."""

    use: str | None = None
    path: str | None = None
    k_core: int = Field(0, ge=0)
    domains: dict[str, str] | None = None


class Fed(System):
    paper = SOURCE
    emits = ModelUpdate
    features = frozenset({"view"})

    class Config(Params):
        rounds: int = Field(10, ge=0)
        lr: float = Field(0.1, gt=0)
        mode: Literal["mean", "touched"] = "touched"
        layers: tuple[int, ...] = (8, 8)
        language_stage: bool = True

    def num_rounds(self) -> int:
        return self.config.rounds

    def cohort_size(self, num_clients: int) -> int:
        return max(1, num_clients // 10)


class Text(System):
    paper = SOURCE
    emits = EmbeddingUpload
    client_unit = "domain"

    class Config(Params):
        language_stage: bool = True

    def num_rounds(self) -> int:
        return 1


class Popular(System):
    paper = SOURCE
    emits = Silence
    kind = "anchor"


class Promote(PoisoningAttack):
    paper = SOURCE
    reads = (ModelUpdate,)
    threat_model = SERVER
    targeted = True

    class Config(Params):
        boost: float = 1.0


class Flip(PoisoningAttack):
    paper = SOURCE
    reads = (ModelUpdate, EmbeddingUpload)
    threat_model = SERVER


class Norms(InferenceAttack):
    paper = SOURCE
    reads = (ModelUpdate,)
    threat_model = SERVER


class Clip(Defense):
    paper = SOURCE
    reads = (ModelUpdate,)
    strength = "bound"

    class Config(Params):
        bound: float = Field(1.0, gt=0)
        ks: tuple[int, ...] = (1,)

    def check(self, federation: Federation, malicious_fraction: float) -> list[str]:
        few = federation.cohort_size < 10
        return [f"cohort {federation.cohort_size} < 10"] if few else []


class Trim(Defense):
    paper = SOURCE
    reads = (ModelUpdate,)

    def aggregate(self, message: Message, federation: Federation) -> Aggregate:
        raise AssertionError("never run here")


class Median(Trim):
    pass


class Needy(Defense):
    paper = SOURCE
    reads = (ModelUpdate, EmbeddingUpload)
    needs = frozenset({"view"})

    class Config(Params):
        share: float = Field(0.1, ge=0)


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave only the plug-ins of this file registered, for one test."""
    for registry, entries in (
        (SYSTEMS, {"fed": Fed, "text": Text, "popular": Popular}),
        (ATTACKS, {"promote": Promote, "flip": Flip, "norms": Norms}),
        (DEFENSES, {"clip": Clip, "trim": Trim, "median": Median, "needy": Needy}),
    ):
        monkeypatch.setattr(registry, "_classes", {})
        for name, plugin in entries.items():
            registry.register(name)(plugin)
    for module in (harness.scenario, harness.plugins, harness.editor_schema):
        monkeypatch.setattr(module, "load_plugins", list)
    for module in (harness.reading.resolve, harness.listing, harness.editor_schema):
        monkeypatch.setattr(module, "dataset_model", lambda: DatasetConfig)


BASE: dict[str, Any] = {
    "schema": "1",
    "name": "demo",
    "seeds": "[0, 1]",
    "datasets": "{movies: {use: ml-100k}}",
    "systems": "{fed: {use: fed, dataset: movies}}",
}


@pytest.fixture
def write(plugins: None, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a scenario: the smallest one, with sections replaced."""

    def scenario(file: str = "s.yaml", **sections: str) -> Path:
        path = tmp_path / file
        lines = [f"{key}: {value}" for key, value in {**BASE, **sections}.items()]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return scenario
