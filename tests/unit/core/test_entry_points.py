"""Components of an installed package: found, kept apart, and harmless when broken."""

from __future__ import annotations

import importlib
import sys

import pytest

from harness.core import registry
from harness.core.errors import ScenarioError
from harness.core.registry import DEFENSES, discover
from harness.scenario import load

GOOD = """
from harness.core.defense import Defense
from harness.core.params import Paper, Params
from harness.core.registry import DEFENSES

@DEFENSES.register("{name}")
class Mine(Defense):
    "A defence of another package."
    paper = Paper("none", "baseline")
    Config = Params
"""


def _install(folder, name, source):
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[harness.plugins]\n{name} = {name}\n")
    importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages; what they register is forgotten afterwards."""
    discover()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(DEFENSES, "_classes", dict(DEFENSES._classes))
    yield tmp_path
    for name in ("their_good", "their_broken", "their_thief"):
        sys.modules.pop(name, None)


def test_an_installed_package_adds_a_component(site):
    _install(site, "their_good", GOOD.format(name="their_rule"))
    assert discover() == {}
    assert DEFENSES.get("their_rule").summary() == "A defence of another package."


def test_a_broken_one_is_named_and_hides_no_other(site):
    _install(site, "their_broken", "raise ImportError('no such library')")
    _install(site, "their_good", GOOD.format(name="their_rule"))
    failed = discover()
    assert failed == {"their_broken (their_broken)": "ImportError: no such library"}
    assert DEFENSES.get("their_rule")


def test_a_name_that_is_taken_is_refused(site):
    _install(site, "their_thief", GOOD.format(name="trimmed_mean"))
    (reason,) = discover().values()
    assert "'trimmed_mean' is already" in reason
    assert DEFENSES.get("trimmed_mean").__module__ == "defenses.trimmed_mean"


def test_a_class_of_the_same_name_does_not_take_a_place(site):
    source = GOOD.format(name="trimmed_mean").replace("class Mine", "class TrimmedMean")
    _install(site, "their_thief", source)
    (reason,) = discover().values()
    assert "'trimmed_mean' is already defenses.trimmed_mean" in reason


def test_what_a_broken_one_registered_is_gone(site):
    _install(site, "their_broken", GOOD.format(name="their_rule") + "raise SystemExit(3)\n")
    assert discover() == {"their_broken (their_broken)": "SystemExit: 3"}
    assert "their_rule" not in DEFENSES


def test_an_unknown_name_says_which_plugins_failed(site, tmp_path):
    _install(site, "their_broken", "import no_such_library")
    path = tmp_path / "s.yaml"
    path.write_text(
        "schema: 1\nname: n\nseeds: [0]\ndatasets: {d: {use: ml-100k}}\n"
        "systems: {s: {use: lumos, dataset: d}}\ndefenses: {r: {use: their_rule}}\n"
    )
    with pytest.raises(ScenarioError) as refused:
        load(path)
    assert "unknown defense 'their_rule'" in str(refused.value)
    assert "their_broken (their_broken): ModuleNotFoundError: No module named" in str(refused.value)


def test_a_slow_one_is_named(site, monkeypatch, capsys):
    monkeypatch.setattr(registry, "SLOW_SECONDS", 0.05)
    _install(site, "their_good", "import time\ntime.sleep(0.4)\n")
    discover()
    assert "still importing plug-in their_good (their_good)" in capsys.readouterr().err
