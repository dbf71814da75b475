"""Amazon product reviews of 2014, 2018 and 2023: JSON lines of reviews and metadata, plain or gzip.

He and McAuley, WWW 2016 (2014 files; their metadata are Python literals, not JSON), Ni, Li and
McAuley, EMNLP 2019 (2018 files), Hou et al., arXiv:2403.03952 (2023 files). Reviews:
``reviewerID``, ``asin``, ``overall``, ``unixReviewTime``; in 2023 ``user_id``, ``parent_asin``,
``rating``, ``timestamp``. Metadata: ``asin`` (2023: ``parent_asin``), ``title``, ``brand``,
``categories`` or ``category``, ``description``. The metadata lack some products; those keep an
empty title and are counted. ``path:`` takes a folder with one file of each kind, told apart by
their first line, or the reviews file alone.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import model_validator

from harness.core.errors import DataError
from harness.core.params import Params
from harness.data.amazon_reviews import (
    FIELDS_2018,
    FIELDS_2023,
    Fields,
    blocks_of,
    fields_of,
    first_object,
    read_reviews,
)
from harness.data.assemble import assemble
from harness.data.catalogue import Catalogue, make_catalogue
from harness.data.cleaning import unescaped
from harness.data.events import RowPolicy
from harness.data.interactions import Interactions
from harness.data.registry import LOADERS

# 2018 titles sometimes hold the page's style sheet or script instead of a title.
_PAGE_CODE = re.compile(r"getTime|</?(script|style|span)|function\s*\(", re.IGNORECASE)
_ENDINGS = ("*.json", "*.json.gz", "*.jsonl", "*.jsonl.gz")


class AmazonOptions(Params):
    """Options for raw Amazon files.

    Attributes:
        path: folder with one reviews file and at most one metadata file, or the reviews file.
        reviews: reviews file (``.json`` or ``.json.gz``, one object per line), instead of path.
        metadata: metadata file of the same category; without it items have no titles.
    """

    path: str | None = None
    reviews: str | None = None
    metadata: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> AmazonOptions:
        if (self.path is None) == (self.reviews is None):
            raise ValueError("give either path (a folder) or reviews (a file)")
        if self.path is not None and self.metadata is not None:
            raise ValueError("metadata belongs to reviews; a folder's is found in it")
        return self


def _is_review(path: Path) -> bool:
    first = first_object(path)
    forms = (FIELDS_2018, FIELDS_2023)
    return first is not None and any(f.user in first and f.item in first for f in forms)


def _lines_in(folder: Path) -> list[Path]:
    return sorted({path for ending in _ENDINGS for path in folder.glob(ending)})


def _fits(path: Path) -> bool:
    files = [path] if path.is_file() else _lines_in(path)
    named = [file for file in files if any(file.match(ending) for ending in _ENDINGS)]
    return any(_is_review(file) for file in named)


def _sources(options: AmazonOptions) -> tuple[Path, Path | None]:
    """Return the reviews file and the metadata file.

    Raises:
        DataError: a folder holds several of one kind.
    """
    if options.reviews is not None:
        metadata = None if options.metadata is None else Path(options.metadata).expanduser()
        return Path(options.reviews).expanduser(), metadata
    assert options.path is not None
    folder = Path(options.path).expanduser()
    if folder.is_file():
        return folder, None
    files = _lines_in(folder)
    reviews = [file for file in files if _is_review(file)]
    others = [file for file in files if file not in reviews]
    if len(reviews) != 1 or len(others) > 1:
        names = ", ".join(file.name for file in files) or "no JSON lines"
        raise DataError(
            f"{folder}: one file of reviews and at most one of metadata are needed, found {names}; "
            "name them: use: amazon, options: {reviews: FILE, metadata: FILE}"
        )
    return reviews[0], others[0] if others else None


@LOADERS.register(
    "amazon",
    AmazonOptions,
    fits=_fits,
    carries="ratings, times; with metadata titles, descriptions, brands, categories",
)
def read_amazon(options: AmazonOptions, policy: RowPolicy) -> Interactions:
    """Read one category of Amazon reviews (2014, 2018 or 2023), as JSON lines.

    Raises:
        DataError: a file is missing, damaged or holds no such objects.
    """
    path, metadata = _sources(options)
    events, catalogue = read_reviews(path, policy.encoding), None
    if metadata is not None:
        wanted = set(events.item.values)
        catalogue = _metadata(metadata, wanted, fields_of(path), policy.encoding)
    name = re.sub(r"(\.json|\.gz|\.jsonl)+$", "", path.name)
    return assemble(name, events, catalogue, policy)


def _metadata(path: Path, wanted: set[str], fields: Fields, encoding: str | None) -> Catalogue:
    """Read the products that occur in the reviews; of a product listed twice the first row."""
    ids: list[str] = []
    titles: list[str] = []
    kinds: list[tuple[str, ...]] = []
    brands: list[str] = []
    descriptions: list[str] = []
    unreadable = code = 0
    key = re.compile(rf"""["']{fields.item}["']\s*:\s*["']([^"']+)["']""")
    for line in _text_lines(path, encoding):
        found = key.search(line)
        if found is None:
            unreadable += bool(line.strip()) and _product(line) is None
            continue
        if found[1] not in wanted:
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
        brands.append(_text(product.get("brand") or product.get("store")))
        descriptions.append(_text(product.get("description")))
    catalogue = make_catalogue(
        str(path),
        ids,
        titles,
        attributes=kinds,
        details=[brands, descriptions],
        complete=False,
    )
    catalogue.notes.update(metadata_lines_unreadable=unreadable, titles_that_were_page_code=code)
    return catalogue


def _text_lines(path: Path, encoding: str | None) -> Iterator[str]:
    for _, block in blocks_of(path, encoding):
        for line in block.split(b"\n"):
            yield line.decode()


def _product(line: str) -> dict[str, Any] | None:
    """Parse JSON (2018) or a Python literal (2014); code is never run."""
    try:
        product = json.loads(line)
    except (ValueError, RecursionError):
        try:
            product = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return None
    return product if isinstance(product, dict) else None


def _text(value: Any) -> str:
    """Return text, or a list of texts joined, with entities such as ``&amp;`` resolved."""
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    return unescaped(value) if isinstance(value, str) else ""


def _categories(product: dict[str, Any]) -> tuple[str, ...]:
    """Return the path of categories; 2014 nests paths, of which the first counts."""
    value = product.get("category") or product.get("categories") or []
    if value and isinstance(value[0], list):
        value = value[0]
    texts = (_text(part) for part in value) if isinstance(value, list) else ()
    return tuple(text for text in texts if text and not _PAGE_CODE.search(text))
