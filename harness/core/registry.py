"""Plug-ins by name: one decorator registers, discovery imports the packages that hold them."""

from __future__ import annotations

import difflib
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from harness.core.attack import Attack
from harness.core.defense import Defense
from harness.core.errors import ScenarioError
from harness.core.own_packages import module_names, pin
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
            if known is not None and _place(known) != _place(cls):
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
            raise ScenarioError(
                f"unknown {self.kind} {name!r}{hint} (known: {known}){not_imported()}"
            )
        return self._classes[name]

    def forget_failed(self, known: set[str]) -> None:
        """Forget the classes that are not ``known`` and whose module failed to import."""
        kept = (n for n, c in self._classes.items() if n in known or c.__module__ in sys.modules)
        self._classes = {name: self._classes[name] for name in kept}

    def __iter__(self) -> Iterator[tuple[str, type[T]]]:
        return iter(sorted(self._classes.items()))

    def __contains__(self, name: str) -> bool:
        return name in self._classes


def _place(plugin: type[Component]) -> tuple[str, str]:
    return plugin.__module__, plugin.__qualname__


SYSTEMS: Registry[System] = Registry("system")
ATTACKS: Registry[Attack] = Registry("attack")
DEFENSES: Registry[Defense] = Registry("defense")

FAILED: dict[str, str] = {}
"""Plug-in modules that :func:`discover` could not import, and why; as the registries, filled once
in a process."""

PLUGIN_PACKAGES = ("models", "attacks", "defenses")

ENTRY_POINTS = "harness.plugins"
"""Group under which an installed package names modules of its own to import."""

SLOW_SECONDS = 10.0
"""An installed plug-in whose import takes longer is named, so that one that hangs is known."""


def discover() -> dict[str, str]:
    """Import every plug-in module, so that their classes register.

    These are the modules of the project's own packages, from where it is installed, and those that
    installed packages name by an entry point. Nothing else is imported.

    Returns:
        The modules that could not be imported, and why; the others are usable.

    Raises:
        RunError: the project's own packages are hidden by others, or missing.
    """
    pin()
    FAILED.clear()
    for package_name in PLUGIN_PACKAGES:
        for name in module_names(package_name):
            _attempt(name, partial(importlib.import_module, name))
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda found: found.name):
        name = f"{entry.name} ({entry.value})"
        with _named_when_slow(name):
            _attempt(name, entry.load)
    return dict(FAILED)


def _attempt(name: str, load: Callable[[], object]) -> None:
    """Import a module; what it raises is kept, and what it registered before that forgotten."""
    before = [set(name for name, _ in registry) for registry in (SYSTEMS, ATTACKS, DEFENSES)]
    try:
        load()
    except (Exception, SystemExit) as error:
        FAILED[name] = f"{type(error).__name__}: {error}"
        for registry, known in zip((SYSTEMS, ATTACKS, DEFENSES), before, strict=True):
            registry.forget_failed(known)


@contextmanager
def _named_when_slow(name: str) -> Iterator[None]:
    """Say on standard error what is being imported, if it takes long."""

    def say() -> None:
        if sys.stderr is not None:
            text = f"still importing plug-in {name} after {SLOW_SECONDS:.0f} s"
            print(text, file=sys.stderr, flush=True)

    timer = threading.Timer(SLOW_SECONDS, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def not_imported() -> str:
    """Return, for a message about an unknown name, which plug-ins failed and why; else nothing."""
    if not FAILED:
        return ""
    reasons = "; ".join(f"{name}: {reason}" for name, reason in FAILED.items())
    return f"; plug-ins that could not be imported: {reasons}"
