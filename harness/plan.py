"""What a scenario runs: its cells, what is not run and why, and warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.cells import Cell, Noisy, NotRun, make_cell
from harness.grid import Combination, attacks_of, doubts_of, grid_of, language_trained
from harness.reading.references import NONE
from harness.scenario import Scenario

__all__ = ["Cell", "NotRun", "Plan", "expand", "warnings_of"]


class Plan(NamedTuple):
    """A scenario, expanded.

    Attributes:
        cells: in the order in which they run; all of one seed before the next.
        not_run: combinations that make no sense or were left out.
        warnings: what a reader of the results should know beforehand.
    """

    cells: tuple[Cell, ...]
    not_run: tuple[NotRun, ...]
    warnings: tuple[str, ...]

    @property
    def trainings(self) -> int:
        """Number of distinct trainings."""
        return len({cell.training for cell in self.cells})


def expand(scenario: Scenario, added: Mapping[str, Sequence[float]] | None = None) -> Plan:
    """Expand a scenario into cells.

    Cells without an attack come once for each noisy fraction, with no malicious client; a malicious
    fraction of 0 gives no poisoned cell; anchors come once for each data set,
    noisy fraction and seed: they train on what the systems train on. Pairs that
    do not meet, or that the scenario leaves out, are returned with their reason.

    Args:
        scenario: as loaded.
        added: strengths that refinement put into ranges, by label of the defence.

    Raises:
        ScenarioError: a plug-in is not registered.
    """
    grid = grid_of(scenario, added)
    make = _maker(scenario)
    cells = tuple(
        make(combination, noisy, malicious, seed)
        for seed in scenario.seeds
        for combination in grid.combinations
        for noisy, malicious in combination.fractions(scenario)
    )
    return Plan(cells, grid.not_run, tuple(warnings_of(scenario)))


def _maker(scenario: Scenario) -> Callable[[Combination, float, float, int], Cell]:
    """Return what makes a cell; what all cells of a scenario share is worked out once."""
    noisy = scenario.clients.noisy
    shared = {
        "eval_excluded": _excluded(scenario),
        "targets": scenario.targets,
        "evaluation": scenario.evaluation,
        "record": scenario.record,
        "limits": scenario.limits,
        "arithmetic": scenario.compute.arithmetic(),
    }

    def make(one: Combination, noise: float, malicious: float, seed: int) -> Cell:
        dataset = scenario.datasets[one.dataset_label]
        attack = one.poisoning.label if one.poisoning else NONE
        return make_cell(
            scenario.written,
            system=one.system,
            anchor=one.anchor,
            dataset_label=one.dataset_label,
            dataset=dataset,
            target_domain_only=one.anchor and bool(dataset.get("domains")),
            defense=one.arm,
            poisoning=one.poisoning,
            inference=one.inference,
            noisy=Noisy(fraction=noise, rate=noisy.rate if noise else 0.0, kind=noisy.kind),
            malicious=malicious,
            seed=seed,
            language=language_trained(one.language, one.arm.label, attack, seed),
            **shared,
        )

    return make


def _excluded(scenario: Scenario) -> tuple[float, float]:
    fractions = (scenario.clients.malicious.fraction, scenario.clients.noisy.fraction)
    malicious, noisy = (max((f for f in fs if f < 1), default=0.0) for fs in fractions)
    return (malicious if attacks_of(scenario)[0] else 0.0), noisy


def warnings_of(scenario: Scenario) -> Iterator[str]:
    """Yield what a reader of the results should know beforehand."""
    poisoning, _ = attacks_of(scenario)
    malicious, noisy = scenario.clients.malicious.fraction, scenario.clients.noisy.fraction
    for what, fractions in (("malicious", malicious if poisoning else ()), ("noisy", noisy)):
        if any(fraction >= 1 for fraction in fractions):
            yield f"stress run: 100 % {what} clients; metrics on honest users are not applicable"
    if poisoning and not any(malicious):
        yield "poisoning attacks are listed but no client is malicious: no poisoned cell is run"
    if not poisoning and any(malicious):
        yield "malicious clients are declared but no attack poisons: every client is honest"
    if len(scenario.seeds) == 1:
        yield "one seed: intervals cover users only, and a gate stays inconclusive"
    for label, entry in scenario.systems.items():
        named = entry.language_cells.seeds if entry.language_cells else None
        if named and not set(named) & set(scenario.seeds):
            yield f"language_cells of {label} names no seed of the scenario: never trained"
    yield from doubts_of(scenario)
