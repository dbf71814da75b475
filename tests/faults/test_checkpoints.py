"""Rows 60 to 62 of the table of faults: a checkpoint that is not what it says costs a round."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path

import pytest
import torch

from harness.fed.checkpoint import Checkpoints
from harness.fed.loop import federate
from harness.store import discard, read_tensors, stored
from tests.faults.rounds import (
    DONE,
    ROUNDS,
    copied,
    restored,
    resumed,
    rewritten,
    stopped,
    training,
)
from tests.unit.fed.toy import toy_state

NEWEST = f"round-{DONE:06d}"
RECORD = "record-000002"


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun") / "rounds"
    stopped(folder)
    return folder


@pytest.fixture(scope="module")
def whole():
    return federate(training(), toy_state(training()))


def _same(one, two):
    assert torch.equal(one.released.table, two.released.table)
    assert all(torch.equal(one.released.dense[n], t) for n, t in two.released.dense.items())
    assert one.guard == two.guard and one.bytes_up == two.bytes_up
    assert [r.index for r in one.transcript.rounds] == [r.index for r in two.transcript.rounds]


def _first(tensors, start):
    return next(name for name in sorted(tensors) if name.startswith(start))


def _drop(start):
    return lambda tensors, facts: tensors.pop(_first(tensors, start))


def _put(start, change):
    def put(tensors, facts):
        name = _first(tensors, start)
        tensors[name] = change(tensors[name])

    return put


def _one(value):
    def change(tensor):
        tensor = tensor.clone()
        tensor.view(-1)[0] = value
        return tensor

    return change


def _fact(name, value):
    return lambda tensors, facts: facts.update({name: value})


def _guard(**values):
    return lambda tensors, facts: facts["guard"].update(values)


LIES = {
    "round beyond the end": _fact("next_round", ROUNDS + 1),
    "round far beyond the end": _fact("next_round", 10**9),
    "the last round": _fact("next_round", ROUNDS),
    "an earlier round": _fact("next_round", 1),
    "round 0": _fact("next_round", 0),
    "negative round": _fact("next_round", -1),
    "round as text": _fact("next_round", "3"),
    "round as a fraction": _fact("next_round", 3.5),
    "no round": lambda tensors, facts: facts.pop("next_round"),
    "no identity": lambda tensors, facts: facts.pop("identity"),
    "identity is a list": _fact("identity", [1]),
    "something more": _fact("more", 1),
    "weight missing": _drop("weights."),
    "weight added": lambda tensors, facts: tensors.update({"weights.x": torch.ones(2)}),
    "tensor added": lambda tensors, facts: tensors.update({"x": torch.ones(2)}),
    "all weights missing": lambda tensors, facts: tensors.clear(),
    "other size": _put("weights.item table", lambda t: torch.cat([t, t])),
    "other width": _put("weights.item table", lambda t: t[:, :4].clone()),
    "other dtype": _put("weights.", lambda t: t.double()),
    "NaN": _put("weights.", _one(math.nan)),
    "infinite": _put("weights.item table", _one(math.inf)),
    "negative counter": _guard(received=-1),
    "more refused than received": _guard(rejected={"x": 10**6}),
    "refused but nobody named": _guard(rejected={"x": 1}),
    "counter as text": _guard(received="many"),
    "more empty rounds than rounds": _guard(empty_rounds=DONE + 1),
    "no counters": _fact("guard", {}),
    "rounds without bytes": _fact("sent", [1.0]),
    "negative bytes": _fact("sent", [-1.0] * DONE),
    "record gone": _fact("records", []),
    "record twice": lambda tensors, facts: facts["records"].append(facts["records"][0]),
    "record elsewhere": _fact("records", ["../../etc/passwd"]),
    "record that is not there": _fact("records", ["record-000000-0123456789abcdef.safetensors"]),
    "a stranger remembers": _fact("defenses", [0]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_round_that_lies_is_left_aside_and_the_one_before_is_taken(lie, begun, tmp_path):
    folder = copied(begun, tmp_path / "rounds")
    rewritten(folder, NEWEST, LIES[lie])
    now, said = restored(folder)
    assert "going back to the round before" in said[0]
    assert now.next_round == DONE - 1 and said[-1] == f"going on after round {DONE - 1}"
    assert not stored(folder, NEWEST)


RECORD_LIES = {
    "other round": _fact("index", 1),
    "unknown kind": _fact("kinds", {"message": "Nonsense"}),
    "a kind that is none": _fact("kinds", {"message": "Message"}),
    "no message": _fact("kinds", {}),
    "other aggregate": _fact("kinds", {"message": "ModelUpdate", "aggregate": "CentroidReturn"}),
    "message misses a tensor": _drop("message.rows"),
    "message misses a weight": _drop("message.dense."),
    "NaN in the message": _put("message.rows", _one(math.nan)),
    "row beyond the catalogue": _put("message.row_ids", _one(10**6)),
    "client that does not exist": _put("message.clients", _one(10**6)),
    "client twice": _put("message.clients", lambda t: t.clone().fill_(int(t[0]))),
    "other slots": _put("message.rows", lambda t: t[:, :1].clone()),
    "NaN in the aggregate": _put("aggregate.rows", _one(math.nan)),
    "aggregate row beyond the catalogue": _put("aggregate.row_ids", _one(10**6)),
    "model missing": _fact("model", False),
    "NaN in the model": _put("model.", _one(math.nan)),
    "model of another size": _put("model.item table", lambda t: t[:5].clone()),
}


@pytest.mark.parametrize("lie", RECORD_LIES)
def test_a_record_that_lies_costs_the_rounds_that_name_it(lie, begun, tmp_path):
    folder = copied(begun, tmp_path / "rounds")
    rewritten(folder, RECORD, RECORD_LIES[lie])
    now, said = restored(folder)
    assert "going back" in said[0] and now.next_round == DONE - 1


@pytest.mark.parametrize("lie", ["round beyond the end", "NaN", "record gone"])
def test_the_numbers_are_those_of_a_training_that_was_never_stopped(lie, begun, whole, tmp_path):
    folder = copied(begun, tmp_path / "rounds")
    rewritten(folder, NEWEST, LIES[lie])
    _same(resumed(folder), whole)


def test_where_every_round_lies_the_training_starts_anew(begun, whole, tmp_path):
    folder = copied(begun, tmp_path / "rounds")
    for number in (DONE - 1, DONE):
        rewritten(folder, f"round-{number:06d}", LIES["NaN"])
    now, said = restored(folder)
    assert now.next_round == 0 and len(said) == 2
    _same(resumed(folder), whole)


def _bomb(marker: Path) -> bytes:
    """A pickle (protocol 0) that makes a folder where it is loaded."""
    return f"cposix\nmkdir\n(V{marker}\ntR.".encode()


def _named(folder: Path, stem: str, content: bytes) -> None:
    (path,) = stored(folder, stem)
    path.unlink()
    name = f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    (folder / name).write_bytes(content)


JUNK = {
    "nothing": b"",
    "text": b"not a checkpoint",
    "zeros": bytes(1000),
    "a header of 2**60 bytes": (2**60).to_bytes(8, "little") + b"{}",
    "a header without facts": (2).to_bytes(8, "little") + b"{}",
    "deep nesting": (10**5).to_bytes(8, "little") + b"[" * 10**5,
    "facts that are a list": (37).to_bytes(8, "little")
    + b'{"__metadata__":{"facts":"[1, 2, 3]"}}'[:37],
}


@pytest.mark.parametrize("junk", JUNK)
def test_junk_with_the_right_hash_is_no_checkpoint(junk, begun, tmp_path):
    folder = copied(begun, tmp_path / "rounds")
    _named(folder, NEWEST, JUNK[junk])
    now, said = restored(folder)
    assert "going back" in said[0] and now.next_round == DONE - 1


@pytest.mark.parametrize("hashed", [True, False])
def test_a_pickle_in_its_place_is_refused_and_runs_nothing(hashed, begun, tmp_path):
    folder, marker = copied(begun, tmp_path / "rounds"), tmp_path / "ran"
    if hashed:
        _named(folder, NEWEST, _bomb(marker))
    else:
        stored(folder, NEWEST)[0].write_bytes(_bomb(marker))
    now, _ = restored(folder)
    assert now.next_round == DONE - 1 and not marker.exists()


@pytest.mark.parametrize("stem", [NEWEST, RECORD])
def test_a_folder_in_its_place_is_moved_aside_and_nothing_in_it_is_lost(
    stem, begun, whole, tmp_path
):
    folder = copied(begun, tmp_path / "rounds")
    (path,) = stored(folder, stem)
    path.unlink()
    path.mkdir()
    (path / "mine.txt").write_text("mine")
    _same(resumed(folder), whole)
    assert [p.read_text() for p in folder.glob("aside-*/mine.txt")] == ["mine"]


@pytest.mark.parametrize("stem", [NEWEST, RECORD])
def test_a_pipe_in_its_place_makes_nobody_wait(stem, begun, tmp_path):
    folder = copied(begun, tmp_path / "rounds")
    (path,) = stored(folder, stem)
    path.unlink()
    os.mkfifo(path)
    assert restored(folder)[0].next_round == DONE - 1


@pytest.mark.parametrize("cut", [0, 1, 8, 100, -1])
def test_a_cut_or_altered_file_is_left_aside(cut, begun, tmp_path):
    folder = copied(begun, tmp_path / "rounds")
    (path,) = stored(folder, NEWEST)
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:cut])
    assert restored(folder)[0].next_round == DONE - 1
    content[cut] ^= 1
    path.write_bytes(content)
    assert restored(folder)[0].next_round == DONE - 1


def test_rounds_of_another_version_or_scenario_are_refused_with_the_difference(begun, tmp_path):
    folder, said = copied(begun, tmp_path / "rounds"), []
    other = {"training": "other", "torch": "9.9"}
    now = Checkpoints(folder, other, said.append).restore(training(), toy_state(training()))
    assert now.next_round == 0
    assert all("torch was None, is 9.9; training was toy, is other" in line for line in said)


def test_moving_aside_takes_a_name_that_is_free(tmp_path):
    for _ in range(3):
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "content").touch()
        discard(tmp_path / "x")
    assert len(list(tmp_path.glob("aside-*/content"))) == 3


def test_an_honest_checkpoint_is_believed(begun, tmp_path):
    folder = copied(begun, tmp_path / "rounds")
    rewritten(folder, NEWEST, lambda tensors, facts: None)
    now, said = restored(folder)
    assert now.next_round == DONE and said == [f"going on after round {DONE}"]
    assert read_tensors(stored(folder, NEWEST)[0])[1]["next_round"] == DONE
