"""Virtual environments for peers, so that none of them becomes a dependency of the project."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / ".benchmarks"
TORCH = "torch==2.13.0"


def environment(name: str, requirements: list[str]) -> Path:
    """Return the interpreter of ``.benchmarks/NAME``, made at the first call.

    Torch is installed first and alone: an unpinned one brings gigabytes of CUDA.
    """
    folder = ROOT / name
    python, ready = folder / "bin" / "python", folder / ".ready"
    wanted = "\n".join(requirements)
    if not ready.exists() or ready.read_text() != wanted:
        print(f"making {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, TORCH, "numpy"], check=True)
        subprocess.run([*pip, TORCH, *requirements], check=True)
        ready.write_text(wanted)
    return python
