"""Derived files that were damaged on disk are made again, and never used."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest
import torch

import models.pretrain
from harness.core.seeds import Seeds
from harness.language.cache import ArrayStore, TextStore
from harness.store import read_sealed, write_sealed
from models.central import CentralConfig
from models.pretrain import pretrained
from tests.unit.fed.toy import toy_domain

DAMAGE = {
    "cut": lambda content: content[: len(content) // 2],
    "cut by a byte": lambda content: content[:-1],
    "flipped": lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_array_counts_as_not_there(damage, tmp_path):
    store, array = ArrayStore(tmp_path), np.arange(300, dtype=np.float32).reshape(3, 100)
    store.put("abcd", array)
    (path,) = (p for p in tmp_path.rglob("*") if p.is_file())
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert store.get("abcd") is None
    store.put("abcd", array)
    np.testing.assert_array_equal(store.get("abcd"), array)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_pretrained_model_is_trained_again(damage, tmp_path, monkeypatch):
    config = CentralConfig(embedding_size=8, num_heads=1, num_blocks=1, max_length=6, epochs=1)

    def model():
        return pretrained(toy_domain(), config, Seeds(0), tmp_path, lambda text: None)

    whole = model()
    (path,) = (tmp_path / "pretrained").iterdir()
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert torch.equal(model().table, whole.table)
    monkeypatch.setattr(models.pretrain, "fit_central", None)
    assert torch.equal(model().table, whole.table)


def test_an_altered_text_is_dropped_and_written_again(tmp_path):
    store = TextStore(tmp_path / "t.sqlite")
    store.put({"a": "one", "b": "two"})
    with sqlite3.connect(tmp_path / "t.sqlite") as base:
        base.execute("UPDATE sealed SET value = 'three' WHERE key = 'a'")
    base.close()
    assert store.get(["a", "b"]) == {"b": "two"}
    store.put({"a": "one"})
    assert store.get(["a", "b"]) == {"a": "one", "b": "two"}


def test_texts_of_an_older_version_are_taken_over(tmp_path):
    with sqlite3.connect(tmp_path / "t.sqlite") as base:
        base.execute("CREATE TABLE text (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        base.execute("INSERT INTO text VALUES ('a', 'one')")
    base.close()
    assert TextStore(tmp_path / "t.sqlite").get(["a", "b"]) == {"a": "one"}


def test_a_folder_in_place_of_a_derived_file_is_moved_aside(tmp_path):
    (tmp_path / "x").mkdir()
    assert read_sealed(tmp_path / "x") is None
    write_sealed(tmp_path / "x", b"content")
    assert read_sealed(tmp_path / "x") == b"content"
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["aside-x"]
