"""Loaders of data sets by name: one decorated function in one file of this package each."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from harness.core.errors import DataError, ScenarioError
from harness.core.params import Params
from harness.data.events import RowPolicy
from harness.data.interactions import Interactions


class PathOptions(Params):
    """Options of a loader that reads a folder."""

    path: str


OptionsT = TypeVar("OptionsT", bound=Params)


@dataclass(frozen=True)
class Loader(Generic[OptionsT]):
    """How one family of files is read.

    Attributes:
        name: what ``use`` in a data set's configuration calls it.
        options: class of its options.
        read: gives the data before any filter.
        fits: whether a folder looks like this format; ``None`` if it is never guessed.
    """

    name: str
    options: type[OptionsT]
    read: Callable[[OptionsT, RowPolicy], Interactions]
    fits: Callable[[Path], bool] | None = None

    def summary(self) -> str:
        """Return the first sentence of the module that defines the loader."""
        doc = sys.modules[self.read.__module__].__doc__ or ""
        return doc.strip().split("\n\n")[0].replace("\n", " ")


class LoaderRegistry:
    """Named loaders, found by importing every module of this package."""

    def __init__(self) -> None:
        self._loaders: dict[str, Loader[Any]] = {}

    def register(
        self,
        name: str,
        options: type[OptionsT],
        *,
        fits: Callable[[Path], bool] | None = None,
    ) -> Callable[
        [Callable[[OptionsT, RowPolicy], Interactions]],
        Callable[[OptionsT, RowPolicy], Interactions],
    ]:
        """Return a decorator that enters a loader under ``name``."""

        def enter(
            read: Callable[[OptionsT, RowPolicy], Interactions],
        ) -> Callable[[OptionsT, RowPolicy], Interactions]:
            known = self._loaders.get(name)
            if known is not None and known.read.__module__ != read.__module__:
                raise ValueError(f"data set {name!r} is already {known.read.__module__}")
            self._loaders[name] = Loader(name, options, read, fits)
            return read

        return enter

    def get(self, name: str) -> Loader[Any]:
        """Return the loader called ``name``.

        Raises:
            ScenarioError: there is none; a near match and all names are listed.
        """
        loaders = dict(self)
        if name not in loaders:
            near = difflib.get_close_matches(name, loaders, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(loaders)
            raise ScenarioError(f"unknown data set {name!r}{hint} (known: {known})")
        return loaders[name]

    def fitting(self, folder: Path) -> Loader[Any]:
        """Return the loader whose format a folder has.

        Raises:
            DataError: the folder is missing, or it has no known format.
        """
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder of data")
        for _, loader in self:
            if loader.fits is not None and loader.fits(folder):
                return loader
        seen = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) or "nothing"
        raise DataError(
            f"{folder}: no known data format. Expected interactions.csv(.gz), NAME.inter, "
            f"u.data or ratings.dat; the folder holds {seen}"
        )

    def __iter__(self) -> Iterator[tuple[str, Loader[Any]]]:
        package = importlib.import_module("harness.data")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"harness.data.{module.name}")
        return iter(sorted(self._loaders.items()))


LOADERS = LoaderRegistry()
