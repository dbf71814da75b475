"""What is known of the items of a data set, before any event is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.data.cleaning import bad_id, clean_id, clean_text, joined_text, unescaped, with_year
from harness.data.files import control_characters

MOVIELENS_GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)


@dataclass(frozen=True)
class Catalogue:
    """Items in the order of their file.

    Attributes:
        source: file name, for messages.
        ids: cleaned ids, distinct.
        titles: title of each, ``""`` where there is none.
        text: longer text of each, at least the title.
        attributes: genres or categories of each.
        complete: whether an event with an item that is not listed is an error.
        notes: counts for the report.
        bad_ids: ids that are no ids, with their row in the file, counted from 1.
    """

    source: str
    ids: list[str]
    titles: list[str]
    text: list[str]
    attributes: list[tuple[str, ...]] | None
    complete: bool
    notes: dict[str, int | str]
    bad_ids: list[tuple[int, str]]


def make_catalogue(
    source: str,
    ids: Sequence[str],
    titles: Sequence[str],
    *,
    years: Sequence[str] | None = None,
    attributes: Sequence[tuple[str, ...]] | None = None,
    details: Sequence[Sequence[str]] = (),
    complete: bool = True,
    encoding: str = "",
) -> Catalogue:
    """Clean the columns of an item file.

    Of two rows with one id the first is kept. Two items with one title stay two items: both cases
    are counted. A year of four digits is appended to the title; ``details`` are further columns
    (description, brand) that go into the text only.
    """
    first, bad = _first_rows(ids)
    out = Catalogue(source, [], [], [], None if attributes is None else [], complete, {}, bad)
    replaced = shortened = controls = 0
    for key, row in first.items():
        title, surrogates, cut = clean_text(unescaped(titles[row]))
        replaced, shortened = replaced + surrogates, shortened + cut
        controls += control_characters(title) - surrogates
        title = with_year(title, years[row]) if years is not None else title
        kinds = attributes[row] if attributes is not None else ()
        out.ids.append(key)
        out.titles.append(title)
        out.text.append(joined_text([title, ", ".join(kinds), *(d[row] for d in details)]))
        if out.attributes is not None:
            out.attributes.append(kinds)
    out.notes.update(
        items_in_file=len(ids),
        item_rows_with_known_id=len(ids) - len(first) - len(bad),
        item_rows_without_id=len(bad),
        lone_surrogates_replaced=replaced,
        titles_shortened=shortened,
        title_characters_unreadable=controls,
    )
    if encoding not in ("", "ascii", "utf-8"):
        out.notes["items_encoding"] = encoding
    return out


def _first_rows(ids: Sequence[str]) -> tuple[dict[str, int], list[tuple[int, str]]]:
    """Return the first row of each id, and the rows whose id is none."""
    first: dict[str, int] = {}
    bad: list[tuple[int, str]] = []
    for row, raw in enumerate(ids):
        key = clean_id(raw)
        if bad_id(key):
            bad.append((row + 1, raw))
        else:
            first.setdefault(key, row)
    return first, bad


def split_attributes(values: Sequence[str]) -> list[tuple[str, ...]]:
    """Split a text column of categories by the one separator that the column uses.

    Tried in turn: ``" > "`` (a path), ``"|"``, ``", "``; a column made of MovieLens genre names
    only is split at spaces; anything else is one category per item.
    """
    for separator in (" > ", "|", ", "):
        if any(separator in value for value in values):
            return [_parts(value.split(separator)) for value in values]
    words = {word for value in values for word in value.split()}
    if words and words <= set(MOVIELENS_GENRES):
        return [_parts(value.split()) for value in values]
    return [_parts([value]) for value in values]


def _parts(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(clean_text(value)[0] for value in values if value.strip())
