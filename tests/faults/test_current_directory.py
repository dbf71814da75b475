"""What lies in the user's current directory is neither imported nor run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.own_packages import OWN_PACKAGES

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = """
schema: 1
name: small
seeds: [0]
datasets: {mine: {use: ml-100k}}
systems: {lumos: {use: lumos, dataset: mine}}
attacks: {norm: {use: row_norm}}
defenses: {trim: {use: trimmed_mean}}
"""
TRAP = "open({mark!r}, 'a').write(__name__ + '\\n')\n"
# Found by Python itself before a program can say where to look: not ours to prevent.
SHADOWS = ("random", "numpy", "yaml", "queue", "typer", "torch", "tempfile", "attacks_of_mine")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A user's folder in which every module that is imported leaves a mark."""
    (tmp_path / "s.yaml").write_text(SCENARIO)
    mark = str(tmp_path / "imported.txt")
    for name in OWN_PACKAGES:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text(TRAP.format(mark=mark))
        (folder / "train.py").write_text(TRAP.format(mark=mark))
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text(TRAP.format(mark=mark))
    return tmp_path


def python(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.slow
def test_folders_and_modules_of_the_user_are_not_imported(place: Path) -> None:
    done = python(place, "-m", "harness", "validate", "s.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "valid, " in done.stdout
    started = python(place, "-m", "harness", "init", "scenarios", "--pack", "clean")
    assert (started.returncode, started.stderr) == (0, "")
    again = python(place, "-m", "harness", "init", "scenarios", "--pack", "poison")
    assert (again.returncode, again.stderr) == (0, "")
    assert (place / "scenarios" / "poison_20pct.yaml").is_file()
    assert not (place / "imported.txt").exists()


@pytest.mark.slow
def test_a_folder_without_any_python_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SCENARIO)
    for name in OWN_PACKAGES:
        (tmp_path / name).mkdir()
    # As in a notebook: the current directory comes first and stays.
    code = (
        "import sys; sys.path.insert(0, ''); from harness.scenario import load; "
        "print(load('s.yaml').name); import models; print(models.__path__[0])"
    )
    done = python(tmp_path, "-c", code)
    assert done.stdout.split() == ["small", str(ROOT / "models")], done.stderr


def test_workers_do_not_search_the_current_directory(place: Path) -> None:
    code = (
        "import sys; del sys.path[0]; from harness.worker import keep_to_installed; "
        "import multiprocessing; keep_to_installed(); "
        "worker = multiprocessing.get_context('spawn').Process(target=print, args=('worked',)); "
        "worker.start(); worker.join()"
    )
    done = python(place, "-c", code)
    assert done.stdout.strip() == "worked", done.stderr
    assert not (place / "imported.txt").exists()


@pytest.mark.slow
def test_a_foreign_package_that_is_imported_already_is_named(place: Path) -> None:
    code = (
        "import sys, models; del sys.path[0]; "
        "from harness.cli import main; sys.exit(main(['validate', 's.yaml']))"
    )
    done = python(place, "-c", code)
    assert done.returncode == 4
    assert f"a package 'models' from {place / 'models'} is imported already" in done.stderr


def test_pinning_some_names_leaves_the_others_to_the_user(place: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, ''); from harness.core.own_packages import pin; "
        "pin('reports'); import reports, models; print(reports.__path__[0], models.__path__[0])"
    )
    done = python(place, "-c", code)
    assert done.stdout.split() == [str(ROOT / "reports"), str(place / "models")], done.stderr
