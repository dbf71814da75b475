"""Rule 6 for each defence: how much utility a setting in use may cost, and what it then costs.

| defence | setting | budget |
|---|---|---|
| trimmed_mean | trim 0.25, touched rows | 20 %, on MovieLens 10 % |
| dp_fedavg | noise 0.02, clip 10, server rate 4: the utility end of its frontier | 30 % |
| local_dp | noise 0.0003, clip 10: the same | 40 % |
| counterfactual_negatives | weight 0 | 10 % |
| replacement | σ = 0.1, the paper's | 5 % |

A budget holds for the lower bound of the interval, so on the few users of the smoke data it is
wider than the loss. Utility is how far a user's test item stands above the middle of their list, −1
to 1 and 0 by chance, so that what is kept is kept above chance. Local DP pays a price that is not
the noise's: every client sends every row, so LUMOS's mean over a row's senders becomes one over the
cohort, and a quarter of the utility is gone at any noise. At noise that means something both lose
it, which ``test_the_budget_can_be_exceeded`` shows, and that the rule can fail.
"""

from __future__ import annotations

import numpy as np
import pytest

from defenses.counterfactual_negatives import CounterfactualNegatives
from defenses.dp_fedavg import DPFedAvg
from defenses.local_dp import LocalDP
from defenses.replacement import Replacement
from defenses.trimmed_mean import TrimmedMean
from harness.core.defense import Defense
from harness.core.registry import DEFENSES
from harness.metrics.privacy import audited_epsilon, gaussian_accuracy, reconstruction_bound
from harness.plugins import load_plugins
from harness.strength import TooWeak, require_power, require_utility
from tests.strength.bench import Bench

BUDGETS: tuple[tuple[Defense, float], ...] = (
    (TrimmedMean(trim=0.25), 0.20),
    (
        DPFedAvg(epsilon=None, noise_multiplier=0.02, clip_norm=10.0, server_learning_rate=4.0),
        0.30,
    ),
    (LocalDP(noise_multiplier=3e-4, clip_norm=10.0), 0.40),
    (CounterfactualNegatives(weight=0.0), 0.10),
)


@pytest.mark.parametrize(("defense", "loss"), BUDGETS, ids=lambda v: getattr(v, "name", ""))
def test_utility_stays_in_its_budget(defense: Defense, loss: float, smoke: Bench) -> None:
    undefended = smoke.utility((), needed=(defense,))
    require_power(undefended, 0.0)
    require_utility(smoke.utility((defense,)), undefended, loss)


@pytest.mark.parametrize(
    "defense",
    [
        DPFedAvg(epsilon=None, noise_multiplier=30.0, clip_norm=1.0),
        LocalDP(noise_multiplier=10.0, clip_norm=1.0),
    ],
    ids=lambda d: d.name,
)
def test_the_budget_can_be_exceeded(defense: Defense, smoke: Bench) -> None:
    with pytest.raises(TooWeak):
        require_utility(smoke.utility((defense,)), smoke.utility(()), 0.25)


@pytest.mark.slow
@pytest.mark.realdata
def test_replacement_keeps_stage_one(real: Bench) -> None:
    undefended = [real.text.utility((), seed) for seed in real.seeds]
    require_power(undefended, 0.0)
    defended = [real.text.utility((Replacement(sigma=0.1),), seed) for seed in real.seeds]
    require_utility(defended, undefended, 0.05)


@pytest.mark.slow
@pytest.mark.realdata
def test_trimming_keeps_utility_on_real_histories(real: Bench) -> None:
    undefended = real.utility(())
    require_power(undefended, 0.0)
    require_utility(real.utility((TrimmedMean(trim=0.25),)), undefended, 0.10)


def test_every_defence_has_a_budget() -> None:
    load_plugins()
    named = {defense.name for defense, _ in BUDGETS} | {Replacement.name}
    assert named == {n for n, c in DEFENSES if c.__module__.startswith("defenses.")}


def test_the_closed_forms_by_hand() -> None:
    # attacks-defences, section 3.1: D = 5.67, s = 2 gives P(swap) = 0.0781.
    assert gaussian_accuracy(5.67, 2.0) == pytest.approx(1 - 0.0781, abs=1e-3)
    assert gaussian_accuracy(0.0, 1.0) == 0.5
    assert reconstruction_bound(0.01, 0.0) == pytest.approx(0.01)
    assert reconstruction_bound(0.5, 2.0) == pytest.approx(0.97725, abs=1e-5)
    assert np.isnan(audited_epsilon(np.ones(1), np.zeros(9), 1e-5))
