"""Which items a targeted attack promotes."""

from __future__ import annotations

import numpy as np

from harness.cells import Cell
from harness.core.errors import ScenarioError
from harness.core.seeds import Seeds
from harness.core.system import Domain
from harness.fed.population import popularity


def chosen_targets(cell: Cell, domain: Domain, seeds: Seeds) -> tuple[int, ...]:
    """Choose the items that targeted attacks promote.

    Raises:
        ScenarioError: an item that is named is not in the data.
    """
    targets = cell.targets
    if targets.choice == "items":
        place = {title: item for item, title in enumerate(domain.titles)}
        unknown = [title for title in targets.items if title not in place]
        if unknown:
            raise ScenarioError(f"targets.items: {unknown[0]!r} is not in data set {domain.name!r}")
        return tuple(place[title] for title in targets.items)
    order = seeds.numpy("targets").permutation(domain.num_items)
    if targets.choice == "least_popular":
        counts = popularity(domain)
        order = order[np.argsort(counts[order], kind="stable")]
    return tuple(int(item) for item in order[: targets.count])
