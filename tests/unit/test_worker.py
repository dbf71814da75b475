"""What worker processes are given before they start."""

from __future__ import annotations

import os

import pytest

from harness.worker import use_large_pages


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.check=3", "glibc.malloc.check=3:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=2", "glibc.malloc.hugetlb=2"),
    ],
)
def test_large_pages_leave_what_the_user_has_set(monkeypatch, before, after):
    if before is None:
        monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    else:
        monkeypatch.setenv("GLIBC_TUNABLES", before)
    use_large_pages()
    assert os.environ["GLIBC_TUNABLES"] == after
    use_large_pages()
    assert os.environ["GLIBC_TUNABLES"] == after
