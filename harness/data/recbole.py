"""RecBole's atomic files: tab separated ``NAME.inter``, ``NAME.item``, ``NAME.user``.

Header entries are ``name:type``. Source: RecBole's documentation, "Atomic Files".
"""

from __future__ import annotations

from pathlib import Path

from harness.assets import fetch
from harness.core.errors import DataError
from harness.core.params import Params
from harness.data.assemble import assemble
from harness.data.delimited import Table, read_table
from harness.data.events import RowPolicy
from harness.data.generic_folder import event_table, item_catalogue, user_table
from harness.data.interactions import Interactions
from harness.data.registry import LOADERS


class AtomicOptions(Params):
    """Options for atomic files.

    Attributes:
        path: folder, or the ``.inter`` file where a folder holds several.
        user_field: name of the user column.
        item_field: name of the item column.
        rating_field: name of the rating column, if there is one.
        time_field: name of the time column, if there is one.
    """

    path: str
    user_field: str = "user_id"
    item_field: str = "item_id"
    rating_field: str = "rating"
    time_field: str = "timestamp"


def _fits(folder: Path) -> bool:
    return any(folder.glob("*.inter"))


def _log(path: Path) -> Path:
    if path.is_file():
        return path
    logs = sorted(path.glob("*.inter"))
    if len(logs) != 1:
        names = ", ".join(log.name for log in logs) or "none"
        raise DataError(f"{path}: one .inter file is needed, found {names}; name the file itself")
    return logs[0]


@LOADERS.register("recbole", AtomicOptions, fits=_fits)
def read_atomic(options: AtomicOptions, policy: RowPolicy) -> Interactions:
    """Read atomic files.

    Raises:
        DataError: a file is missing or wrong.
    """
    log = _log(Path(options.path).expanduser())
    user, item = options.user_field, options.item_field
    events = event_table(
        _table(log, (user, item)), user, item, options.rating_field, options.time_field
    )
    items, users = log.with_suffix(".item"), log.with_suffix(".user")
    catalogue = item_catalogue(_table(items), item) if items.is_file() else None
    attributes = user_table(_table(users), user) if users.is_file() else None
    return assemble(log.stem, events, catalogue, policy, attributes)


def _table(path: Path, coded: tuple[str, ...] = ()) -> Table:
    return read_table(path, delimiter="\t", quoted=False, coded=coded, typed_header=True)


def read_asset(name: str, policy: RowPolicy) -> Interactions:
    """Read a pinned data set in this format, fetched on first use."""
    return read_atomic(AtomicOptions(path=str(fetch(name))), policy)
