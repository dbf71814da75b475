"""One cell of a scenario: a system on a data set, one defence, one poisoning attack, one seed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from harness.arms import Arm
from harness.core.attack import PoisoningAttack
from harness.core.device import ON_CPU, Arithmetic
from harness.core.params import Params
from harness.core.registry import ATTACKS
from harness.plugins import PluginSpec
from harness.reading.paths import as_written
from harness.settings import Evaluation, Limits, Record, Targets

TRAINING_FORMAT = 2
"""Part of every training key; raised when the meaning of a key changes."""


class Noisy(Params):
    """Noisy clients of one cell; rate 0 where there are none."""

    fraction: float
    rate: float
    kind: Literal["item_replacement", "item_drop", "shuffle"]


class Cell(Params):
    """Everything one cell needs, in JSON's types, so that it can go to another process.

    Attributes:
        id: readable, with a short hash of all the rest.
        training: SHA-256 of all that affects the training and of nothing else; cells that share it
            share the training.
        system: the system under test, or an anchor.
        anchor: whether it is an anchor (no federation, no attack, no defence).
        dataset_label: label of its data set.
        dataset: configuration of the data set.
        target_domain_only: whether an anchor runs on the target domain of a two-domain data set.
        defense: the arm.
        poisoning: the attack that takes part in the training.
        inference: attacks on the transcript.
        noisy: noisy clients.
        malicious: fraction of malicious clients; 0 where nothing is poisoned.
        eval_excluded: largest malicious and largest noisy fraction below 1 in the scenario: users
            within either are evaluated in no cell, so that all cells share their users.
        seed: root seed.
        language: whether the language stage is trained, where the system has one.
        targets: items that targeted attacks promote.
        evaluation: what is measured.
        record: what the transcript keeps.
        limits: when the run fails.
        arithmetic: device and number format; part of both keys unless it is the default.
    """

    id: str
    training: str
    system: PluginSpec
    anchor: bool
    dataset_label: str
    dataset: dict[str, Any]
    target_domain_only: bool
    defense: Arm
    poisoning: PluginSpec | None
    inference: tuple[PluginSpec, ...]
    noisy: Noisy
    malicious: float
    eval_excluded: tuple[float, float]
    seed: int
    language: bool
    targets: Targets
    evaluation: Evaluation
    record: Record
    limits: Limits
    arithmetic: Arithmetic = ON_CPU

    @property
    def trains_language(self) -> bool:
        """Whether this cell trains a language stage, which takes minutes."""
        return self.language and bool(self.system.params.get("language_stage", False))

    @property
    def stress(self) -> bool:
        """Whether no client is honest, so that metrics on honest users are not applicable."""
        return self.malicious >= 1 or self.noisy.fraction >= 1


class NotRun(Params):
    """A combination that is not run, and why; the report shows it.

    Attributes:
        system: label.
        dataset_label: label.
        defense: label of the arm; empty where it holds for every arm.
        attack: label; empty where it holds for every attack.
        part: what is not run.
        status: whether it makes no sense or was left out.
        reason: in words.
    """

    system: str
    dataset_label: str
    defense: str = ""
    attack: str = ""
    part: Literal["attack", "defense", "cell", "language stage"]
    status: Literal["not applicable", "skipped"]
    reason: str


def canonical(data: Any) -> str:
    """Return JSON that does not depend on the order of keys."""
    return json.dumps(data, sort_keys=True, ensure_ascii=False, allow_nan=False)


def digest(data: Any) -> str:
    """Return the SHA-256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical(data).encode()).hexdigest()


def make_cell(written: Mapping[str, str], **fields: Any) -> Cell:
    """Return a cell with its training key and its id filled in.

    Args:
        written: absolute path to the form in which it is part of the keys, wherever data lie.
        fields: those of :class:`Cell` without ``id`` and ``training``.
    """
    draft = Cell(id="", training="", **fields)
    draft = draft.model_copy(update={"training": training_key(draft, written)})
    content = draft.model_dump(mode="json")
    if draft.arithmetic == ON_CPU:
        del content["arithmetic"]
    name = [
        draft.system.label,
        draft.dataset_label,
        draft.defense.label,
        draft.poisoning.label if draft.poisoning else "clean",
        f"m{draft.malicious * 100:g}",
        f"n{draft.noisy.fraction * 100:g}",
        f"s{draft.seed}",
    ]
    words = re.sub(r"[^a-z0-9._]+", "-", "-".join(name).lower()).strip("-.")[:90]
    return draft.model_copy(update={"id": f"{words}-{digest(as_written(content, written))[:8]}"})


def training_key(cell: Cell, written: Mapping[str, str]) -> str:
    """Return the SHA-256 of what affects the training: no label, no attack that only reads.

    Args:
        cell: with absolute paths.
        written: absolute path to the form that counts.
    """
    poisoning: dict[str, Any] | None = None
    if cell.poisoning is not None:
        attack = ATTACKS.get(cell.poisoning.use)
        targeted = issubclass(attack, PoisoningAttack) and attack.targeted
        poisoning = {
            **_plugin(cell.poisoning),
            "malicious": cell.malicious,
            "targets": cell.targets.model_dump(mode="json") if targeted else None,
        }
    content = {
        "format": TRAINING_FORMAT,
        "dataset": cell.dataset,
        "target_domain_only": cell.target_domain_only,
        "system": _plugin(cell.system),
        "defense": [_plugin(part) for part in cell.defense.parts],
        "poisoning": poisoning,
        "noisy": cell.noisy.model_dump(mode="json") if cell.noisy.fraction else None,
        "seed": cell.seed,
        "language": cell.language,
        **({} if cell.limits.norm_ratio is None else {"norm_ratio": cell.limits.norm_ratio}),
        **({} if cell.arithmetic == ON_CPU else {"arithmetic": list(cell.arithmetic)}),
    }
    return digest(as_written(content, written))


def _plugin(spec: PluginSpec) -> dict[str, Any]:
    return {"use": spec.use, "params": spec.params}
