"""How every figure looks and is kept: PNG, SVG, its data as CSV, and its finding in words.

Drawn through matplotlib's object interface; no state of ``pyplot`` is touched. Colours are Okabe
and Ito's, told apart by people with any common colour vision, and every series has its own marker.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from harness.files import write_atomic
from harness.results import Interval
from reports.plotting import Axes, Figure, FigureCanvasAgg, own_settings
from reports.wording import clean

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7A5195", "#8C6D31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
INK, FAINT = "#222222", "#8a8a8a"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_STYLE = {
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@dataclass(frozen=True)
class Drawing:
    """A figure as it is stored.

    Attributes:
        name: file name without ending.
        title: what it is, in a few words.
        caption: how to read it.
        alt: what it shows, for someone who cannot see it.
        svg: the figure.
        png: the same.
        data: header and rows of what was drawn.
    """

    name: str
    title: str
    caption: str
    alt: str
    svg: bytes
    png: bytes
    data: tuple[tuple[object, ...], ...]

    def save(self, folder: Path) -> None:
        """Write ``NAME.svg``, ``NAME.png`` and ``NAME.csv`` into a folder."""
        write_atomic(folder / f"{self.name}.svg", self.svg)
        write_atomic(folder / f"{self.name}.png", self.png)
        write_atomic(folder / f"{self.name}.csv", csv_bytes(self.data))


def styled() -> AbstractContextManager[None]:
    """The style to draw under, whatever the user's settings; no other figure is touched."""
    return own_settings(_STYLE)


def new_figure(
    width: float, heights: Sequence[float], columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of some inches, one row of panels per height, and its panels row by row."""
    figure = Figure(figsize=(width, sum(heights)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(
        len(heights), columns, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    return figure, list(panels.flat)


def finish(
    figure: Figure, name: str, title: str, caption: str, alt: str, data: list[tuple[object, ...]]
) -> Drawing:
    """Render a figure; the same figure gives the same bytes on the same machine."""
    images = {}
    with warnings.catch_warnings():
        # A label in a script the font lacks is drawn as boxes; the tables hold it as text.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        # Labels too wide for the figure overlap; that is no reason to have no report.
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        for kind, metadata in (
            ("svg", {"Date": None, "Creator": None}),
            ("png", {"Software": None}),
        ):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
            images[kind] = buffer.getvalue()
            # The first drawing has placed everything; the second keeps the places.
            figure.set_layout_engine("none")
    return Drawing(name, title, caption, alt, images["svg"], images["png"], tuple(data))


def whiskers(
    panel: Axes, x: Interval, y: Interval, colour: str, marker: str, size: float = 7, above: int = 4
) -> None:
    """A point with both of its intervals where they exist."""
    if x.low == x.low and x.high == x.high:
        panel.plot([x.low, x.high], [y.value] * 2, color=colour, lw=1.2, alpha=0.65, zorder=2)
    if y.low == y.low and y.high == y.high:
        panel.plot([x.value] * 2, [y.low, y.high], color=colour, lw=1.2, alpha=0.65, zorder=2)
    panel.plot(
        [x.value], [y.value], marker, color=colour, ms=size, mec="white", mew=0.8, zorder=above
    )


def csv_bytes(rows: tuple[tuple[object, ...], ...]) -> bytes:
    """CSV that a spreadsheet takes as data: a text that looks like a formula gets a quote."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in rows:
        writer.writerow([_inert(value) for value in row])
    return buffer.getvalue().encode()


def _inert(value: object) -> object:
    if not isinstance(value, str):
        return "" if isinstance(value, float) and value != value else value
    text = clean(value)
    if not text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return text
    return text if _NUMBER.fullmatch(text) else "'" + text
