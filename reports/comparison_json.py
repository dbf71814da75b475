"""A comparison as strict JSON: null for what was not measured, and the reason beside it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from reports.comparison import VERDICTS, Comparison, Difference
from reports.comparison_run import RunRow
from reports.comparison_words import RULE, caution, summary

SCHEMA = 1


def comparison_json(comparison: Comparison, *, only_changed: bool = False) -> str:
    """Return the document."""
    shown = [d for d in comparison.differences if d.changed or not only_changed]
    document = {
        "schema": SCHEMA,
        "a": comparison.a.title,
        "b": comparison.b.title,
        "problems": list(comparison.problems),
        "summary": summary(comparison),
        "counts": {verdict: len(comparison.of(verdict)) for verdict in VERDICTS},
        "caution": caution(comparison),
        "rule": RULE,
        "differences": [_difference(d) for d in shown],
        "only_in_a": [_row(row) for row in comparison.only_a],
        "only_in_b": [_row(row) for row in comparison.only_b],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _difference(found: Difference) -> dict[str, Any]:
    value, low, high, n = found.interval
    return {
        "verdict": found.verdict,
        **_place(found.place._asdict()),
        "a": _finite(found.a),
        "b": _finite(found.b),
        "difference": _finite(value),
        "low": _finite(low),
        "high": _finite(high),
        "n": n,
        "seeds": found.num_seeds,
        "per_user": found.per_user,
        "better": found.better,
        "reason": found.reason,
        "lost_in": found.lost_in,
        "lost": asdict(found.lost),
    }


def _row(row: RunRow) -> dict[str, Any]:
    return {
        **_place(row.place._asdict()),
        "seed": row.seed,
        "value": _finite(row.value),
        "reason": "" if row.measured else row.why_missing,
    }


def _place(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: _finite(v) if isinstance(v, float) else v for k, v in fields.items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
