"""Ranges of strength refined while a run goes on: what was added, why, and why it ended.

A proposal for a defence depends on the results of that defence and of the undefended systems alone,
and waits until all of these cells are done. So the number of processes, interruptions and other
defences change nothing. What was added is kept in the run folder before it is trained.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from harness.bisection import Change, Proposal, next_strength
from harness.cells import Cell
from harness.core.errors import DataError
from harness.core.params import Params
from harness.core.registry import DEFENSES
from harness.files import write_atomic
from harness.grid import Grid
from harness.plan import Plan, expand
from harness.reading.ranges import StrengthRange, ranges_of
from harness.reading.references import NONE
from harness.results import read_rows, read_samples
from harness.scenario import Scenario

RECORD = "refinement.json"

Changes = Callable[[list[Path], str], Sequence[Change]]


class Step(Params):
    """A strength that was added, and why.

    Attributes:
        strength: between ``low`` and ``high``.
        low: neighbour below.
        high: neighbour above.
        system: where something changed.
        what: an attack's label, or ``utility kept``.
        metric: what it was read by.
        before: its value at ``low``, 0 to 1.
        after: its value at ``high``.
        interval: 95 % interval of the change.
    """

    strength: float
    low: float
    high: float
    system: str
    what: str
    metric: str
    before: float
    after: float
    interval: tuple[float, float]

    @property
    def reason(self) -> str:
        """Why the strength was added, in words."""
        way = "falls" if self.after < self.before else "rises"
        return (
            f"{self.what} on {self.system} {way} from {self.before:.2g} to {self.after:.2g} "
            f"between {self.low:g} and {self.high:g}"
        )


class Refined(Params):
    """The refinement of one defence.

    Attributes:
        parameter: whose range it is.
        points: strengths of the range itself.
        threshold: smallest change worth a strength.
        added: in the order in which they were.
        ended: why no more are added; empty while there may be.
    """

    parameter: str
    points: tuple[float, ...]
    threshold: float
    added: tuple[Step, ...] = ()
    ended: str = ""


class Record(Params):
    """The file in the run folder; defences by label."""

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    defenses: dict[str, Refined]


class Further(NamedTuple):
    """What refinement may add at most."""

    cells: int
    trainings: int


def ranges(scenario: Scenario) -> dict[str, tuple[str, StrengthRange]]:
    """Return parameter and range of every defence that has one, by label."""
    found: dict[str, tuple[str, StrengthRange]] = {}
    for label, entry in scenario.defenses.items():
        for part in entry.parts:
            for name, wanted in ranges_of(DEFENSES.get(part.use), part.params).items():
                found[label] = name, wanted
    return found


def most_cells(scenario: Scenario, grid: Grid) -> int:
    """Return the largest number of cells a scenario can come to, refinement included.

    Nothing is expanded, so that a scenario of any size is counted at once.
    """
    total = grid.count(scenario)
    for label, (_, wanted) in ranges(scenario).items():
        own = [one.cells(scenario) for one in grid.combinations if one.arm.family == label]
        total += sum(own) // wanted.points * wanted.refine
    return total


def most_further(scenario: Scenario, plan: Plan) -> Further:
    """Return how much refinement may add to a scenario's plan: each strength costs the same."""
    cells = trainings = 0
    for label, (_, wanted) in ranges(scenario).items():
        own = [cell for cell in plan.cells if cell.defense.family == label]
        cells += len(own) // wanted.points * wanted.refine
        trainings += len({cell.training for cell in own}) // wanted.points * wanted.refine
    return Further(cells, trainings)


def refined_plan(scenario: Scenario, folder: Path) -> Plan:
    """Return a scenario's plan with the strengths that its run folder says were added.

    Raises:
        DataError: the folder's record can't be used.
    """
    return Refinement(scenario, folder).plan()


@dataclass
class Refinement:
    """The ranges of a run while it goes on.

    Attributes:
        scenario: as resolved.
        folder: of the run.
        say: told what is added and why.
        changes: measures the changes between neighbours, given the folders of cells and a label.
    """

    scenario: Scenario
    folder: Path
    say: Callable[[str], None] = lambda _: None
    changes: Changes | None = None

    def __post_init__(self) -> None:
        self._ranges = ranges(self.scenario)
        self._state = _read(self.folder / RECORD, self._ranges) if self._ranges else {}

    def plan(self) -> Plan:
        """Return the plan with every strength added so far."""
        added = {label: [s.strength for s in r.added] for label, r in self._state.items()}
        return expand(self.scenario, added)

    @property
    def open(self) -> bool:
        """Whether strengths may still be added."""
        return any(not refined.ended for refined in self._state.values())

    def summary(self) -> dict[str, Any]:
        """Return what was added and why, by label, in JSON's types."""
        return {label: r.model_dump(mode="json") for label, r in self._state.items()}

    def advance(self, plan: Plan, done: Callable[[Cell], bool]) -> bool:
        """Add one strength to every range whose cells are done; return whether any was added.

        Args:
            plan: as run so far.
            done: whether a cell's results are on disk.
        """
        before, added = dict(self._state), False
        for label, refined in before.items():
            cells = [] if refined.ended else _deciding(plan, label)
            if refined.ended or not all(done(cell) for cell in cells):
                continue
            found = self._proposal(label, refined, cells)
            if isinstance(found, str):
                self._state[label] = refined.model_copy(update={"ended": found})
                self.say(f"{label} is not refined further: {found}")
            else:
                step, added = _step(found), True
                self._state[label] = refined.model_copy(update={"added": (*refined.added, step)})
                self.say(f"refining {label}: {refined.parameter}={step.strength:g}, {step.reason}")
        if self._state != before:
            record = Record(defenses=self._state)
            text = json.dumps(record.model_dump(mode="json", by_alias=True), indent=1)
            write_atomic(self.folder / RECORD, text.encode() + b"\n")
        return added

    def _proposal(self, label: str, refined: Refined, cells: list[Cell]) -> Proposal | str:
        _, wanted = self._ranges[label]
        measured = [*refined.points, *(step.strength for step in refined.added)]
        if len(refined.added) >= wanted.refine:
            return next_strength(wanted, measured, ())
        folders = [self.folder / "cells" / cell.id for cell in cells]
        measure = self.changes or _measured_changes
        return next_strength(wanted, measured, measure(folders, label))


def _deciding(plan: Plan, label: str) -> list[Cell]:
    """Return the cells that a proposal depends on: the defence's, and the systems' without any."""
    own = [cell for cell in plan.cells if cell.defense.family == label]
    systems = {cell.system.label for cell in own}
    bare = [
        cell
        for cell in plan.cells
        if cell.defense.family == NONE and cell.system.label in systems and not cell.anchor
    ]
    return [*bare, *own]


def _measured_changes(folders: list[Path], label: str) -> Sequence[Change]:
    """Read the cells' tables and return what changes between neighbouring strengths."""
    import pandas as pd

    from reports.evidence import Evidence
    from reports.transitions import changes

    if not folders:
        return ()
    rows = [row for folder in folders for row in read_rows(folder)]
    samples = pd.concat([read_samples(folder) for folder in folders], ignore_index=True)
    return changes(Evidence([row for row in rows if row.side != "cost"], samples), label)


def _step(found: Proposal) -> Step:
    change = found.change
    return Step(
        strength=found.strength,
        low=change.low,
        high=change.high,
        system=change.system,
        what=change.what,
        metric=change.metric,
        before=change.before,
        after=change.after,
        interval=(change.difference.low, change.difference.high),
    )


def _read(path: Path, wanted: dict[str, tuple[str, StrengthRange]]) -> dict[str, Refined]:
    """Return the state of every range: as recorded, or at its beginning.

    Raises:
        DataError: the record is damaged, or does not belong to these ranges.
    """
    fresh = {label: _fresh(name, found) for label, (name, found) in wanted.items()}
    if not path.is_file():
        return fresh
    again = "delete it to have it made again from the results of the cells"
    try:
        recorded = Record.model_validate_json(path.read_bytes()).defenses
    except (OSError, ValidationError) as error:
        problem = str(error).splitlines()[-1].strip() if str(error) else "unreadable"
        raise DataError(f"{path}: damaged ({problem}); {again}") from error
    for label, refined in recorded.items():
        if label not in fresh or not _belongs(refined, fresh[label], wanted[label][1]):
            raise DataError(f"{path}: {label!r} is not refined so in {path.parent}; {again}")
    return {**fresh, **recorded}


def _fresh(parameter: str, wanted: StrengthRange) -> Refined:
    return Refined(
        parameter=parameter,
        points=wanted.strengths,
        threshold=wanted.threshold,
        ended="" if wanted.refine else "no further strengths are asked for",
    )


def _belongs(refined: Refined, fresh: Refined, wanted: StrengthRange) -> bool:
    """Return whether what was recorded can have come from this range."""
    strengths = [step.strength for step in refined.added]
    return (
        refined.model_copy(update={"added": (), "ended": fresh.ended}) == fresh
        and len(strengths) <= wanted.refine
        and len({*strengths, *refined.points}) == len(strengths) + wanted.points
        and all(wanted.start < strength < wanted.end for strength in strengths)
    )
