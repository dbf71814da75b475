"""The schema of results: what one row says, and the values per user behind it.

Pure declarations, so that whatever produces or reads a number agrees on its meaning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

SCHEMA_VERSION = 1
NAN = float("nan")

Kind = Literal["federated", "anchor"]
Protocol = Literal["full", "sampled", "popularity", ""]
Better = Literal["higher", "lower"]
Side = Literal["utility", "privacy", "robustness", "cost"]
Status = Literal["ok", "not applicable", "skipped", "failed"]
_CHOICES = {"kind": Kind, "protocol": Protocol, "better": Better, "side": Side, "status": Status}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number about one trained cell, or the reason why there is none.

    Attributes:
        run: name of the run folder.
        cell: identity of the cell: training, inference attacks, seed.
        training: key of everything that affected training; cells may share one.
        scenario_hash: hash of the resolved scenario.
        data_hash: hash of the prepared data.
        dataset: name of the data set.
        system: label of the system or of the anchor.
        kind: ``federated`` for a system under test, ``anchor`` for a reference in the same table.
        poisoning: label of the poisoning attack inside the training, or ``none``.
        attack: label of the attack that this row measures: the poisoning one in robustness rows,
            an inference attack in privacy rows, ``none`` in utility and cost rows.
        defense: label of the defence arm, or ``none``.
        defense_family: name of the plug-in or plug-ins; arms of one family make up a sweep.
        strength: the arm's strength; NaN if it has none.
        strength_name: what the strength is: ``sigma``, ``epsilon``, ``trim``.
        threat_model: who the adversary is, what it sees and knows, in words.
        malicious: fraction of clients that are malicious, 0 to 1.
        noisy: fraction of clients that are noisy, 0 to 1.
        seed: root seed of the training.
        metric: what was measured, for example ``hr``, ``hit1_all``, ``er``, ``auc``, ``top1``.
        k: cut-off of a ranking metric; 0 where there is none.
        protocol: ``full`` ranking, or among candidates drawn uniformly (``sampled``) or by
            ``popularity``; empty where it does not apply.
        value: the number; NaN where it could not be measured.
        low: lower bound of its interval over users within this seed.
        high: upper bound.
        n: users, items or releases behind the number.
        chance: what guessing would reach; NaN where there is no such level.
        better: the direction that is better for the *user and the defender*: ``higher`` for HR and
            for the rank an attacker needs, ``lower`` for an attack's AUC or ER@K.
        side: which question the row answers.
        status: ``ok``, or why there is no number.
        reason: one sentence; required unless the status is ``ok``.
        seconds: time this row's stage took.
        peak_memory_mb: peak resident memory, mebibytes.
        epsilon: claimed privacy budget; infinite or NaN means that nothing is claimed.
        delta: its delta.
    """

    run: str
    cell: str
    system: str
    metric: str
    side: Side
    better: Better
    training: str = ""
    scenario_hash: str = ""
    data_hash: str = ""
    dataset: str = ""
    kind: Kind = "federated"
    poisoning: str = "none"
    attack: str = "none"
    defense: str = "none"
    defense_family: str = "none"
    strength: float = NAN
    strength_name: str = ""
    threat_model: str = ""
    malicious: float = 0.0
    noisy: float = 0.0
    seed: int = 0
    k: int = 0
    protocol: Protocol = ""
    value: float = NAN
    low: float = NAN
    high: float = NAN
    n: int = 0
    chance: float = NAN
    status: Status = "ok"
    reason: str = ""
    seconds: float = NAN
    peak_memory_mb: float = NAN
    epsilon: float = NAN
    delta: float = NAN
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for name, choice in _CHOICES.items():
            if getattr(self, name) not in get_args(choice):
                allowed = ", ".join(repr(c) for c in get_args(choice))
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if self.status != "ok" and not self.reason:
            raise ValueError(f"a row with status {self.status!r} needs a reason")
        if math.isinf(self.value):
            raise ValueError(f"{self.metric} is infinite; a value is finite or NaN with a reason")


@dataclass(frozen=True, kw_only=True)
class SampleBlock:
    """One metric's values per unit (user, item, release), so that differences can be paired.

    Attributes:
        cell: the row's cell.
        attack: the row's attack, ``none`` for utility.
        metric: the row's metric.
        k: the row's cut-off.
        protocol: the row's protocol.
        units: ids of the units; the same id means the same user or item in every cell.
        values: one value per unit; NaN where the metric does not exist for the unit.
    """

    cell: str
    metric: str
    units: Int[np.ndarray, " unit"]
    values: Float[np.ndarray, " unit"]
    attack: str = "none"
    k: int = 0
    protocol: Protocol = ""
