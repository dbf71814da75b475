"""Where the project's own packages lie, and that Python takes them from there.

``attacks``, ``models`` and the others are names that any folder may have: in the user's current
directory, in the user's own code, in another distribution. Found by the search path, such a folder
would hide ours, and its modules would be run. So the five names are pinned to the folder that this
package itself was imported from: a checkout, a work tree of it, or ``site-packages``.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType

from harness.core.errors import RunError

DISTRIBUTION = "fedrec-harness"
OWN_PACKAGES = ("attacks", "defenses", "models", "reports", "scenarios")
ROOT = Path(__file__).resolve().parents[2]
"""Folder that holds this package and the others."""


class _Pinned(MetaPathFinder):
    """Finds the project's own packages below :data:`ROOT` and nothing else."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where an own package lies; None for every other module."""
        if fullname not in self.names:
            return None
        return PathFinder.find_spec(fullname, [str(ROOT)], target)


def pin(*names: str) -> None:
    """From here on, import the project's own packages from where it is installed, and only there.

    Args:
        names: of :data:`OWN_PACKAGES`; by default all. In a process that is not the harness's own,
            such as a user's tests, fewer leave more names to the user.

    Raises:
        RunError: something else of such a name has been imported into this process, or a package
            is missing beside this one.
    """
    for name in names or OWN_PACKAGES:
        module = sys.modules.get(name)
        if module is not None and ROOT not in (folder.parent for folder in _folders(module)):
            where = next(iter(_folders(module)), "elsewhere")
            raise RunError(
                f"a package {name!r} from {where} is imported already and hides the harness's own "
                f"({ROOT / name}): import the harness first, or use `python -m harness`"
            )
        if not (ROOT / name / "__init__.py").is_file():
            raise RunError(f"{ROOT / name}: missing; this installation is damaged, install again")
    known = next((finder for finder in sys.meta_path if isinstance(finder, _Pinned)), None)
    if known is None:
        known = _Pinned()
        sys.meta_path.insert(0, known)
    known.names.update(names or OWN_PACKAGES)


def _folders(module: ModuleType) -> list[Path]:
    """Return the folders of a package; for a plain module, its file."""
    places = list(getattr(module, "__path__", ())) or [getattr(module, "__file__", None) or ""]
    return [Path(place).resolve() for place in places]


def module_names(package_name: str) -> list[str]:
    """Return the full names of a package's modules, sorted.

    Where the project was installed from a wheel, these are the modules that it brought: another
    distribution may have put its own into a folder of the same name.
    """
    package = importlib.import_module(package_name)
    names = [f"{package_name}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    brought = _brought()
    return sorted(name for name in names if brought is None or name in brought)


def _brought() -> set[str] | None:
    """Return the modules that the installed wheel brought; None in a checkout."""
    try:
        found = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return None
    # In a checkout, or beside an editable installation, the list of files does not name them.
    if found.read_text("RECORD") is None or Path(str(found.locate_file(""))).resolve() != ROOT:
        return None
    files = [file for file in found.files or () if file.suffix == ".py"]
    return {".".join(file.with_suffix("").parts) for file in files}
