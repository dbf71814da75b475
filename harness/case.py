"""One cell made ready to train: data, roles, system, adversary, and the truth kept aside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.assets import resolve
from harness.cells import Cell, canonical
from harness.core.attack import InferenceAttack, PoisoningAttack
from harness.core.audit import Audit
from harness.core.registry import ATTACKS, DEFENSES, SYSTEMS
from harness.core.seeds import Seeds
from harness.core.system import Resources, System
from harness.fed.auditing import toss
from harness.fed.population import Roles, assign_roles, corrupt
from harness.fed.recorder import Recorder, recorded_rounds
from harness.fed.training import Threat, Training
from harness.inputs import Inputs, local_models
from harness.plugins import PluginSpec, build
from harness.prepared import Prepared, prepared_data, require_texts
from harness.targets import chosen_targets
from harness.truth import Truth


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


def build_case(cell: Cell, cache: Path, progress: Callable[[str], None]) -> Case:
    """Make ``cell`` ready: the same cell gives the same case in every process."""
    data = prepared_data(canonical(cell.dataset))
    seeds = Seeds(cell.seed)
    system = build(SYSTEMS, _system_spec(cell))
    require_texts(system, data.domains, cell.system.label)
    roles, uploads = _roles(cell, system, data, seeds)
    noisy = corrupt(
        data.domains[0], roles.noisy, cell.noisy.kind, cell.noisy.rate, seeds.child("noise")
    )
    domains = system.trained((noisy, *data.domains[1:]))
    targets = chosen_targets(cell, noisy, seeds)
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
