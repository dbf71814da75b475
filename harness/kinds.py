"""The kinds of things that a scenario can name."""

from __future__ import annotations

from typing import Literal

Kind = Literal["systems", "attacks", "defenses", "datasets", "metrics"]
KINDS: tuple[Kind, ...] = ("systems", "attacks", "defenses", "datasets", "metrics")
