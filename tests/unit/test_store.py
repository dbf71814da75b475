"""Tensors on disk: whole, checked, and never more than data."""

from __future__ import annotations

import errno
import os

import pytest
import torch

from harness.core.errors import RunError
from harness.store import Damaged, read_tensors, stored, write_tensors


@pytest.fixture
def path(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor([1, -1])}
    return write_tensors(tmp_path / "made", "round-000001", tensors, {"next": 1, "why": "ü"})


def test_what_was_written_comes_back(path):
    tensors, facts = read_tensors(path)
    assert torch.equal(tensors["a"], torch.arange(6.0).reshape(2, 3).T)
    assert torch.equal(tensors["b"], torch.tensor([1, -1]))
    assert facts == {"next": 1, "why": "ü"}
    assert stored(path.parent, "round-") == [path]


def test_equal_content_has_an_equal_name(path):
    tensors, facts = read_tensors(path)
    assert write_tensors(path.parent, "round-000001", tensors, facts) == path


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "gone", "pickle"])
def test_a_damaged_file_is_refused(path, damage):
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "gone":
        path.unlink()
    else:
        torch.save(_Bomb(path.parent / "exploded"), path)
    with pytest.raises(Damaged, match="round-000001"):
        read_tensors(path)
    assert not (path.parent / "exploded").exists()


class _Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


def test_a_full_disk_leaves_the_old_files_and_says_where(path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr("harness.store.os.fsync", full)
    with pytest.raises(RunError, match=r"round-000002.*No space left.*bytes"):
        write_tensors(path.parent, "round-000002", {"a": torch.zeros(3)}, {})
    assert [p.read_bytes() for p in path.parent.iterdir()] == [before]


def test_facts_that_json_cannot_hold_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_tensors(tmp_path, "x", {}, {"loss": float("nan")})
