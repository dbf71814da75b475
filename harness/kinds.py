"""The kinds of names that a scenario uses and ``list`` shows; imports nothing, so help is fast."""

from __future__ import annotations

from typing import Literal

Kind = Literal["systems", "attacks", "defenses", "datasets", "metrics"]
KINDS: tuple[Kind, ...] = ("systems", "attacks", "defenses", "datasets", "metrics")
