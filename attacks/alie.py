"""A Little Is Enough: malicious clients send the benign mean shifted by z standard deviations.

Baruch, Baruch and Goldberg, NeurIPS 2019, arXiv:1902.06156, section 3 and algorithm 3: of n
clients f are malicious; s = ⌊n/2 + 1⌋ − f benign supporters make a majority, so
z = Φ⁻¹((n − f − s)/(n − f)), and each coordinate is sent as mean + z·std.

Differs from the paper: (1) n and f are counted in the round's cohort, for the flat update, and the
same z serves every item row. (2) Item rows travel sparsely: mean and std of a row are over its
senders only (touch-aware), and every malicious client sends every row that a sender in the sample
sent; a row with one sender has std 0, so its mean is sent. (3) ``std`` has n − 1 in the
denominator. (4) When attackers are a majority (s < 1), s is taken as 1, the largest finite z; when
they are few, the formula can give z ≤ 0 (n = 10, f = 2 gives 0: the plain mean, no attack) and is
used as it stands; ``z`` fixes the value instead (1.5 is what ByzFL fixes). (5) The paper's
attackers estimate the moments from the malicious clients' own honest updates (``knowledge: own``);
the default reads the benign updates, the worst case.

Threat model: colluding malicious clients that deviate from the protocol and know n and f of the
round; see (5) for what they read. With an empty sample the honest updates are left as they are.

Cost: one pass over the cohort's message; the row axis widens to the items in the sample.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, Literal, TypeVar, cast

from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from attacks.crafted_rows import moments, replace_dense, replace_rows
from harness.core.attack import AttackContext, PoisoningAttack
from harness.core.messages import Message, ModelUpdate
from harness.core.observe import ThreatModel, View
from harness.core.params import Paper, Params
from harness.core.registry import ATTACKS
from harness.core.seeds import Seeds

M = TypeVar("M", bound=Message)

OMNISCIENT = ThreatModel(
    adversary="client",
    sees=frozenset({"messages"}),
    acts=True,
    words=(
        "Colluding malicious clients read the round's benign updates and hide a common shift "
        "inside their spread (worst case)."
    ),
)
OWN = ThreatModel(
    adversary="client",
    sees=frozenset(),
    acts=True,
    words=(
        "Colluding malicious clients estimate the benign spread from their own honest updates and "
        "hide a common shift inside it."
    ),
)


def quantile_shift(num_clients: int, num_malicious: int) -> float:
    """Return the paper's z for a cohort (equation for z_max in section 3.2), s at least 1.

    Args:
        num_clients: n, malicious ones included.
        num_malicious: f, ``0 <= f <= n − 2``.
    """
    benign = num_clients - num_malicious
    supporters = max(1, num_clients // 2 + 1 - num_malicious)
    share = (benign - supporters) / benign
    return NormalDist().inv_cdf(share) if share > 0 else 0.0


@ATTACKS.register("alie")
class Alie(PoisoningAttack):
    """See the module docstring."""

    paper = Paper("arXiv:1902.06156", "reimplementation")
    reads = (ModelUpdate,)
    threat_model = OMNISCIENT

    class Config(Params):
        """Parameters of ALIE."""

        z: float | None = Field(
            None, ge=-100, le=100, description="standard deviations; null takes the paper's formula"
        )
        knowledge: Literal["omniscient", "own"] = Field(
            "omniscient", description="whose updates give mean and std: benign, or the malicious"
        )

    def __init__(self, config: Params | None = None, **values: Any) -> None:
        super().__init__(config, **values)
        if self.config.knowledge == "own":
            # What the adversary sees depends on the configuration, so the instance says so.
            self.threat_model = OWN  # pyright: ignore[reportAttributeAccessIssue]

    def check(self, cohort_size: int, malicious_fraction: float) -> list[str]:
        """Warn where the formula leaves an average round without an attack."""
        malicious = round(cohort_size * malicious_fraction)
        shift = self._shift(cohort_size, malicious)
        if self.config.z is not None or malicious == 0 or shift > 0:
            return []
        return [
            f"the paper's z is {shift:.2f} with {malicious} malicious of {cohort_size} clients a "
            "round, which is no attack: give z"
        ]

    def craft(
        self,
        view: View,
        message: M,
        malicious: Bool[Tensor, " row"],
        context: AttackContext,
        seeds: Seeds,
    ) -> M:
        """Return the message where all malicious clients send mean + z·std."""
        assert isinstance(message, ModelUpdate)
        sample = malicious if self.config.knowledge == "own" else ~malicious
        if not bool(malicious.any()) or not bool(sample.any()):
            return cast("M", message)
        shift = self._shift(len(message), int(malicious.sum()))
        # The view, not the argument, is what grants the benign clients' updates.
        readable = message if self.config.knowledge == "own" else view.messages()[-1][1]
        seen = moments(cast("ModelUpdate", readable).select(sample))
        dense = {name: mean + shift * std for name, (mean, std) in seen.dense.items()}
        crafted = replace_dense(message, malicious, dense)
        rows = seen.mean + shift * seen.std
        return cast("M", replace_rows(crafted, malicious, seen.item_ids, rows))

    def _shift(self, num_clients: int, num_malicious: int) -> float:
        if self.config.z is not None:
            return self.config.z
        if num_clients - num_malicious < 2:
            return 0.0
        return quantile_shift(num_clients, num_malicious)
