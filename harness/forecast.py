"""What a plan will cost and where it leaves its theory, as far as it can be known beforehand.

Time, memory and disk come from cells of earlier runs that were measured; where there are none, from
the system's own estimate; else they are unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.assets import ASSETS, is_complete
from harness.cells import Cell
from harness.core.attack import PoisoningAttack
from harness.core.defense import Federation
from harness.core.registry import ATTACKS, DEFENSES, SYSTEMS
from harness.core.system import System
from harness.measured import Cost
from harness.plan import Plan
from harness.plugins import build


class DataFacts(NamedTuple):
    """Sizes of a prepared data set, target domain first.

    Attributes:
        users: users of each domain.
        items: items of each domain.
        remarks: what was guessed, changed or left out when they were read.
    """

    users: tuple[int, ...]
    items: tuple[int, ...]
    remarks: tuple[str, ...] = ()


def facts_at_hand(datasets: Mapping[str, dict[str, Any]]) -> dict[str, DataFacts]:
    """Return the sizes of the data sets that need no download, by label.

    Raises:
        DataError: a data set that is there can't be used.
    """
    # Data libraries: only a plan that asks pays for them.
    from harness.prepared import prepared_data

    facts: dict[str, DataFacts] = {}
    for label, config in datasets.items():
        asset = ASSETS.get(str(config.get("use")))
        if asset is None or is_complete(asset):
            data = prepared_data(json.dumps(config))
            users, items = zip(*((d.num_users, d.num_items) for d in data.domains), strict=True)
            facts[label] = DataFacts(users, items, data.remarks_in_words())
    return facts


@dataclass(frozen=True)
class Group:
    """Cells of one system on one data set.

    Attributes:
        system: label.
        dataset: label.
        cells: how many.
        trainings: distinct ones.
        measured: cells whose cost an earlier run measured.
        clients: population, None where the data is not at hand.
        seconds: expected time of all cells on one process, None where unknown.
        memory_bytes: expected peak of one process, None where unknown.
        disk_bytes: expected size of the cells' tables, None where unknown.
    """

    system: str
    dataset: str
    cells: int
    trainings: int
    measured: int
    clients: int | None
    seconds: float | None
    memory_bytes: float | None
    disk_bytes: float | None


@dataclass(frozen=True)
class Forecast:
    """A plan's size, cost and warnings.

    Attributes:
        groups: by system and data set, in the plan's order.
        cells: number of cells.
        trainings: distinct trainings.
        theory: settings outside a defence's theory, or that leave an attack without force, with the
            numbers.
        seconds: expected time with the plan's number of processes, None where any part is unknown.
    """

    groups: tuple[Group, ...]
    cells: int
    trainings: int
    theory: tuple[str, ...]
    seconds: float | None


def forecast(
    plan: Plan,
    facts: Mapping[str, DataFacts],
    jobs: int = 1,
    measured: Mapping[str, Cost] | None = None,
) -> Forecast:
    """Return what a plan will cost.

    A system may offer ``estimate_seconds``, ``estimate_memory_bytes`` and ``estimate_disk_bytes``,
    each given the federation; without them, or without the data, the figure is unknown. A group
    of cells of which only some were measured is unknown as well.

    Args:
        plan: the expanded scenario.
        facts: sizes of the data sets that are at hand, by label.
        jobs: cells that run at once.
        measured: costs from earlier runs, by id of the cell.
    """
    grouped: dict[tuple[str, str], list[Cell]] = {}
    for cell in plan.cells:
        grouped.setdefault((cell.system.label, cell.dataset_label), []).append(cell)
    groups = tuple(_group(cells, facts, measured or {}) for cells in grouped.values())
    times = [group.seconds for group in groups]
    known = [seconds for seconds in times if seconds is not None]
    total = sum(known) / max(1, jobs) if len(known) == len(times) else None
    theory = tuple(dict.fromkeys(_theory(plan.cells, facts)))
    return Forecast(groups, len(plan.cells), plan.trainings, theory, total)


def _group(
    cells: list[Cell], facts: Mapping[str, DataFacts], measured: Mapping[str, Cost]
) -> Group:
    one, costs = cells[0], [measured[cell.id] for cell in cells if cell.id in measured]
    trainings = len({cell.training for cell in cells})
    sizes = facts.get(one.dataset_label)
    system = build(SYSTEMS, one.system)
    federation = _federation(system, sizes) if sizes else None
    seconds = _estimate(system, "estimate_seconds", federation)
    memory = _estimate(system, "estimate_memory_bytes", federation)
    disk = _estimate(system, "estimate_disk_bytes", federation)
    seconds = None if seconds is None else seconds * trainings
    disk = None if disk is None else disk * trainings
    if len(costs) == len(cells):
        seconds, disk = sum(c.seconds for c in costs), sum(c.disk_bytes for c in costs)
        memory = max(c.memory_bytes for c in costs)
    return Group(
        system=one.system.label,
        dataset=one.dataset_label,
        cells=len(cells),
        trainings=trainings,
        measured=len(costs),
        clients=federation.num_clients if federation else None,
        seconds=seconds,
        memory_bytes=memory,
        disk_bytes=disk,
    )


def _estimate(system: System, hook: str, federation: Federation | None) -> float | None:
    estimate: Any = getattr(system, hook, None)
    return None if estimate is None or federation is None else float(estimate(federation))


def _federation(system: System, facts: DataFacts) -> Federation | None:
    """Return the federation of a system; None for an anchor, which has none."""
    if system.kind == "anchor":
        return None
    return system.federation(facts.users, facts.items)


def _theory(cells: Iterable[Cell], facts: Mapping[str, DataFacts]) -> Iterable[str]:
    """Yield what defences and attacks say about settings that they were not made for."""
    seen: set[tuple[str, ...]] = set()
    for cell in cells:
        sizes, poisoning = facts.get(cell.dataset_label), cell.poisoning
        attack = "" if poisoning is None else poisoning.label
        labels = cell.system.label, cell.dataset_label, cell.defense.label, attack
        key = (*labels, str(cell.malicious))
        if key in seen or sizes is None:
            continue
        seen.add(key)
        system = build(SYSTEMS, cell.system)
        federation = _federation(system, sizes)
        if federation is None:
            continue
        if len(system.trained(sizes.items)) < len(sizes.items):
            yield (
                f"{cell.system.label} on {cell.dataset_label}: a user is a client here, so of the "
                f"{len(sizes.items)} domains the target, the first, is trained alone "
                f"({federation.num_clients} clients, {federation.num_items} items)"
            )
        for part in cell.defense.parts:
            for warning in build(DEFENSES, part).check(federation, cell.malicious):
                yield f"{cell.defense.label} on {cell.system.label}: {warning}"
        if poisoning is not None:
            adversary = build(ATTACKS, poisoning)
            assert isinstance(adversary, PoisoningAttack)
            for warning in adversary.check(federation.cohort_size, cell.malicious):
                yield f"{attack} on {cell.system.label}: {warning}"
