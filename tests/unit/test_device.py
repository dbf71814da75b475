"""Device and number format in a scenario: what they change, and what a missing GPU says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.cli import main
from harness.core.device import Arithmetic, available_device
from harness.core.errors import ScenarioError
from harness.plan import expand
from harness.provenance import manifest
from harness.run_folder import claim
from harness.scenario import load, scenario_hash

Write = Callable[..., Path]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Return a function that says whether this machine has a CUDA device."""
    return lambda there: monkeypatch.setattr(torch.cuda, "is_available", lambda: there)


def test_the_default_is_the_cpu_even_beside_a_gpu(write: Write, gpu) -> None:
    gpu(True)
    assert load(write()).compute.arithmetic() == Arithmetic("cpu", "float32")


@pytest.mark.parametrize("there", [True, False])
def test_auto_takes_a_gpu_where_there_is_one(gpu, there: bool) -> None:
    gpu(there)
    assert available_device("auto") == ("cuda" if there else "cpu")


def test_cuda_without_a_gpu_is_one_line_and_exit_2(write: Write, gpu, tmp_path, capsys) -> None:
    gpu(False)
    out = tmp_path / "run"
    assert main(["run", str(write()), "--device", "cuda", "--out", str(out)]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert "compute.device" in said and "allowed here are auto, cpu" in said
    assert not out.exists()


@pytest.mark.parametrize("key", ["device", "precision"])
def test_an_unknown_value_says_what_is_allowed(write: Write, key: str) -> None:
    with pytest.raises(ScenarioError, match=key):
        load(write(compute=f"{{{key}: fast}}"))


def test_what_changes_bytes_changes_cells_and_hash_and_nothing_else_does(write: Write, gpu) -> None:
    gpu(True)
    path = write()
    plain = load(path)
    cells = expand(plain).cells
    same = load(path, ["compute.device=cpu", "compute.precision=float32"])
    assert expand(same).cells == cells and scenario_hash(same) == scenario_hash(plain)
    for change in ("compute.device=cuda", "compute.device=auto", "compute.precision=bfloat16"):
        other = load(path, [change])
        assert scenario_hash(other) != scenario_hash(plain)
        for one, two in zip(cells, expand(other).cells, strict=True):
            assert one.id != two.id and one.training != two.training


def test_a_run_folder_keeps_its_number_format(write: Write, tmp_path: Path) -> None:
    path, folder = write(), tmp_path / "run"
    claim(folder, load(path))
    claim(folder, load(path, ["compute.jobs=2"]))
    # A folder of which nothing was trained would be taken over.
    (folder / "cells" / "one").mkdir(parents=True)
    (folder / "cells" / "one" / "done.json").write_text("{}")
    with pytest.raises(ScenarioError, match=r"compute\.precision"):
        claim(folder, load(path, ["compute.precision=bfloat16"]))


def test_the_manifest_names_both(write: Write) -> None:
    scenario = load(write(), ["compute.precision=bfloat16"])
    compute = manifest(scenario, expand(scenario), "done", jobs=1)["compute"]
    assert (compute["device"], compute["precision"]) == ("cpu", "bfloat16")
