"""Whatever a checkpoint holds: the training goes on from a round that can be believed, or anew."""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.store import read_tensors, stored, write_tensors
from tests.faults.rounds import DONE, restored, start, stopped

NEWEST, RECORD = f"round-{DONE:06d}", "record-000002"
SETTINGS = settings(
    max_examples=170,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.lists(st.integers(-3, 9), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)
SHAPES = st.lists(st.integers(0, 4), max_size=3)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16])


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun") / "rounds"
    stopped(folder)
    return folder


def _places(facts: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value, the root left out."""
    children = (
        facts.items()
        if isinstance(facts, dict)
        else enumerate(facts)
        if isinstance(facts, list)
        else ()
    )
    return [p for key, value in children for p in [(*path, key), *_places(value, (*path, key))]]


def _damage(draw: Any, tensors: dict[str, Any], facts: dict[str, Any]) -> None:
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            *way, last = draw(st.sampled_from(_places(facts) or [("next_round",)]))
            place: Any = facts
            for step in way:
                place = place[step]
            place[last] = draw(VALUES)
        elif tensors:
            name = draw(st.sampled_from(sorted(tensors)))
            how = draw(st.sampled_from(["drop", "other", "value", "rename"]))
            if how == "drop":
                tensors.pop(name)
            elif how == "rename":
                tensors[draw(st.text(max_size=9))] = tensors.pop(name)
            elif how == "other":
                tensors[name] = torch.zeros(draw(SHAPES)).to(draw(DTYPES))
            elif tensors[name].numel():
                tensors[name] = tensors[name].clone()
                top = 2**40 if not tensors[name].is_floating_point() else float("nan")
                tensors[name].view(-1)[-1] = top


def _sound(now: Any) -> None:
    """Whatever was taken over can go on: it has the model's weights, finite, and a real round."""
    begin = start().model
    assert 0 <= now.next_round <= DONE
    assert now.state.model.table.shape == begin.table.shape
    assert now.state.model.table.isfinite().all()
    assert len(now.sent) == now.next_round
    assert all(record.message.peaks().isfinite().all() for record in now.records)


@pytest.mark.parametrize("stem", [NEWEST, RECORD])
@SETTINGS
@given(data=st.data())
def test_any_content_under_the_right_hash(stem, begun, data):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "rounds"
        shutil.copytree(begun, folder)
        (path,) = stored(folder, stem)
        tensors, facts = read_tensors(path)
        tensors, facts = dict(tensors), copy.deepcopy(facts)
        _damage(data.draw, tensors, facts)
        path.unlink()
        made = write_tensors(folder, stem, tensors, facts)
        if stem == RECORD:
            rounds, said = read_tensors(stored(folder, NEWEST)[0])
            stored(folder, NEWEST)[0].unlink()
            links = [made.name if n == path.name else n for n in said["records"]]
            write_tensors(folder, NEWEST, rounds, {**said, "records": links})
        now, told = restored(folder)
        _sound(now)
        assert told


@SETTINGS
@given(data=st.data())
def test_any_bytes_in_its_place(begun, data):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "rounds"
        shutil.copytree(begun, folder)
        (path,) = stored(folder, NEWEST)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            where = data.draw(st.integers(0, max(0, len(content) - 1)))
            if data.draw(st.booleans()) and content:
                content[where] ^= data.draw(st.integers(1, 255))
            else:
                content[where : where + data.draw(st.integers(0, 50))] = data.draw(
                    st.binary(max_size=20)
                )
        unchanged = bytes(content) == path.read_bytes()
        path.write_bytes(content)
        now, _ = restored(folder)
        _sound(now)
        assert now.next_round == (DONE if unchanged else DONE - 1)
