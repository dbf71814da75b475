"""One cell made ready to train: data, roles, system, adversary, and the truth kept aside."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from harness.assets import resolve
from harness.cells import Cell, canonical
from harness.core.attack import InferenceAttack, PoisoningAttack
from harness.core.audit import Audit
from harness.core.errors import DataError, ScenarioError
from harness.core.registry import ATTACKS, DEFENSES, SYSTEMS
from harness.core.seeds import Seeds
from harness.core.system import Domain, Resources, System
from harness.data import (
    DatasetConfig,
    Interactions,
    leave_one_out,
    load,
    load_domains,
    statistics,
)
from harness.fed.auditing import toss
from harness.fed.population import Roles, assign_roles, corrupt, popularity
from harness.fed.recorder import Recorder, recorded_rounds
from harness.fed.training import Threat, Training
from harness.inputs import Inputs, Stamp, data_paths, local_models, stamp_of
from harness.plugins import PluginSpec, build
from harness.truth import Truth

DATA_SEED = 0
"""Data sets are cut the same way under every scenario seed, so that users pair across seeds."""


@dataclass(frozen=True)
class Case:
    """A cell ready to train.

    Attributes:
        training: what the loop runs.
        resources: what the system's setup is given.
        inference: inference attacks by label.
        truth: for the scorer only.
        data_hash: hash of the prepared data.
    """

    training: Training
    resources: Resources
    inference: dict[str, InferenceAttack]
    truth: Truth
    data_hash: str

    def inputs(self) -> Inputs:
        """What the cell is made from, by content."""
        return Inputs(self.data_hash, local_models(self.training.system.assets().values()))


@dataclass(frozen=True)
class Prepared:
    """Split domains before any noise.

    Attributes:
        domains: training data, target first.
        test: held-out item of each target user.
        data_hash: hash of the content.
        figures: statistics of each domain.
    """

    domains: tuple[Domain, ...]
    test: np.ndarray
    data_hash: str
    figures: tuple[dict[str, int | float | str], ...]


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
    )


def _split(data: Interactions) -> tuple[Domain, np.ndarray]:
    split = leave_one_out(data)
    if not len(split.train):
        raise DataError(f"data set {data.name!r}: no user has the three events a split needs")
    texts = data.item_text if data.item_text is not None else data.titles
    domain = Domain(
        name=data.name,
        histories=tuple(split.train),
        titles=tuple(data.titles),
        item_text=tuple(texts),
        validation=np.asarray(split.validation),
        categories=tuple(data.item_attributes or ()),
    )
    return domain, np.asarray(split.test)


def build_case(cell: Cell, cache: Path, progress: Callable[[str], None]) -> Case:
    """Make ``cell`` ready: the same cell gives the same case in every process."""
    data = prepared_data(canonical(cell.dataset))
    seeds = Seeds(cell.seed)
    system = build(SYSTEMS, _system_spec(cell))
    roles, uploads = _roles(cell, system, data, seeds)
    noisy = corrupt(
        data.domains[0], roles.noisy, cell.noisy.kind, cell.noisy.rate, seeds.child("noise")
    )
    domains = system.trained((noisy, *data.domains[1:]))
    targets = _targets(cell, noisy, seeds)
    attack = build(ATTACKS, cell.poisoning) if cell.poisoning else None
    assert attack is None or isinstance(attack, PoisoningAttack)
    adversary = uploads if system.client_unit == "domain" else roles
    coins = toss(noisy.num_users, seeds) if isinstance(attack, Audit) else None
    training = Training(
        system=system,
        domains=domains,
        defenses=tuple(build(DEFENSES, part) for part in cell.defense.parts),
        threat=Threat(attack, adversary, targets, coins),
        recorder=Recorder(
            recorded_rounds(cell.record.rounds, system.num_rounds()),
            cell.record.clients,
            seeds.child("recorded clients"),
        ),
        reject_share=cell.limits.reject_share,
        refused_rounds=cell.limits.refused_rounds,
        norm_ratio=cell.limits.norm_ratio,
        seeds=seeds.child("training"),
        progress=progress,
        arithmetic=cell.arithmetic,
    )
    excluded = assign_roles(noisy.num_users, *cell.eval_excluded, seeds)
    truth = Truth(
        domain=noisy,
        clean=data.domains[0].histories,
        test=data.test,
        evaluated=np.flatnonzero(
            ~excluded.malicious & ~excluded.noisy & (data.test >= 0) & ~_all(cell, roles)
        ),
        victims=~roles.malicious & ~roles.noisy,
        honest_uploads=~uploads.malicious,
        categories=tuple(kinds for domain in domains for kinds in domain.categories),
        targets=targets if _targeted(cell) else (),
        coins=coins,
    )
    resources = Resources(
        paths={role: str(resolve(ref)) for role, ref in system.assets().items()},
        cache=cache,
        progress=progress,
        device=cell.arithmetic.device,
    )
    return Case(training, resources, _inference(cell), truth, data.data_hash)


def _inference(cell: Cell) -> dict[str, InferenceAttack]:
    """Return the attacks on the transcript, by label."""
    attacks: dict[str, InferenceAttack] = {}
    for spec in cell.inference:
        attack = build(ATTACKS, spec)
        assert isinstance(attack, InferenceAttack)
        attacks[spec.label] = attack
    return attacks


def model_references(cell: Cell) -> set[str]:
    """Return the models that a cell needs, as its scenario names them."""
    return set(build(SYSTEMS, _system_spec(cell)).assets().values())


def _system_spec(cell: Cell) -> PluginSpec:
    """Return the system with its language stage switched off where the plan leaves it out."""
    if "language_stage" not in cell.system.params or cell.language:
        return cell.system
    return cell.system.model_copy(
        update={"params": {**cell.system.params, "language_stage": False}}
    )


def _all(cell: Cell, roles: Roles) -> np.ndarray:
    """In a stress run with 100 % malicious clients nobody is left to evaluate."""
    return roles.malicious if cell.malicious >= 1 else np.zeros_like(roles.malicious)


def _targeted(cell: Cell) -> bool:
    """Whether exposure is measured: under a targeted attack, and without attack as its baseline."""
    if cell.anchor:
        return False
    attack = ATTACKS.get(cell.poisoning.use) if cell.poisoning else None
    return attack is None or getattr(attack, "targeted", False)


def _roles(cell: Cell, system: System, data: Prepared, seeds: Seeds) -> tuple[Roles, Roles]:
    """Return the users' roles and the uploaded vectors'.

    In a cross-silo system the malicious fraction is a share of the source domain's uploads; its
    users are never malicious.
    """
    malicious = cell.malicious if cell.poisoning else 0.0
    sizes = [domain.num_items for domain in data.domains]
    by_user = system.client_unit == "user"
    users = assign_roles(
        data.domains[0].num_users, malicious if by_user else 0.0, cell.noisy.fraction, seeds
    )
    crafted = np.zeros(sum(sizes), dtype=bool)
    if not by_user and len(sizes) > 1:
        source = assign_roles(sizes[1], malicious, 0.0, seeds.child("uploads"))
        crafted[sizes[0] : sizes[0] + sizes[1]] = source.malicious
    return users, Roles(crafted, np.zeros_like(crafted))


def _targets(cell: Cell, domain: Domain, seeds: Seeds) -> tuple[int, ...]:
    """Choose the items that targeted attacks promote."""
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


def check_against_data(cell: Cell) -> Prepared:
    """Return the cell's data, or raise for settings that it cannot carry, before any training."""
    data = prepared_data(canonical(cell.dataset))
    num_items = data.domains[0].num_items
    largest = max(cell.evaluation.k)
    if largest > num_items:
        raise ScenarioError(
            f"evaluation.k: {largest} is larger than the catalogue of {num_items} items "
            f"({data.domains[0].name})"
        )
    longest = max(len(h) for h in data.domains[0].histories)
    if cell.evaluation.candidates > num_items - longest - 2:
        raise ScenarioError(
            f"evaluation.candidates: {cell.evaluation.candidates} candidates cannot be drawn from "
            f"{num_items} items for a user who has had {longest + 1} of them"
        )
    return data
