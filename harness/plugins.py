"""A plug-in as a cell carries it, by name and parameters, and the one place that builds it."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import ValidationError

from harness.core.errors import ScenarioError
from harness.core.params import Component, Params
from harness.core.registry import FAILED, Registry, discover

T = TypeVar("T", bound=Component)


def load_plugins() -> list[str]:
    """Import every plug-in, so that the registries are complete; return :func:`broken_plugins`.

    Raises:
        RunError: the project's own packages are hidden by others, or missing.
    """
    discover()
    return broken_plugins()


def broken_plugins() -> list[str]:
    """Return a warning for each plug-in that can't be imported; the others are usable."""
    return [f"plug-in {name} can't be imported: {why}" for name, why in FAILED.items()]


class PluginSpec(Params):
    """A plug-in as it will be built.

    Attributes:
        label: its name in the scenario.
        use: its name in the registry.
        params: every parameter, defaults included.
    """

    label: str
    use: str
    params: dict[str, Any]


def build(registry: Registry[T], spec: PluginSpec) -> T:
    """Return a new instance of a plug-in.

    Raises:
        ScenarioError: there is no such plug-in, or it does not take these parameters.
    """
    plugin = registry.get(spec.use)
    try:
        config = plugin.Config.model_validate_json(json.dumps(spec.params))
    except ValidationError as error:
        raise ScenarioError(f"{registry.kind} {spec.use!r}: {error}") from error
    return plugin(config)
