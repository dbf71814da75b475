"""Text and ids as they must be before they are compared: NFC, no lone surrogates, no guesses."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable

MAX_TITLE_CHARACTERS = 1000
MAX_TEXT_CHARACTERS = 4000

_SURROGATE = re.compile("[\ud800-\udfff]")
_ENTITY = re.compile(r"&(#\d+|#[xX][0-9a-fA-F]+|[A-Za-z]\w*);")
_SPACE = re.compile(r"\s+")
# What a table program makes of an integer id: a missing value, a sentinel, a decimal number.
_BAD_ID = re.compile(r"(nan|none|null|[+-]?inf|-\d+|[+-]?\d+\.\d*(e[+-]?\d+)?)", re.IGNORECASE)


def clean_text(text: str, limit: int = MAX_TITLE_CHARACTERS) -> tuple[str, int, bool]:
    """Return text in NFC with single spaces, no lone surrogates, and at most ``limit`` characters.

    Returns:
        The text, the number of lone surrogates replaced by U+FFFD, and whether it was cut.
    """
    if text.isascii():
        replaced = 0
    else:
        text, replaced = _SURROGATE.subn("\ufffd", text)
        text = unicodedata.normalize("NFC", text)
    text = _SPACE.sub(" ", text).strip()
    return text[:limit], replaced, len(text) > limit


def unescaped(text: str) -> str:
    """Return text with complete HTML entities (``&#8230;``) resolved, as some titles hold them."""
    return _ENTITY.sub(lambda found: html.unescape(found[0]), text) if "&" in text else text


def clean_id(text: str) -> str:
    """Return an id in NFC without surrounding space or lone surrogates; never a number."""
    text = text.strip()
    return text if text.isascii() else unicodedata.normalize("NFC", _SURROGATE.sub("\ufffd", text))


def bad_id(text: str) -> bool:
    """Whether an id is empty, a missing value, a negative number or a decimal number.

    Ids are text: ``003`` and ``3`` differ and no integer is too large. A value such as ``3.0`` or
    ``-1`` is what a table program writes where an id was missing; it would match no item.
    """
    return not text or _BAD_ID.fullmatch(text) is not None


def with_year(title: str, year: str) -> str:
    """Return ``Title (year)``; the title alone if no four-digit year is known or it has one."""
    year = year.strip().removesuffix(".0")
    if not title or not re.fullmatch(r"\d{4}", year) or title.endswith(f"({year})"):
        return title
    return f"{title} ({year})"


def joined_text(parts: Iterable[str]) -> str:
    """Join the non-empty parts of an item's description into sentences."""
    text = ". ".join(part.rstrip(" .") for part in parts if part.strip())
    return clean_text(text, MAX_TEXT_CHARACTERS)[0]
