"""A plug-in as a cell carries it, by name and parameters, and the one place that builds it."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from harness.core.errors import RunError, ScenarioError
from harness.core.params import Component, Params
from harness.core.registry import PLUGIN_PACKAGES, Registry, discover

T = TypeVar("T", bound=Component)


def load_plugins() -> None:
    """Import every plug-in, so that the registries are complete.

    Raises:
        RunError: a plug-in module can't be imported; it is named.
    """
    try:
        discover()
    except Exception as error:
        # The innermost frame in a plug-in file names the culprit better than the exception does.
        frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        ours = [name for name in frames if Path(name).parent.name in PLUGIN_PACKAGES]
        where = f" ({ours[-1]})" if ours else ""
        raise RunError(
            f"a plug-in can't be imported{where}: {type(error).__name__}: {error}"
        ) from error


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
