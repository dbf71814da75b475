"""A cell's sheet of results: every number gets its interval, its n and its chance level here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from harness.core.seeds import Seeds
from harness.metrics.interval import bootstrap_mean
from harness.rows import Better, Protocol, Row, SampleBlock, Side

NAN = float("nan")


def score_seeds(seed: int) -> Seeds:
    """Return the streams of the sheet of a cell with this root seed."""
    return Seeds(seed).child("score")


def bootstrap_stream(seed: int, metric: str, k: int, attack: str) -> np.random.Generator:
    """Return the stream that the interval of one row was resampled with."""
    return _stream(score_seeds(seed), metric, k, attack)


def _stream(seeds: Seeds, metric: str, k: int, attack: str) -> np.random.Generator:
    return seeds.numpy("bootstrap", metric, k, attack)


@dataclass
class Sheet:
    """Rows and per-unit samples of one cell.

    Attributes:
        base: row fields that all rows of the cell share.
        seeds: streams of the bootstrap.
        draws: bootstrap resamples.
    """

    base: dict[str, Any]
    seeds: Seeds
    draws: int
    rows: list[Row] = field(default_factory=list[Row])
    samples: list[SampleBlock] = field(default_factory=list[SampleBlock])

    def measure(
        self,
        metric: str,
        units: Int[np.ndarray, " unit"],
        values: Shaped[np.ndarray, " unit"],
        *,
        side: Side,
        better: Better,
        chance: float,
        k: int = 0,
        protocol: Protocol = "",
        attack: str = "none",
        threat_model: str = "",
        reason: str = "",
    ) -> None:
        """Enter the mean of a per-unit metric with its bootstrap interval over units."""
        values = np.asarray(values, dtype=np.float64)
        rng = _stream(self.seeds, metric, k, attack)
        interval = bootstrap_mean(values, rng, draws=self.draws)
        block = SampleBlock(
            cell=self.base["cell"],
            metric=metric,
            units=np.asarray(units, dtype=np.int64),
            values=values,
            attack=attack,
            k=k,
            protocol=protocol,
        )
        self.samples.append(block)
        self.rows.append(
            Row(
                **self.base,
                metric=metric,
                side=side,
                better=better,
                k=k,
                protocol=protocol,
                attack=attack,
                threat_model=threat_model,
                value=interval.value,
                low=interval.low,
                high=interval.high,
                n=interval.n,
                chance=chance,
                reason=reason,
            )
        )

    def figure(
        self,
        metric: str,
        value: float,
        *,
        side: Side,
        better: Better,
        n: int = 0,
        chance: float = NAN,
        attack: str = "none",
        threat_model: str = "",
        status: str = "ok",
        reason: str = "",
    ) -> None:
        """Enter a single number that has no units to resample."""
        self.rows.append(
            Row(
                **{
                    **self.base,
                    "metric": metric,
                    "value": float(value),
                    "side": side,
                    "better": better,
                    "n": n,
                    "chance": chance,
                    "attack": attack,
                    "threat_model": threat_model,
                    "status": status,
                    "reason": reason,
                }
            )
        )
