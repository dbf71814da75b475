import pytest

from harness import files
from harness.core.errors import DataError
from harness.files import write_atomic


def test_atomic_write_leaves_the_old_file_and_no_litter_on_failure(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(DataError, match=r"3 bytes.*No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["file"]
