"""The names of matplotlib that figures use, imported apart from the user's settings.

At its import matplotlib reads ``MPLBACKEND``, which a notebook sets to a backend that other
processes lack, and a ``matplotlibrc`` in the current directory or the user's folders; either may be
wrong, and then the import fails. Here it reads its own defaults instead. The environment is the
user's again afterwards. Where matplotlib is imported already, it stays as it is:
:func:`own_settings` holds while a figure is drawn.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast


@contextlib.contextmanager
def _apart_from_the_user() -> Iterator[None]:
    """Within, matplotlib is imported with its defaults and a backend that needs nothing."""
    spec = importlib.util.find_spec("matplotlib")
    if "matplotlib" in sys.modules or spec is None or not spec.submodule_search_locations:
        yield
        return
    defaults = Path(spec.submodule_search_locations[0]) / "mpl-data"
    own = {"MPLBACKEND": "agg", "MATPLOTLIBRC": str(defaults)}
    before = {name: os.environ.get(name) for name in own}
    logger, level = logging.getLogger("matplotlib"), logging.getLogger("matplotlib").level
    with contextlib.ExitStack() as stack:
        # The current directory comes before the environment. It may be gone; then it holds nothing.
        with contextlib.suppress(OSError):
            stack.enter_context(contextlib.chdir(defaults))
        os.environ.update(own)
        # A folder for its caches that can't be written is no news for whoever reads a report.
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


with _apart_from_the_user():
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.backends import backend_svg
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import Normalize, to_rgba
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import FuncFormatter, NullFormatter

__all__ = [
    "Axes",
    "Figure",
    "FigureCanvasAgg",
    "FuncFormatter",
    "Normalize",
    "NullFormatter",
    "Rectangle",
    "backend_svg",
    "mpl",
    "own_settings",
    "to_rgba",
]


@contextlib.contextmanager
def own_settings(style: Mapping[str, Any]) -> Iterator[None]:
    """Draw under matplotlib's defaults and ``style``, whatever the user has set; undone on leaving.

    The backend is left alone: no figure here uses it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mpl.MatplotlibDeprecationWarning)
        defaults = {k: v for k, v in mpl.rcParamsDefault.items() if not k.startswith("backend")}
        with mpl.rc_context(cast(Any, {**defaults, **style})):
            yield
