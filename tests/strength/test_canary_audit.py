"""Canaries in the real loop: never above a true claim, and above it where a bug is planted.

What an audit cannot see is stated and tested as well: too much noise, a clip after the noise and
noise on sent rows alone under a full cohort leave nothing that a canary's direction would show,
and a server that does not clip is not seen while clients do.
"""

from __future__ import annotations

from typing import Any

import pytest

from defenses import clipping, local_dp
from defenses.dp_fedavg import DPFedAvg
from defenses.local_dp import LocalDP
from harness.core.defense import Defense
from tests.strength.bugs import BUGS, Bug
from tests.strength.canaries import DELTA, Proof, audit
from tests.strength.test_mutations import plant


def central(z: float = 2.0) -> Defense:
    return DPFedAvg(epsilon=None, noise_multiplier=z, clip_norm=0.5, delta=DELTA)


def local(z: float = 8.0) -> Defense:
    # A standard deviation of 64, so that its root is far less.
    return LocalDP(noise_multiplier=z, clip_norm=8.0, delta=DELTA)


def claim(proof: Proof) -> float:
    assert proof.budget is not None
    return proof.budget.epsilon


def named(part: Any) -> str:
    return part.name if isinstance(part, Bug) else part.__name__


def the(name: str, owner: object, function: str, new: str = "") -> Bug:
    """Return the planted bug of the list of mutations."""
    found = [b for b in BUGS if (b.name, b.owner, b.function) == (name, owner, function)]
    return next(b for b in found if new in b.new)


def test_without_noise_the_audit_has_power() -> None:
    proof = audit([central(0.0)])
    assert proof.budget is None and proof.bound > 3


@pytest.mark.slow
@pytest.mark.parametrize("defense", [central, local])
def test_a_true_claim_stands_and_a_fair_share_of_it_is_proved(defense) -> None:
    proofs = [audit([defense()], seed) for seed in range(3)]
    assert all(proof.bound <= claim(proof) for proof in proofs)
    assert max(proof.bound for proof in proofs) > 0.1 * claim(proofs[0])
    assert all(0.5 < proof.estimate / claim(proof) < 1.5 for proof in proofs)


SEEN = [
    (central, the("noise off", DPFedAvg, "on_server")),
    (local, the("noise off", local_dp, "add_noise")),
    (central, the("variance for std", DPFedAvg, "on_server", "std**2")),
    (local, the("variance for std", local_dp, "add_noise", "std**0.5")),
    (central, the("clip by tensor", clipping, "clip_update")),
    (local, the("clip by tensor", clipping, "clip_update")),
    (central, the("reused noise seed", DPFedAvg, "on_server")),
    (local, the("reused noise seed: clients", LocalDP, "on_client")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("defense", "bug"), SEEN, ids=named)
def test_the_audit_refutes_a_claim_with_a_planted_bug(
    defense, bug: Bug, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, bug)
    proof = audit([defense()])
    assert proof.bound > claim(proof)


NOT_SEEN = [
    # More noise than is claimed breaks no claim.
    (central, the("variance for std", DPFedAvg, "on_server", "std**0.5")),
    (local, the("variance for std", local_dp, "add_noise", "std**2")),
    # Scaling what is noisy already is post-processing.
    (central, the("clip after noise", DPFedAvg, "on_server")),
    (local, the("clip after noise", LocalDP, "on_client")),
    # Canaries pass the clients' clip; a client that does not is an attack, not a neighbour.
    (central, the("no clip at the server", DPFedAvg, "aggregate")),
    # Every row is sent by somebody, or by both neighbours alike.
    (central, the("noise only on touched rows", DPFedAvg, "on_server")),
    (local, the("noise only on touched rows", LocalDP, "on_client")),
    # The same noise in every round gives an unchanging update away no better.
    (local, the("reused noise seed: rounds", LocalDP, "on_client")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("defense", "bug"), NOT_SEEN, ids=named)
def test_what_the_audit_cannot_see_is_known(
    defense, bug: Bug, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, bug)
    proof = audit([defense()])
    assert proof.bound <= claim(proof)
