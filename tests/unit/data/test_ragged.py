"""A population on disk reads like the lists it was made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import DataError
from harness.data.ragged import Ragged

lists = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5), max_size=6)


@given(lists)
def test_in_memory(sequences):
    ragged = Ragged.of(sequences)
    assert [row.tolist() for row in ragged] == sequences
    assert ragged.lengths().tolist() == [len(s) for s in sequences]


@given(lists, st.integers(-8, 8), st.integers(-8, 8))
def test_runs_are_those_of_a_list(sequences, start, stop):
    cut = Ragged.of(sequences)[start:stop]
    assert [row.tolist() for row in cut] == sequences[start:stop]


@given(sequences=lists)
def test_on_disk(sequences, tmp_path_factory):
    path = tmp_path_factory.mktemp("ragged") / "population.arrow"
    Ragged.of(sequences).write(path)
    mapped = Ragged.opened(path)
    assert [row.tolist() for row in mapped] == sequences
    assert not any(np.asarray(row).flags.writeable for row in mapped if len(row))


def test_one_after_the_last_is_an_error():
    ragged = Ragged.of([[1], [2, 3]])
    assert ragged[-1].tolist() == [2, 3]
    with pytest.raises(IndexError):
        ragged[2]


@pytest.mark.parametrize("content", [b"", b"items\n1,2\n"])
def test_another_file_is_a_data_error(content, tmp_path):
    path = tmp_path / "x.arrow"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.arrow"):
        Ragged.opened(path)
    with pytest.raises(DataError):
        Ragged.opened(tmp_path / "missing.arrow")
