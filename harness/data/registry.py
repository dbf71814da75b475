"""Loaders of data sets by name: one decorated function in one file of this package each."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from harness.core.errors import DataError, ScenarioError, shown_path
from harness.core.params import Params
from harness.data.events import RowPolicy
from harness.data.interactions import Interactions


class PathOptions(Params):
    """Options of a loader that reads a folder.

    Attributes:
        path: the folder, or its log.
    """

    path: str


OptionsT = TypeVar("OptionsT", bound=Params)


@dataclass(frozen=True)
class Loader(Generic[OptionsT]):
    """How one family of files is read.

    Attributes:
        name: what ``use`` in a data set's configuration calls it.
        options: class of its options.
        read: gives the data before any filter.
        fits: whether a folder or file looks like this format; ``None`` if it is never guessed.
        carries: what there is beside users and items.
        licence: what may be done with the data; empty where they are the user's own.
    """

    name: str
    options: type[OptionsT]
    read: Callable[[OptionsT, RowPolicy], Interactions]
    fits: Callable[[Path], bool] | None = None
    carries: str = ""
    licence: str = ""

    def summary(self) -> str:
        """Return the first line on the loader."""
        return (self.read.__doc__ or "").strip().split("\n")[0]


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
        carries: str = "",
        licence: str = "",
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
            self._loaders[name] = Loader(name, options, read, fits, carries, licence)
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

    def fitting(self, path: Path) -> Loader[Any]:
        """Return the loader whose format a folder or file has.

        Raises:
            DataError: nothing is there, or it has no known format.
        """
        if not path.exists():
            raise DataError(f"{shown_path(path)}: no such folder or file of data")
        for _, loader in self:
            if loader.fits is not None and loader.fits(path):
                return loader
        expected = (
            "expected interactions.csv(.gz), NAME.inter, u.data, ratings.dat, or reviews of Amazon "
            "as JSON lines; a file in another place or form is named by use: and options: (python "
            "-m harness list datasets)"
        )
        if path.is_file():
            raise DataError(f"{path}: no known data format; {expected}")
        seen = ", ".join(sorted(p.name for p in path.iterdir())[:12]) or "nothing"
        raise DataError(f"{path}: no known data format; {expected}; the folder holds {seen}")

    def __iter__(self) -> Iterator[tuple[str, Loader[Any]]]:
        package = importlib.import_module("harness.data")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"harness.data.{module.name}")
        return iter(sorted(self._loaders.items()))


LOADERS = LoaderRegistry()
