"""Virtual environments for peers, so that none of them becomes a dependency of the project."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / ".benchmarks"
TORCH = "torch==2.13.0"


def environment(name: str, requirements: list[str], overrides: list[str] | None = None) -> Path:
    """Return the interpreter of ``.benchmarks/NAME``, made at the first call.

    Torch is installed first and alone: an unpinned one brings gigabytes of CUDA.

    Args:
        name: of the environment.
        requirements: what it needs beside torch and NumPy.
        overrides: requirements that replace those that the packages themselves state; for a
            package that asks for a release its index does not have yet.
    """
    folder = ROOT / name
    python, ready = folder / "bin" / "python", folder / ".ready"
    wanted = "\n".join([*requirements, "overrides:", *(overrides or [])])
    if not ready.exists() or ready.read_text() != wanted:
        print(f"making {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, TORCH, "numpy", "uv"], check=True)
        (folder / "overrides.txt").write_text("\n".join(overrides or []))
        uv = [folder / "bin" / "uv", "pip", "install", "--quiet", "--python", python]
        subprocess.run(
            [*uv, "--override", folder / "overrides.txt", TORCH, *requirements], check=True
        )
        ready.write_text(wanted)
    return python
