"""Data sets as cells use them, read once a process, and checked against what the cells ask."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from harness.cells import Cell, canonical
from harness.core.errors import DataError, ScenarioError
from harness.core.registry import SYSTEMS
from harness.core.seeds import Seeds
from harness.core.system import Domain, System
from harness.data import (
    DatasetConfig,
    Interactions,
    leave_one_out,
    load,
    load_domains,
    statistics,
)
from harness.data.remarks import item_texts, remarks
from harness.inputs import Stamp, data_paths, stamp_of
from harness.plugins import build
from harness.targets import chosen_targets

DATA_SEED = 0
"""Data sets are cut the same way under every scenario seed, so that users pair across seeds."""
MOST_WITHOUT_TEXT = 0.5
"""Above this share of items without text, a system that reads texts is not run."""


@dataclass(frozen=True)
class Prepared:
    """Split domains before any noise.

    Attributes:
        domains: training data, target first.
        test: held-out item of each target user.
        data_hash: hash of the content.
        figures: statistics of each domain.
        remarks: what was guessed, changed or left out when each domain was read.
    """

    domains: tuple[Domain, ...]
    test: np.ndarray
    data_hash: str
    figures: tuple[dict[str, int | float | str], ...]
    remarks: tuple[tuple[str, ...], ...] = ()

    def remarks_in_words(self) -> tuple[str, ...]:
        """Every remark, with the name of what it is on."""
        named = zip(self.figures, self.remarks, strict=True)
        return tuple(f"{figures['name']}: {said}" for figures, some in named for said in some)


def prepared_data(config_json: str) -> Prepared:
    """Load, filter and split a data set; kept for the next cells while its files do not change."""
    return _prepared(config_json, stamp_of(data_paths(json.loads(config_json))))


@lru_cache(maxsize=4)
def _prepared(config_json: str, stamp: Stamp) -> Prepared:
    del stamp  # part of the key alone: changed files are read again
    config = DatasetConfig.model_validate_json(config_json)
    if config.domains is not None:
        parts = load_domains(config, DATA_SEED)
    else:
        parts = (load(config, DATA_SEED),)
    domains: list[Domain] = []
    tests: list[np.ndarray] = []
    for part in parts:
        domain, test = _split(part)
        domains.append(domain)
        tests.append(test)
    return Prepared(
        domains=tuple(domains),
        test=tests[0],
        data_hash="+".join(part.sha256 for part in parts),
        figures=tuple(statistics(part) for part in parts),
        remarks=tuple(remarks(part) for part in parts),
    )


def _split(data: Interactions) -> tuple[Domain, np.ndarray]:
    split = leave_one_out(data)
    if not len(split.train):
        raise DataError(f"data set {data.name!r}: no user has the three events a split needs")
    domain = Domain(
        name=data.name,
        histories=tuple(split.train),
        titles=tuple(data.titles),
        item_text=tuple(item_texts(data)),
        validation=np.asarray(split.validation),
        categories=tuple(data.item_attributes or ()),
    )
    return domain, np.asarray(split.test)


def check_against_data(cell: Cell) -> Prepared:
    """Return the cell's data, or raise for settings that it cannot carry, before any training.

    Raises:
        DataError: the data can't be used, or the system reads texts that are not there.
        ScenarioError: a setting asks for more items than there are, or for one that is not there.
    """
    data = prepared_data(canonical(cell.dataset))
    require_texts(build(SYSTEMS, cell.system), data.domains, cell.system.label)
    num_items = data.domains[0].num_items
    largest = max(cell.evaluation.k)
    if largest > num_items:
        raise ScenarioError(
            f"evaluation.k: {largest} is larger than the catalogue of {num_items} items "
            f"({data.domains[0].name})"
        )
    _check_candidates(cell.evaluation.candidates, data)
    chosen_targets(cell, data.domains[0], Seeds(cell.seed))
    return data


def _check_candidates(count: int, data: Prepared) -> None:
    """Make sure that every user has enough items left to draw candidates from.

    Items are counted, not events: who plays ten songs a thousand times has had ten of them.
    """
    domain = data.domains[0]
    ends = zip(domain.histories, domain.validation, data.test, strict=True)
    most = max(len(np.union1d(history, [known, test])) for history, known, test in ends)
    if count - 1 > domain.num_items - most:
        raise ScenarioError(
            f"evaluation.candidates: {count} candidates cannot be drawn from {domain.num_items} "
            f"items for a user who has had {most} of them, the test item included"
        )


def require_texts(system: System, domains: Sequence[Domain], label: str) -> None:
    """Refuse to run a system that reads texts on items without any.

    Without texts all items look alike to it, so that its attacks fail for no merit of a defence.

    Raises:
        DataError: most items of a domain have no text.
    """
    if not system.reads_text():
        return
    for domain in domains:
        empty = sum(not text.strip() for text in domain.item_text)
        if empty > MOST_WITHOUT_TEXT * domain.num_items:
            raise DataError(
                f"{label} reads the texts of items, and {empty:,} of the {domain.num_items:,} "
                f"items of {domain.name!r} have none: give them titles (an item file, or metadata)"
            )
