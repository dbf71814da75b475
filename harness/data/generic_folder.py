"""Any folder with ``interactions.csv(.gz)`` and, for titles, ``items.csv(.gz)``.

``interactions``: ``user_id``, ``item_id`` and optionally ``timestamp``, ``order``, ``rating``.
``items``: ``item_id``, ``title`` and optionally ``year``, ``categories`` (or ``genres``),
``brand``, ``author``, ``description``. ``users``: ``user_id`` and any attributes. Other columns are
ignored. Fields are separated as in the header: by comma, tab, semicolon or bar.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from harness.core.errors import DataError
from harness.data.assemble import assemble
from harness.data.catalogue import Catalogue, make_catalogue, split_attributes
from harness.data.cleaning import clean_id
from harness.data.delimited import Table, read_table
from harness.data.events import EventTable, RowPolicy
from harness.data.files import one_of
from harness.data.interactions import Interactions
from harness.data.registry import LOADERS, PathOptions

TITLES = ("title", "movie_title", "name", "item_name")
YEARS = ("year", "release_year")
CATEGORIES = ("categories", "genres", "genre", "class", "category")
DETAILS = ("brand", "author", "description")


def _named(folder: Path, stem: str) -> tuple[Path, Path]:
    return folder / f"{stem}.csv.gz", folder / f"{stem}.csv"


def _found(folder: Path, stem: str) -> Path | None:
    return one_of(*_named(folder, stem))


def _fits(path: Path) -> bool:
    """Whether a folder, or a log in it, looks like this format."""
    logs = _named(path.parent if path.is_file() else path, "interactions")
    return path in logs if path.is_file() else any(log.is_file() for log in logs)


@LOADERS.register(
    "folder",
    PathOptions,
    fits=_fits,
    carries="what the files have of ratings, times, titles, categories and user attributes",
)
def read_folder(options: PathOptions, policy: RowPolicy) -> Interactions:
    """Read a folder of interactions.csv, items.csv and users.csv, plain or gzip.

    Raises:
        DataError: a file is missing or wrong.
    """
    given = Path(options.path).expanduser()
    folder = given.parent if given.is_file() else given
    log = given if given.is_file() else _found(folder, "interactions")
    if log is None:
        raise DataError(f"{folder}: neither interactions.csv.gz nor interactions.csv is there")

    def table(path: Path, coded: tuple[str, ...] = ()) -> Table:
        return read_table(path, delimiter="", coded=coded, encoding=policy.encoding)

    events = event_table(table(log, ("user_id", "item_id")))
    items, users = _found(folder, "items"), _found(folder, "users")
    catalogue = item_catalogue(table(items)) if items is not None else None
    attributes = user_table(table(users)) if users is not None else None
    return assemble(folder.resolve().name, events, catalogue, policy, attributes)


def event_table(
    table: Table,
    user: str = "user_id",
    item: str = "item_id",
    rating: str = "rating",
    time: str = "timestamp",
) -> EventTable:
    """Return the log columns of a table.

    Raises:
        DataError: the user or item column is missing; the columns seen are listed.
    """
    table.need(user)
    table.need(item)
    return EventTable(
        source=str(table.path),
        user=table.coded(user),
        item=table.coded(item),
        line=table.line,
        timestamp=table.numbers(table.first_of([time])),
        rating=table.numbers(table.first_of([rating])),
        order=table.numbers(table.first_of(["order"])),
        malformed=table.malformed,
        notes={"log_encoding": table.encoding},
    )


def check_rows(table: Table) -> None:
    """Make sure that every row of an item file has its fields.

    Raises:
        DataError: some do not, with their lines.
    """
    if table.malformed:
        lines = ", ".join(str(line) for line in table.malformed[:5])
        raise DataError(f"{table.path}: rows with another number of fields (line {lines})")


def item_catalogue(table: Table, item: str = "item_id") -> Catalogue:
    """Return the items of a table, whatever its title and category columns are called."""
    check_rows(table)
    table.need(item)
    title, year = table.first_of(TITLES), table.first_of(YEARS)
    category = table.first_of(CATEGORIES)
    return make_catalogue(
        str(table.path),
        table.text(item),
        table.text(title) if title else [""] * len(table),
        years=table.text(year) if year else None,
        attributes=split_attributes(table.text(category)) if category else None,
        details=[table.text(name) for name in DETAILS if name in table.columns],
        encoding=table.encoding,
    )


def user_table(table: Table, user: str = "user_id") -> pd.DataFrame:
    """Return the users' attributes as text, indexed by user id; the first row of an id counts."""
    ids = [clean_id(value) for value in table.text(table.need(user))]
    columns = {name: table.text(name) for name in table.columns if name != user}
    frame = pd.DataFrame(columns, index=pd.Index(ids), dtype=str)
    return pd.DataFrame(frame.loc[~frame.index.duplicated()])
