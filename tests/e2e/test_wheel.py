"""The project as a wheel: nothing that the commands or the guide offer is left out of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OWN = ("harness", "attacks", "defenses", "models", "reports", "scenarios")
NEEDED = (".py", ".yaml", ".j2", ".css")


def _python(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        **options,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel out of a copy, so that no file of an earlier build gets into it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in OWN:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    done = _python(
        "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--wheel-dir", folder, source,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_every_module_scenario_and_template_is_in_the_wheel(wheel: Path) -> None:
    there = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        file.relative_to(ROOT).as_posix()
        for name in OWN
        for file in (ROOT / name).rglob("*")
        if file.suffix in NEEDED
    }
    assert len(wanted) > 200
    assert not wanted - there


@pytest.mark.slow
def test_the_commands_work_from_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    installed, place = tmp_path / "site", tmp_path / "place"
    place.mkdir()
    done = _python("-m", "pip", "install", "--quiet", "--no-deps", "--target", installed, wheel)
    assert done.returncode == 0, done.stderr
    given = {"cwd": place, "env": {**os.environ, "PYTHONPATH": str(installed)}}

    made = _python("-m", "harness", "init", "study", **given)
    assert (made.returncode, made.stderr) == (0, "")
    for scenario in sorted((place / "study").glob("*.yaml")):
        done = _python("-m", "harness", "validate", scenario, **given)
        assert ": valid, " in done.stdout, done.stderr
    smoke = installed / "scenarios" / "smoke" / "audit.yaml"
    done = _python("-m", "harness", "plan", smoke, **given)
    assert done.returncode == 0, done.stderr
    where = _python("-c", "import harness, models; print(harness.__file__)", **given)
    assert where.stdout.strip() == str(installed / "harness" / "__init__.py")
