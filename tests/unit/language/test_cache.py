from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from harness.core.errors import RunError
from harness.language.cache import ArrayStore, TextStore, digest, model_identity


def test_digest_keeps_parts_apart() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(["é"]) != digest(["e"])


def test_texts_come_back_and_the_first_one_stays(tmp_path: Path) -> None:
    store = TextStore(tmp_path / "deep" / "t.sqlite")
    assert store.get(["a"]) == {}
    store.put({"a": "one; 'two'", "b": "ünï"})
    store.put({"a": "other", "c": ""})
    assert store.get(["a", "b", "c", "d"]) == {"a": "one; 'two'", "b": "ünï", "c": ""}


def test_many_keys_at_once(tmp_path: Path) -> None:
    store = TextStore(tmp_path / "t.sqlite")
    texts = {f"k{n}": str(n) for n in range(1_234)}
    store.put(texts)
    assert store.get(list(texts)) == texts


def _write(path: Path, worker: int) -> None:
    store = TextStore(path)
    for n in range(20):
        store.put({f"{worker}-{n}": str(n), f"same-{n}": str(n)})


def test_processes_write_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(path, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    keys = [f"{w}-{n}" for w in range(3) for n in range(20)] + [f"same-{n}" for n in range(20)]
    assert len(TextStore(path).get(keys)) == 80


def test_a_damaged_file_is_named_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(RunError, match=r"t\.sqlite"):
        TextStore(path).get(["a"])


def test_arrays_come_back_exactly_and_leave_no_temporary_file(tmp_path: Path) -> None:
    store = ArrayStore(tmp_path)
    array = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert store.get("abcd") is None
    store.put("abcd", array)
    found = store.get("abcd")
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, array)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["abcd.npy.sealed"]


def test_identity_is_the_content_of_the_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(b"123")
    assert model_identity(tmp_path / "a") == model_identity(tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").write_bytes(b"124")
    assert model_identity(tmp_path / "a") != model_identity(tmp_path / "b")
    assert model_identity("some/name") == "hub:some/name"
