"""What an unquoted YAML scalar means: the YAML 1.2 core schema, with YAML 1.1's traps refused."""

from __future__ import annotations

import math
import re

MAX_DIGITS = 30

Scalar = str | int | float | bool | None

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_OLD_BOOLEANS = frozenset({"yes", "no", "on", "off"})
_OLD_NUMBERS = re.compile(r"[-+]?0[0-9]+|[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?|[0-9][0-9_]*_[0-9]+")


def plain_scalar(text: str) -> Scalar:
    """Resolve an unquoted scalar by the YAML 1.2 core schema.

    Words and numbers that YAML 1.1 reads differently (``no``, ``010``, ``12:30``) are refused,
    since a reader can't know which of the two was meant.

    Raises:
        ValueError: ambiguous, or an integer beyond 30 digits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text.lower() in _OLD_BOOLEANS:
        meant = "true" if text.lower() in ("yes", "on") else "false"
        raise ValueError(f"{text} is ambiguous; write {meant}, or quote it: '{text}'")
    if _OLD_NUMBERS.fullmatch(text):
        raise ValueError(f"{text} is ambiguous; write a plain number, or quote it: '{text}'")
    if _INTEGER.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise ValueError(f"an integer of {len(text)} digits is out of range")
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return math.nan if "n" == text[1:2].lower() else float(text.replace(".", ""))
    return text
