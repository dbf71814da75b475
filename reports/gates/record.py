"""A gate's outcome as strict JSON: null for what was not measured, and the reason beside it."""

from __future__ import annotations

import json
import math
from typing import Any

from reports.gates.judging import EXIT_CODES, RULE, Check, Outcome

SCHEMA = 1


def as_json(outcome: Outcome) -> str:
    """Return the document."""
    document = {
        "schema": SCHEMA,
        "run": outcome.run,
        "limits": outcome.limits,
        "verdict": outcome.verdict,
        "exit_code": outcome.exit_code,
        "counts": {verdict: outcome.count(verdict) for verdict in EXIT_CODES},
        "rule": RULE,
        "notes": list(outcome.notes),
        "checks": [_check(check) for check in outcome.checks],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)


def _check(check: Check) -> dict[str, Any]:
    value, low, high, n = check.interval
    return {
        "verdict": check.verdict,
        "name": check.name,
        "demand": check.demand,
        "line": check.line or None,
        "of": check.subject,
        "estimate": _finite(value),
        "low": _finite(low),
        "high": _finite(high),
        "n": n,
        "seeds": check.seeds,
        "reason": check.reason,
        "slack": _finite(check.slack),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
