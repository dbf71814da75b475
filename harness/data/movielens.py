"""MovieLens 100K and 1M: the pinned copies, or GroupLens's own files from a folder.

Harper and Konstan 2015, doi:10.1145/2827872. The pinned 1M copy names items by "Title (year)", the
pinned 100K copy and GroupLens's files by number. Titles become "Title (year)" in all of them.
100K holds 18 films twice under two numbers (GroupLens's own doubles): they stay apart and are
counted as items that share a title.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from harness.core.errors import DataError
from harness.core.params import Params
from harness.data.assemble import assemble
from harness.data.catalogue import MOVIELENS_GENRES, Catalogue, make_catalogue
from harness.data.delimited import Table, read_table
from harness.data.events import RowPolicy
from harness.data.generic_folder import event_table, user_table
from harness.data.interactions import Interactions
from harness.data.recbole import read_asset
from harness.data.registry import LOADERS, PathOptions

_LOG = ("user_id", "item_id", "rating", "timestamp")
_USERS = ("user_id", "age", "gender", "occupation", "zip_code")
_ITEMS_100K = ("item_id", "title", "date", "video_date", "url", *MOVIELENS_GENRES)


class MovielensOptions(Params):
    """Options of the named MovieLens sets.

    Attributes:
        path: GroupLens's unpacked folder (``u.data`` or ``ratings.dat``); default is the pinned
            copy.
    """

    path: str | None = None


def _fits(folder: Path) -> bool:
    return (folder / "u.data").is_file() or (folder / "ratings.dat").is_file()


@LOADERS.register("ml-100k", MovielensOptions)
def read_100k(options: MovielensOptions, policy: RowPolicy) -> Interactions:
    """Read MovieLens 100K: 943 users, 1,682 items, 100,000 ratings."""
    return _read_named("ml-100k", options, policy)


@LOADERS.register("ml-1m", MovielensOptions)
def read_1m(options: MovielensOptions, policy: RowPolicy) -> Interactions:
    """Read MovieLens 1M: 6,040 users, 3,706 rated items, 1,000,209 ratings."""
    return _read_named("ml-1m", options, policy)


def _read_named(name: str, options: MovielensOptions, policy: RowPolicy) -> Interactions:
    if options.path is None:
        return read_asset(name, policy)
    loader = LOADERS.fitting(Path(options.path).expanduser())
    return loader.read(loader.options(path=options.path), policy)


@LOADERS.register("grouplens", PathOptions, fits=_fits)
def read_grouplens(options: PathOptions, policy: RowPolicy) -> Interactions:
    """Read GroupLens's raw files of either size.

    Raises:
        DataError: neither ``u.data`` nor ``ratings.dat`` is in the folder, or a file is wrong.
    """
    folder = Path(options.path).expanduser()
    if (folder / "u.data").is_file():
        parts = _raw(folder / "u.data", _LOG, "\t"), *_100k_side_files(folder)
    elif (folder / "ratings.dat").is_file():
        parts = _raw(folder / "ratings.dat", _LOG, "::"), *_1m_side_files(folder)
    else:
        raise DataError(f"{folder}: neither u.data nor ratings.dat is there")
    log, catalogue, users = parts
    return assemble(folder.resolve().name, event_table(log), catalogue, policy, users)


def _raw(path: Path, names: tuple[str, ...], delimiter: str) -> Table:
    coded = ("user_id", "item_id") if names is _LOG else ()
    return read_table(
        path, delimiter=delimiter, quoted=False, names=names, coded=coded, encoding="latin-1"
    )


def _100k_side_files(folder: Path) -> tuple[Catalogue | None, pd.DataFrame | None]:
    items, users = folder / "u.item", folder / "u.user"
    catalogue = None
    if items.is_file():
        table = _raw(items, _ITEMS_100K, "|")
        flags = zip(*(table.text(genre) for genre in MOVIELENS_GENRES), strict=True)
        genres = [
            tuple(g for g, flag in zip(MOVIELENS_GENRES, row, strict=True) if flag == "1")
            for row in flags
        ]
        catalogue = _catalogue(table, genres)
    return catalogue, user_table(_raw(users, _USERS, "|")) if users.is_file() else None


def _1m_side_files(folder: Path) -> tuple[Catalogue | None, pd.DataFrame | None]:
    items, users = folder / "movies.dat", folder / "users.dat"
    catalogue = None
    if items.is_file():
        table = _raw(items, ("item_id", "title", "genres"), "::")
        catalogue = _catalogue(table, [tuple(g.split("|")) for g in table.text("genres")])
    names = ("user_id", "gender", "age", "occupation", "zip_code")
    return catalogue, user_table(_raw(users, names, "::")) if users.is_file() else None


def _catalogue(table: Table, genres: list[tuple[str, ...]]) -> Catalogue:
    """Return the films; GroupLens's titles carry their year already."""
    titles = [re.sub(r"\s+", " ", title) for title in table.text("title")]
    return make_catalogue(table.path.name, table.text("item_id"), titles, attributes=genres)
