"""What a run's manifest says beyond numbers: systems, their deviations, adversaries, data, time."""

from __future__ import annotations

from typing import Any

from harness.core.registry import ATTACKS, SYSTEMS
from harness.plan import Plan
from harness.plugins import PluginSpec, build


def in_words(figures: dict[str, int | float | str]) -> str:
    """Return the figures of a data set that a reader wants first, on one line."""
    return (
        f"{figures['name']}, {figures['users']:,} users, {figures['items']:,} items, "
        f"{figures['events']:,} events, mean length {figures['length_mean']:.1f}"
    )


def describe(plan: Plan, timings: dict[str, float]) -> dict[str, Any]:
    """Return what the report says of systems, adversaries and time."""
    systems = {cell.system.label: cell for cell in plan.cells}
    attacks = {
        spec.label: build(ATTACKS, spec).threat_model.words
        for cell in plan.cells
        for spec in (*cell.inference, *([cell.poisoning] if cell.poisoning else []))
    }
    return {
        "systems": [
            {
                "label": label,
                "description": SYSTEMS.get(cell.system.use).summary(),
                "paper": SYSTEMS.get(cell.system.use).paper.reference,
                "deviations": [
                    *settings_changed(cell.system),
                    *(f"{d.what}: {d.why}" for d in SYSTEMS.get(cell.system.use).deviations),
                ],
            }
            for label, cell in systems.items()
        ],
        "threat_models": attacks,
        "timings": [{"stage": stage, "seconds": value} for stage, value in timings.items()],
    }


def settings_changed(spec: PluginSpec) -> list[str]:
    """Return in words which of a system's parameters the scenario sets to other than default."""
    default = SYSTEMS.get(spec.use).Config().model_dump(mode="json")
    changed = [
        f"{name} = {_short(value, default.get(name))}"
        for name, value in sorted(spec.params.items())
        if value != default.get(name)
    ]
    return [f"Set by the scenario: {'; '.join(changed)}"] if changed else []


def _short(value: Any, default: Any) -> str:
    """Return a value beside its default; of a group of settings only those that differ."""
    if isinstance(value, dict) and isinstance(default, dict):
        inner = [f"{k} {_short(v, default.get(k))}" for k, v in value.items() if v != default[k]]
        return ", ".join(inner)
    return f"{value} (default {default})"
