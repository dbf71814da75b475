"""Components of an installed package: found, kept apart, and harmless when broken."""

from __future__ import annotations

import importlib
import sys

import pytest

from harness.core.registry import DEFENSES, discover

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
