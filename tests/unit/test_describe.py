"""What the report is told of a system: which settings a scenario changed, beside their defaults."""

from __future__ import annotations

from harness.describe import settings_changed
from harness.plugins import PluginSpec, load_plugins


def _spec(**params):
    from harness.core.registry import SYSTEMS

    load_plugins()
    defaults = SYSTEMS.get("lumos").Config().model_dump(mode="json")
    return PluginSpec(label="x", use="lumos", params={**defaults, **params})


def test_defaults_are_not_mentioned():
    assert settings_changed(_spec()) == []


def test_a_changed_setting_stands_beside_its_default():
    (text,) = settings_changed(_spec(optimizer="sgd", learning_rate=2.0))
    assert "optimizer = sgd (default adam)" in text
    assert "learning_rate = 2.0 (default 0.001)" in text


def test_of_a_group_only_what_differs_is_said():
    from harness.core.registry import SYSTEMS

    load_plugins()
    views = SYSTEMS.get("lumos").Config().model_dump(mode="json")["views"]
    (text,) = settings_changed(_spec(views={**views, "answer": "shortlist"}))
    assert text == "Set by the scenario: views = answer shortlist (default text)"
