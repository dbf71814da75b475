"""How arms are named where a scenario and a report must agree on it."""

from __future__ import annotations

WITHOUT = ": without "
"""Stands between an entry's label and the effects that a companion arm lacks.

Labels hold no colon, so that nobody's own arm is taken for a companion.
"""
AND = " and "
"""Stands between those effects."""
