"""One side of a comparison: the rows of a run by what they measure, and the values per user."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from harness.results import read_table, sample_batches
from reports.wording import clean, clients_text, defense_text, join_words, label, metric_name

BlockKey = tuple[str, str, str, int, str]


class Place(NamedTuple):
    """What a row measures, whatever the seed: rows of two runs are matched by it."""

    system: str
    dataset: str
    kind: str
    defense: str
    strength: float | None
    poisoning: str
    malicious: float
    noisy: float
    attack: str
    metric: str
    k: int
    protocol: str

    @property
    def measure(self) -> str:
        """The metric as a reader knows it."""
        return metric_name(self.metric, self.k, self.protocol)

    def where(self, strength_name: str = "") -> str:
        """System, data, defence, clients and attack in words."""
        anchor = self.kind == "anchor"
        defense = defense_text(self.defense, strength_name, self.strength)
        parts = [label(self.system), label(self.dataset), "reference" if anchor else defense]
        parts += clients_text(self.poisoning, self.malicious, self.noisy)
        if self.attack not in ("none", self.poisoning):
            parts.append(f"attack {label(self.attack)}")
        return " · ".join(part for part in parts if part)


class Block(NamedTuple):
    """One metric's values per user in one cell.

    Attributes:
        units: ids of the users or items.
        values: one value each; NaN where the metric does not exist.
        mean: of the values that exist; NaN if none does.
    """

    units: Int[np.ndarray, " unit"]
    values: Float[np.ndarray, " unit"]
    mean: float


class RunRow(NamedTuple):
    """What a comparison needs of one row; ``measured``: it has a number.

    ``training`` is the key of everything that affected the training; rows may share one.
    """

    place: Place
    seed: int
    cell: str
    training: str
    value: float
    better: str
    status: str
    reason: str
    strength_name: str
    measured: bool

    @property
    def why_missing(self) -> str:
        """Why there is no number, in words."""
        reason = clean(self.reason, 200) or "no reason was recorded"
        return reason if self.status == "ok" else f"{self.status}: {reason}"


@dataclass(frozen=True)
class Run:
    """A run folder as a comparison reads it.

    Attributes:
        folder: where it lies.
        rows: its rows.
        places: rows by what they measure, in the order of the table.
        manifest: as stored; empty where it is missing or broken.
        data_hashes: hash of each data set by its name.
        scenario_hashes: hashes of the scenarios that the rows come from; one, if all is well.
        block: finds the values per user of a cell, an attack, a metric, its k and its protocol.
    """

    folder: Path
    rows: tuple[RunRow, ...]
    places: dict[Place, list[RunRow]]
    manifest: dict[str, Any]
    data_hashes: dict[str, str]
    scenario_hashes: tuple[str, ...]
    block: Callable[[BlockKey], Block | None]

    @property
    def title(self) -> str:
        """The scenario's name and the folder."""
        name = self.manifest.get("name")
        folder = self.folder.name or self.folder.resolve().name
        title = f"{label(folder)} ({label(name)})" if name and name != folder else label(folder)
        return " ".join(title.split())

    @property
    def seeds(self) -> list[int]:
        """Seeds with at least one number."""
        return sorted({row.seed for row in self.rows if row.measured})


def shared_part(a: Block, b: Block) -> tuple[Block, Block]:
    """The part of two blocks that both have, in the same order."""
    units, at, there = np.intersect1d(a.units, b.units, return_indices=True)
    left, right = a.values[at], b.values[there]
    return Block(units, left, mean_of(left)), Block(units, right, mean_of(right))


def part_of(block: Block, kept: Bool[np.ndarray, " unit"]) -> Block:
    """The units of a block that a mask keeps."""
    return Block(block.units[kept], block.values[kept], mean_of(block.values[kept]))


def mean_of(values: Float[np.ndarray, " unit"]) -> float:
    """Mean of the values that exist; NaN if none does."""
    measured = values[~np.isnan(values)]
    return float(measured.mean(dtype=np.float64)) if len(measured) else math.nan


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        DataError: its results are missing or unreadable.
    """
    columns = read_table(folder).to_pydict()
    rows = tuple(_rows(columns))
    places: dict[Place, list[RunRow]] = defaultdict(list)
    for row in rows:
        places[row.place].append(row)
    manifest = _manifest(folder)
    data = {name: set[str]() for name in columns["dataset"] if name}
    for name, value in zip(columns["dataset"], columns["data_hash"], strict=True):
        if name and value:
            data[name].add(value)
    hashes = {name: join_words(sorted(found)) for name, found in data.items() if found}
    stated = manifest.get("data")
    if isinstance(stated, dict):
        hashes |= {str(name): str(value) for name, value in stated.items()}
    scenarios = sorted({h for h in columns["scenario_hash"] if h} | _stated_scenario(manifest))
    block = _block_finder(sample_batches(folder))
    return Run(folder, rows, dict(places), manifest, hashes, tuple(scenarios), block)


def _rows(columns: dict[str, list[Any]]) -> list[RunRow]:
    strengths = [None if s is None or math.isnan(s) else s for s in columns["strength"]]
    keys = [strengths if name == "strength" else columns[name] for name in Place._fields]
    # Another writer of Parquet may have made null of NaN.
    columns["value"] = [math.nan if value is None else value for value in columns["value"]]
    places = map(Place._make, zip(*keys, strict=True))
    facts = [columns[name] for name in RunRow._fields if name not in ("place", "measured")]
    measured = [
        status == "ok" and not math.isnan(value)
        for status, value in zip(columns["status"], columns["value"], strict=True)
    ]
    return list(map(RunRow._make, zip(places, *facts, measured, strict=True)))


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _stated_scenario(manifest: dict[str, Any]) -> set[str]:
    scenario = manifest.get("scenario")
    stated = scenario.get("sha256") if isinstance(scenario, dict) else None
    return {str(stated)} if stated else set()


def _block_finder(batches: Iterable[pa.RecordBatch]) -> Callable[[BlockKey], Block | None]:
    """Index samples by the stretches of equal keys in them; nothing is copied."""
    pieces: dict[BlockKey, list[Block]] = defaultdict(list)
    for batch in batches:
        units, values = _numbers(batch["unit"]), _numbers(batch["value"])
        keys, starts = _stretches(batch)
        stops, means = [*starts[1:], len(units)], _means(values, starts)
        for key, start, stop, mean in zip(keys, starts, stops, means, strict=True):
            pieces[key].append(Block(units[start:stop], values[start:stop], mean))

    def block(key: BlockKey) -> Block | None:
        found = pieces.get(key)
        if not found or len(found) == 1:
            return found[0] if found else None
        units, values = (np.concatenate([piece[i] for piece in found]) for i in (0, 1))
        return Block(units, values, _means(values, [0])[0])

    return block


def _means(values: Float[np.ndarray, " sample"], starts: list[int]) -> list[float]:
    """Mean of the values that exist, of each stretch."""
    there = ~np.isnan(values)
    sums = np.add.reduceat(np.where(there, values, 0), starts, dtype=np.float64)
    counts = np.add.reduceat(there, starts, dtype=np.int64)
    return np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0).tolist()


def _numbers(column: pa.Array) -> np.ndarray:
    """A column without a copy, where nothing in it is null."""
    # Arrow's own conversion loads pandas, which takes as long as all of the reading.
    return column.to_numpy(zero_copy_only=False) if column.null_count else np.from_dlpack(column)


def _stretches(batch: pa.RecordBatch) -> tuple[list[BlockKey], list[int]]:
    """The keys of a batch in their order, and where each one's stretch of rows begins."""
    texts: list[list[str] | None] = []
    codes: list[Int[np.ndarray, " sample"]] = []
    for name in ("cell", "attack", "metric", "k", "protocol"):
        column = batch[name]
        if name == "k":
            texts.append(None)
            codes.append(_numbers(column))
            continue
        coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        texts.append(coded.dictionary.to_pylist())
        codes.append(_numbers(coded.indices))
    new = np.ones(len(batch), bool)
    new[1:] = False
    for code in codes:
        new[1:] |= code[1:] != code[:-1]
    starts = np.flatnonzero(new)
    heads = [
        code[starts].tolist() if text is None else [text[c] for c in code[starts].tolist()]
        for text, code in zip(texts, codes, strict=True)
    ]
    return list(zip(*heads, strict=True)), starts.tolist()
