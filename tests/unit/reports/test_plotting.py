"""The user's matplotlib settings neither break a figure nor show in one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DRAW = """
import hashlib, os, sys
from reports.drawing import finish, new_figure, styled
with styled():
    figure, (panel,) = new_figure(3, [2])
    panel.plot([0, 1], [0, 1])
    panel.set_title("a $title_ with_signs")
    drawn = finish(figure, "n", "t", "c", "a", [])
print(hashlib.sha256(drawn.png + drawn.svg).hexdigest(), os.environ.get("MPLBACKEND"))
print(os.getcwd())
"""
RC = b"text.usetex: True\nfont.family: cursive\nsavefig.dpi: 7\nlines.linewidth: 40\n"


def draw(place: Path, before: str = "", **environment: str) -> tuple[str, str]:
    """Draw in a process of its own; return hash and the backend that it leaves in place."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MPL")}
    done = subprocess.run(
        [sys.executable, "-c", before + DRAW],
        cwd=place,
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    first, folder = done.stdout.splitlines()
    assert folder == str(place)
    digest, backend = first.split()
    return digest, backend


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    digest, backend = draw(tmp_path_factory.mktemp("plain"))
    assert backend == "None" and len(digest) == len(hashlib.sha256().hexdigest())
    return digest


@pytest.mark.parametrize(
    "backend", ["module://matplotlib_inline.backend_inline", "Qt5Agg", "nonsense"]
)
def test_no_backend_is_needed_and_the_users_stays(backend: str, plain: str, tmp_path: Path) -> None:
    assert draw(tmp_path, MPLBACKEND=backend) == (plain, backend)


@pytest.mark.parametrize("content", [RC, b"\xff\xfe\x00 not text", b"backend: nonsense\n"])
def test_a_matplotlibrc_changes_nothing(content: bytes, plain: str, tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(content)
    assert draw(tmp_path)[0] == plain
    (tmp_path / "elsewhere").mkdir()
    config = {"MPLCONFIGDIR": str(tmp_path), "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    assert draw(tmp_path / "elsewhere", **config)[0] == plain


def test_settings_of_the_same_process_change_nothing_and_stay(plain: str, tmp_path: Path) -> None:
    before = "import matplotlib as m; m.rcParams.update({'text.usetex': True, 'savefig.dpi': 7})\n"
    assert draw(tmp_path, before)[0] == plain
    check = "\nassert m.rcParams['text.usetex'] is True and m.rcParams['savefig.dpi'] == 7\n"
    done = subprocess.run(
        [sys.executable, "-c", before + DRAW + check],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
