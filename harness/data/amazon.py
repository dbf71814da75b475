"""Amazon product reviews of 2014 and 2018: JSON lines of reviews and of metadata, plain or gzip.

He and McAuley, WWW 2016 (2014 files; their metadata are Python literals, not JSON) and Ni, Li and
McAuley, EMNLP 2019 (2018 files). Reviews: ``reviewerID``, ``asin``, ``overall``,
``unixReviewTime``. Metadata: ``asin``, ``title``, ``brand``, ``categories`` or ``category``,
``description``. The metadata lack some products; those keep an empty title and are counted.
"""

from __future__ import annotations

import ast
import gzip
import html
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.errors import DataError
from harness.core.params import Params
from harness.data.assemble import assemble
from harness.data.catalogue import Catalogue, make_catalogue
from harness.data.events import Coded, EventTable, RowPolicy
from harness.data.interactions import Interactions
from harness.data.registry import LOADERS

MAX_LINE_BYTES = 64 << 20
_ASIN = re.compile(r"""["']asin["']\s*:\s*["']([^"']+)["']""")
# 2018 titles sometimes hold the page's style sheet or script instead of a title.
_PAGE_CODE = re.compile(r"getTime|</?(script|style|span)|function\s*\(", re.IGNORECASE)


class AmazonOptions(Params):
    """Options for raw Amazon files.

    Attributes:
        reviews: reviews file (``.json`` or ``.json.gz``, one object per line).
        metadata: metadata file of the same category; without it items have no titles.
    """

    reviews: str
    metadata: str | None = None


@LOADERS.register("amazon", AmazonOptions)
def read_amazon(options: AmazonOptions, policy: RowPolicy) -> Interactions:
    """Read one category.

    Raises:
        DataError: a file is missing, damaged or holds no such objects.
    """
    path = Path(options.reviews).expanduser()
    events = _reviews(path)
    catalogue = None
    if options.metadata is not None:
        catalogue = _metadata(Path(options.metadata).expanduser(), set(events.item.values))
    name = re.sub(r"(\.json|\.gz|\.jsonl)+$", "", path.name)
    return assemble(name, events, catalogue, policy)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the filled lines of a plain or gzip file with their number, one at a time."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            number = 0
            while line := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise DataError(f"{path}: line {number} is longer than {MAX_LINE_BYTES} bytes")
                if line.strip():
                    yield number, line
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error


def _number(value: Any) -> float:
    """Return a JSON number (or one in quotes) as float, NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return float("nan")
    try:
        return float(value)
    except (ValueError, OverflowError):
        return float("nan")


def _reviews(path: Path) -> EventTable:
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    rows: list[tuple[int, int, int, float, float]] = []
    malformed: list[int] = []
    for number, line in _lines(path):
        try:
            review = json.loads(line)
            user, item = review["reviewerID"], review["asin"]
        except (ValueError, KeyError, TypeError, RecursionError):
            malformed.append(number)
            continue
        if not isinstance(user, str) or not isinstance(item, str):
            malformed.append(number)
            continue
        rows.append(
            (
                number,
                users.setdefault(user, len(users)),
                items.setdefault(item, len(items)),
                _number(review.get("unixReviewTime")),
                _number(review.get("overall")),
            )
        )
    if not rows:
        raise DataError(
            f"{path}: no line is a JSON object with reviewerID and asin"
            + (f" (line {malformed[0]} is not)" if malformed else ", the file is empty")
        )
    line_number, user_code, item_code, time, rating = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    return EventTable(
        source=path.name,
        user=Coded(user_code, list(users)),
        item=Coded(item_code, list(items)),
        line=line_number,
        timestamp=time.astype(np.float64),
        rating=rating.astype(np.float64),
        malformed=tuple(malformed),
    )


def _metadata(path: Path, wanted: set[str]) -> Catalogue:
    """Read the products that occur in the reviews; of a product listed twice the first row."""
    ids: list[str] = []
    titles: list[str] = []
    kinds: list[tuple[str, ...]] = []
    brands: list[str] = []
    descriptions: list[str] = []
    unreadable = code = 0
    for _, raw in _lines(path):
        line = raw.decode(errors="replace")
        found = _ASIN.search(line)
        if found is None or found[1] not in wanted:
            continue
        product = _product(line)
        if product is None:
            unreadable += 1
            continue
        title = _text(product.get("title"))
        if _PAGE_CODE.search(title):
            title, code = "", code + 1
        ids.append(found[1])
        titles.append(title)
        kinds.append(_categories(product))
        brands.append(_text(product.get("brand")))
        descriptions.append(_text(product.get("description")))
    catalogue = make_catalogue(
        path.name,
        ids,
        titles,
        attributes=kinds,
        details=[brands, descriptions],
        complete=False,
    )
    catalogue.notes.update(metadata_lines_unreadable=unreadable, titles_that_were_page_code=code)
    return catalogue


def _product(line: str) -> dict[str, Any] | None:
    """Parse JSON (2018) or a Python literal (2014); code is never run."""
    try:
        product = json.loads(line)
    except (ValueError, RecursionError):
        try:
            product = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    return product if isinstance(product, dict) else None


def _text(value: Any) -> str:
    """Return text, or a list of texts joined, with entities such as ``&amp;`` resolved."""
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    return html.unescape(value) if isinstance(value, str) else ""


def _categories(product: dict[str, Any]) -> tuple[str, ...]:
    """Return the path of categories; 2014 nests paths, of which the first counts."""
    value = product.get("category") or product.get("categories") or []
    if value and isinstance(value[0], list):
        value = value[0]
    texts = (_text(part) for part in value) if isinstance(value, list) else ()
    return tuple(text for text in texts if text and not _PAGE_CODE.search(text))
