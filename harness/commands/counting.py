"""How many cells a scenario comes to, before any of them is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from harness.scenario import Scenario

MAX_CELLS = 10_000
"""A scenario with more cells than this is only counted, until the user confirms it."""


class Size(NamedTuple):
    """A scenario's size.

    Attributes:
        cells: the most it can come to, refinement included.
        by_system: cells without refinement, by labels of system and data set.
    """

    cells: int
    by_system: dict[tuple[str, str], int]

    @property
    def too_many(self) -> bool:
        """Whether the user is asked first."""
        return self.cells > MAX_CELLS

    @property
    def words(self) -> str:
        """What there is to say of a scenario that is too large."""
        return (
            f"{self.cells:,} cells, more than {MAX_CELLS:,}: fewer values in its lists (seeds, "
            "fractions, sweeps) or only some (-S KEY=VALUE); or run with --yes"
        )


def count(scenario: Scenario) -> Size:
    """Return a scenario's size; takes the same time for a thousand cells and for a billion."""
    from harness.grid import grid_of
    from harness.refinement import most_cells

    grid = grid_of(scenario)
    by_system: dict[tuple[str, str], int] = {}
    for one in grid.combinations:
        key = (one.system.label, one.dataset_label)
        by_system[key] = by_system.get(key, 0) + one.cells(scenario)
    return Size(most_cells(scenario, grid), by_system)
