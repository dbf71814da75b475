"""Plug-ins by name: one decorator registers, discovery imports the packages that hold them."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from harness.core.attack import Attack
from harness.core.defense import Defense
from harness.core.errors import ScenarioError
from harness.core.params import Component
from harness.core.system import System

T = TypeVar("T", bound=Component)


class Registry(Generic[T]):
    """Named plug-in classes of one kind.

    Attributes:
        kind: the word used in messages, such as ``"attack"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Return a decorator that enters a class under ``name``; a duplicate is an error."""

        def enter(cls: type[T]) -> type[T]:
            known = self._classes.get(name)
            if known is not None and known.__qualname__ != cls.__qualname__:
                raise ValueError(f"{self.kind} {name!r} is already {known.__module__}")
            if not hasattr(cls, "paper"):
                raise ValueError(f"{self.kind} {name!r} states no paper")
            cls.name = name
            self._classes[name] = cls
            return cls

        return enter

    def get(self, name: str) -> type[T]:
        """Return the class called ``name``.

        Raises:
            ScenarioError: there is none; near matches and all names are listed.
        """
        if name not in self._classes:
            near = difflib.get_close_matches(name, self._classes, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(sorted(self._classes))
            raise ScenarioError(f"unknown {self.kind} {name!r}{hint} (known: {known})")
        return self._classes[name]

    def __iter__(self) -> Iterator[tuple[str, type[T]]]:
        return iter(sorted(self._classes.items()))

    def __contains__(self, name: str) -> bool:
        return name in self._classes


SYSTEMS: Registry[System] = Registry("system")
ATTACKS: Registry[Attack] = Registry("attack")
DEFENSES: Registry[Defense] = Registry("defense")

PLUGIN_PACKAGES = ("models", "attacks", "defenses")


ENTRY_POINTS = "harness.plugins"
"""Group under which an installed package names modules of its own to import."""


def discover() -> dict[str, str]:
    """Import every module of the plug-in packages, so that their classes register.

    Returns:
        Installed plug-ins that could not be imported, and why; the others are usable.
    """
    for package_name in PLUGIN_PACKAGES:
        package = importlib.import_module(package_name)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package_name}.{module.name}")
    failed: dict[str, str] = {}
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda found: found.name):
        try:
            entry.load()
        except Exception as error:
            failed[f"{entry.name} ({entry.value})"] = f"{type(error).__name__}: {error}"
    return failed
