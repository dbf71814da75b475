"""RecBole's atomic files: tab separated ``NAME.inter``, ``NAME.item``, ``NAME.user``.

Header entries are ``name:type``. Source: RecBole's documentation, "Atomic Files". A log that was
split beforehand (``NAME.train.inter``, ``NAME.valid.inter``, ``NAME.test.inter``) is read whole,
in this order: the harness splits every log itself, by leave-one-out over time.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.assets import fetch
from harness.core.errors import DataError
from harness.core.params import Params
from harness.data.assemble import assemble
from harness.data.delimited import Table, read_table
from harness.data.events import RowPolicy, joined_events
from harness.data.generic_folder import event_table, item_catalogue, user_table
from harness.data.interactions import Interactions
from harness.data.registry import LOADERS


class AtomicOptions(Params):
    """Options for atomic files.

    Attributes:
        path: folder, or one ``.inter`` file of it.
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


PARTS = ("train", "valid", "test")
"""In the order of time, as RecBole's own splits are."""


def _fits(path: Path) -> bool:
    return path.suffix == ".inter" if path.is_file() else any(path.glob("*.inter"))


def _name(log: Path) -> str:
    """Return the data set's name: ``click`` for ``click.inter`` and for ``click.train.inter``."""
    name, _, part = log.stem.rpartition(".")
    return name if name and part in PARTS else log.stem


def _logs(path: Path) -> list[Path]:
    """Return the files of one log.

    Raises:
        DataError: the folder holds several logs, or none.
    """
    if path.is_file():
        return [path]
    logs = sorted(path.glob("*.inter"))
    names = {_name(log) for log in logs}
    whole = [log for log in logs if log.stem in names]
    if len(names) != 1 or (whole and len(logs) > 1):
        found = ", ".join(log.name for log in logs) or "none"
        advice = f"name one in path:, such as {logs[0]}" if logs else "there is nothing to read"
        raise DataError(f"{path}: the .inter files are not of one log, found {found}; {advice}")
    return logs if whole else sorted(logs, key=lambda log: PARTS.index(log.stem.rpartition(".")[2]))


@LOADERS.register(
    "recbole",
    AtomicOptions,
    fits=_fits,
    carries="what the files have of ratings, times, titles, categories and user attributes",
)
def read_atomic(options: AtomicOptions, policy: RowPolicy) -> Interactions:
    """Read RecBole's atomic files: NAME.inter, NAME.item, NAME.user, also split ones.

    Raises:
        DataError: a file is missing or wrong.
    """
    logs = _logs(Path(options.path).expanduser())
    user, item = options.user_field, options.item_field

    def table(path: Path, coded: tuple[str, ...] = ()) -> Table:
        encoding = policy.encoding
        return read_table(
            path, delimiter="\t", quoted=False, coded=coded, encoding=encoding, typed_header=True
        )

    events = joined_events(
        [
            event_table(
                table(log, (user, item)), user, item, options.rating_field, options.time_field
            )
            for log in logs
        ]
    )
    name = _name(logs[0])
    beside = [log.name for log in logs[0].parent.glob(f"{name}.*.inter") if log not in logs]
    if logs[0].stem != name and beside:
        words = f"{logs[0].name} alone was read; beside it lie {', '.join(sorted(beside))}"
        events = replace(events, notes={**(events.notes or {}), "remark_part": words})
    items, users = (logs[0].with_name(f"{name}.{kind}") for kind in ("item", "user"))
    catalogue = item_catalogue(table(items), item) if items.is_file() else None
    attributes = user_table(table(users), user) if users.is_file() else None
    return assemble(name, events, catalogue, policy, attributes)


def read_asset(name: str, policy: RowPolicy) -> Interactions:
    """Read a pinned data set in this format, fetched on first use."""
    return read_atomic(AtomicOptions(path=str(fetch(name))), policy)
