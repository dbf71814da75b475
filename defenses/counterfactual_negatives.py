"""Counterfactual negatives: how strongly LUMOS's inconsistent view repels, or not at all.

LUMOS, arXiv:2602.09306, section 3: the counterfactual sequence S_u^N stands only in the
denominator Z_u of the tri-view contrastive loss [digest-A].

Differs from the paper: its term in Z_u is multiplied by ``weight``; 1 is the published system, 0
leaves the view out, larger values push harder [ours]. The paper uses the view for learning and
claims robustness without server-side protection; it claims no privacy for it.

Guarantee: none. The view's items do travel in the update as cover rows, but a row's norm still
tells them apart, so expect no protection against row-norm and span attacks.

Cost: none beyond the system's own.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from harness.core.defense import DataPlan, Defense
from harness.core.messages import ModelUpdate
from harness.core.params import Paper, Params
from harness.core.registry import DEFENSES


@DEFENSES.register("counterfactual_negatives")
class CounterfactualNegatives(Defense):
    """See the module docstring."""

    paper = Paper("arXiv:2602.09306", "reimplementation")
    reads = (ModelUpdate,)
    strength = "weight"
    needs = frozenset({"counterfactual view"})

    class Config(Params):
        """Parameters of the counterfactual negatives."""

        weight: float = Field(
            1.0, ge=0, le=1e6, description="factor on the view's term in Z; 1 as published, 0 off"
        )

    def on_data(self, plan: DataPlan) -> DataPlan:
        """Return the plan with this weight."""
        return replace(plan, counterfactual_weight=self.config.weight)
