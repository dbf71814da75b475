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
from harness.data.generic_folder import check_rows, event_table, user_table
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


def _fits(path: Path) -> bool:
    if path.is_file():
        return path.name in ("u.data", "ratings.dat")
    return (path / "u.data").is_file() or (path / "ratings.dat").is_file()


@LOADERS.register(
    "ml-100k",
    MovielensOptions,
    carries="ratings, times, titles with years, genres, age, gender, occupation",
    licence="research use; not to be passed on (GroupLens)",
)
def read_100k(options: MovielensOptions, policy: RowPolicy) -> Interactions:
    """Read MovieLens 100K: 943 users, 1,682 items, 100,000 ratings."""
    return _read_named("ml-100k", options, policy)


@LOADERS.register(
    "ml-1m",
    MovielensOptions,
    carries="ratings, times, titles with years, genres, age, gender, occupation",
    licence="research use; not to be passed on (GroupLens)",
)
def read_1m(options: MovielensOptions, policy: RowPolicy) -> Interactions:
    """Read MovieLens 1M: 6,040 users, 3,706 rated items, 1,000,209 ratings."""
    return _read_named("ml-1m", options, policy)


def _read_named(name: str, options: MovielensOptions, policy: RowPolicy) -> Interactions:
    if options.path is None:
        return read_asset(name, policy)
    loader = LOADERS.fitting(Path(options.path).expanduser())
    return loader.read(loader.options(path=options.path), policy)


@LOADERS.register(
    "grouplens",
    PathOptions,
    fits=_fits,
    carries="ratings, times, titles with years, genres, age, gender, occupation",
    licence="research use; not to be passed on (GroupLens)",
)
def read_grouplens(options: PathOptions, policy: RowPolicy) -> Interactions:
    """Read GroupLens's own files of MovieLens 100K (u.data) or 1M (ratings.dat).

    Raises:
        DataError: neither ``u.data`` nor ``ratings.dat`` is in the folder, or a file is wrong.
    """
    given = Path(options.path).expanduser()
    folder = given.parent if given.is_file() else given
    if (folder / "u.data").is_file():
        log = _raw(folder / "u.data", _LOG, "\t", policy)
        catalogue, users = _100k_side_files(folder, policy)
    elif (folder / "ratings.dat").is_file():
        log = _raw(folder / "ratings.dat", _LOG, "::", policy)
        catalogue, users = _1m_side_files(folder, policy)
    else:
        raise DataError(f"{folder}: neither u.data nor ratings.dat is there")
    return assemble(folder.resolve().name, event_table(log), catalogue, policy, users)


def _raw(path: Path, names: tuple[str, ...], delimiter: str, policy: RowPolicy) -> Table:
    """Read a file without header: in UTF-8, as people save it again, or else in Latin-1."""
    coded = ("user_id", "item_id") if names is _LOG else ()
    return read_table(
        path,
        delimiter=delimiter,
        quoted=False,
        names=names,
        coded=coded,
        encoding=policy.encoding,
        usual="latin-1",
    )


def _100k_side_files(
    folder: Path, policy: RowPolicy
) -> tuple[Catalogue | None, pd.DataFrame | None]:
    items, users = folder / "u.item", folder / "u.user"
    catalogue = None
    if items.is_file():
        table = _raw(items, _ITEMS_100K, "|", policy)
        flags = zip(*(table.text(genre) for genre in MOVIELENS_GENRES), strict=True)
        genres = [
            tuple(g for g, flag in zip(MOVIELENS_GENRES, row, strict=True) if flag == "1")
            for row in flags
        ]
        catalogue = _catalogue(table, genres)
    return catalogue, user_table(_raw(users, _USERS, "|", policy)) if users.is_file() else None


def _1m_side_files(folder: Path, policy: RowPolicy) -> tuple[Catalogue | None, pd.DataFrame | None]:
    items, users = folder / "movies.dat", folder / "users.dat"
    catalogue = None
    if items.is_file():
        table = _raw(items, ("item_id", "title", "genres"), "::", policy)
        catalogue = _catalogue(table, [tuple(g.split("|")) for g in table.text("genres")])
    names = ("user_id", "gender", "age", "occupation", "zip_code")
    return catalogue, user_table(_raw(users, names, "::", policy)) if users.is_file() else None


def _catalogue(table: Table, genres: list[tuple[str, ...]]) -> Catalogue:
    """Return the films; GroupLens's titles carry their year already."""
    check_rows(table)
    titles = [re.sub(r"\s+", " ", title) for title in table.text("title")]
    return make_catalogue(
        str(table.path),
        table.text("item_id"),
        titles,
        attributes=genres,
        encoding=table.encoding,
    )
