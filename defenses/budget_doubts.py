"""What is wrong with a differential privacy budget, whatever federation it is claimed for."""

from __future__ import annotations

LARGE_EPSILON = 10.0
"""Above it, odds may change by more than e^10, about 22,000 [ours]."""
LARGE_DELTA = 0.01
"""From here on one client in a hundred may be given away whole, under any ε [ours]."""


def budget_doubts(name: str, epsilon: float | None, delta: float | None) -> list[str]:
    """Return what to say of a budget.

    Args:
        name: of the defence.
        epsilon: as configured; None where it follows from the noise.
        delta: as configured; None where it follows from the population.
    """
    found: list[str] = []
    if delta is not None and delta >= LARGE_DELTA:
        found.append(
            f"{name}: delta {delta:g} allows giving away one client in {1 / delta:.3g} whole, "
            "whatever epsilon is"
        )
    if epsilon is not None and epsilon > LARGE_EPSILON:
        found.append(f"{name}: epsilon {epsilon:g} is hardly a guarantee")
    return found
