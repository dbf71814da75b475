"""Who ran what: the manifest that stands beside a run's results."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from harness.plan import Plan
from harness.scenario import SCHEMA, Scenario, scenario_hash

MANIFEST_SCHEMA = 1
PACKAGES = (
    "fedrec-harness",
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "transformers",
    "sentence-transformers",
    "peft",
    "opacus",
    "safetensors",
    "gguf",
    "pydantic",
    "ruamel.yaml",
    "matplotlib",
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def manifest(
    scenario: Scenario,
    plan: Plan,
    status: str,
    *,
    jobs: int,
    data_hashes: Mapping[str, str] | None = None,
    started: str = "",
) -> dict[str, Any]:
    """Return the manifest of a run, in JSON's types.

    No environment variable is recorded except the numbers of threads.

    Args:
        scenario: as resolved.
        plan: what it expands to.
        status: ``running``, ``complete``, ``interrupted`` or ``failed``.
        jobs: processes in use.
        data_hashes: label of each data set to the SHA-256 of its prepared content.
        started: time of the first manifest; now, if empty.
    """
    now = timestamp()
    return {
        "schema": MANIFEST_SCHEMA,
        "status": status,
        "started": started or now,
        "written": now,
        "scenario": {
            "name": scenario.name,
            "schema": SCHEMA,
            "sha256": scenario_hash(scenario),
            "seeds": list(scenario.seeds),
        },
        "plan": {
            "cells": len(plan.cells),
            "trainings": plan.trainings,
            "not_run": len(plan.not_run),
            "warnings": list(plan.warnings),
        },
        "data": dict(sorted((data_hashes or {}).items())),
        "compute": {
            "jobs": jobs,
            "threads": scenario.compute.threads,
            **scenario.compute.arithmetic()._asdict(),
            **thread_variables(),
        },
        "git": git_state(),
        "packages": package_versions(),
        "machine": machine(),
    }


def timestamp() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def thread_variables() -> dict[str, str]:
    """Return the environment's limits on threads, where set."""
    return {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}


def package_versions() -> dict[str, str | None]:
    """Return the version of every package that results depend on; None where absent."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """Return what the work ran on."""
    return {
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def cpu_model() -> str:
    """Return the processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def git_state() -> dict[str, Any] | None:
    """Return commit and uncommitted changes of the source tree; None outside a git tree."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git("status", "--porcelain") or ""
    return {"commit": commit.strip(), "dirty": bool(changed.strip())}


def _git(*arguments: str) -> str | None:
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
