"""Opacus' accountants for Poisson-sampled Gaussian noise: budget to noise and back.

Registers nothing. Rényi (Mironov, Talwar and Zhang, arXiv:1908.10530) or PRV (Gopi, Lee and
Wutschitz, arXiv:2106.02848) accounting, as implemented by Opacus.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

from harness.core.errors import ScenarioError

TOLERANCE = 1e-3
"""The accountant's ε is at most this share below the target."""
PRV_LIMIT = 50.0
"""Largest ε given to the PRV accountant: its grid, and so its memory, grows with ε."""
LEAST_EPSILON, LARGEST_EPSILON = 1e-3, 1e8
"""What the Rényi accountant can tell from nothing and from everything."""
LEAST_NOISE, LARGEST_NOISE = 1e-4, 1e6
"""Noise multipliers that the accountants' arithmetic stands; 0 beside them."""

# Both searches cost seconds and depend on their arguments alone, so their answers are kept: the
# cells of one scenario ask for the same few budgets again and again.


@lru_cache(maxsize=256)
def calibrate(epsilon: float, delta: float, rate: float, steps: int, accountant: str) -> float:
    """Return the smallest noise multiplier (to TOLERANCE in ε) that meets (ε, δ).

    Args:
        epsilon: budget over all rounds.
        delta: budget over all rounds.
        rate: probability that a client is in a round's cohort.
        steps: rounds.
        accountant: ``rdp`` or ``prv``.

    Raises:
        ScenarioError: no noise meets the budget.
    """
    from opacus.accountants.utils import get_noise_multiplier  # slow: not at every start

    with warnings.catch_warnings():
        # The search passes through noise levels whose best Rényi order is the end of the grid.
        warnings.filterwarnings("ignore", message="Optimal order")
        try:
            return get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=rate,
                steps=steps,
                accountant=accountant,
                epsilon_tolerance=TOLERANCE * epsilon,
                **_orders(accountant),
            )
        except (ArithmeticError, ValueError) as error:
            least = epsilon_spent(LARGEST_NOISE, delta, rate, steps, "rdp")
            raise ScenarioError(
                f"dp_fedavg: epsilon {epsilon:g} cannot be met at delta {delta:g}: the accountant "
                f"proves nothing below {least:.3g}, and epsilon is at most {LARGEST_EPSILON:g}"
            ) from error


@lru_cache(maxsize=256)
def epsilon_spent(z: float, delta: float, rate: float, steps: int, accountant: str) -> float:
    """Return ε ≥ 0 of all rounds at noise multiplier ``z``; arguments as for :func:`calibrate`.

    Raises:
        ScenarioError: the accountant's arithmetic does not stand these numbers.
    """
    from opacus.accountants import create_accountant  # slow: not at every start

    ledger = create_accountant(accountant)
    ledger.history = [(z, rate, steps)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order")
        try:
            found = float(ledger.get_epsilon(delta=delta, **_orders(accountant)))
        except (ArithmeticError, ValueError, RuntimeError, MemoryError) as error:
            raise ScenarioError(
                f"dp_fedavg: no epsilon can be computed at noise_multiplier {z:g}, "
                f"delta {delta:g}, rate {rate:g}, {steps} rounds; noise_multiplier is from "
                f"{LEAST_NOISE:g} to {LARGEST_NOISE:g}"
            ) from error
    # The conversion from Rényi subtracts terms and may end below what any mechanism has.
    return max(0.0, found)


def _orders(accountant: str) -> dict[str, Any]:
    """Return Rényi orders: Opacus' own, and ones that very large and very small budgets need."""
    if accountant != "rdp":
        return {}
    orders = [1 + x / 10 for x in range(1, 100)] + list(range(12, 64))
    return {"alphas": [1.01, 1.02, 1.05, *orders, 80, 128, 256, 512]}
