"""How a scenario names a data set and what of it takes part."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from harness.core.errors import ScenarioError
from harness.core.params import Params
from harness.data.events import RowPolicy
from harness.data.files import is_encoding
from harness.data.partition import GENRE_GROUPS
from harness.data.registry import LOADERS


def _as_tuple(value: Any) -> Any:
    """Accept a document's list where the frozen model holds a tuple."""
    return tuple(value) if isinstance(value, list) else value


Genres = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class DomainsConfig(Params):
    """Two domains with disjoint users and items.

    Either ``by: genres`` cuts the data set that the configuration names, or ``target`` and
    ``source`` name one each.

    Attributes:
        by: cut one data set by genre and its users into halves.
        groups: genres of target and source; default ``partition.GENRE_GROUPS``.
        target: the domain that is evaluated.
        source: the domain that helps.
        drop_from: which of two data sets loses the users and items they share.
        separate_ids: equal ids of the two mean nothing.
    """

    by: Literal["genres"] | None = None
    groups: Annotated[tuple[Genres, Genres], BeforeValidator(_as_tuple)] | None = None
    target: DatasetConfig | None = None
    source: DatasetConfig | None = None
    drop_from: Literal["source", "target"] = "source"
    separate_ids: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        pair = self.target is not None and self.source is not None
        half = (self.target is None) != (self.source is None)
        if half or pair == (self.by is not None):
            raise ValueError("domains needs either by: genres, or both target and source")
        if self.groups is not None and self.by is None:
            raise ValueError("groups belongs to by: genres")
        for side in (self.target, self.source):
            if side is not None and side.domains is not None:
                raise ValueError("a domain cannot be made of domains")
        return self

    @property
    def genre_groups(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Genres of target and source."""
        return self.groups if self.groups is not None else GENRE_GROUPS


class DatasetConfig(Params):
    """A data set and the rules that cut it down.

    Order of the rules: minimum rating, split into domains, k-core together with minimum length
    (until both hold), a random subset of users, the latest events.

    Attributes:
        use: name of a loader, such as ``ml-100k``.
        path: folder or file in a known format; exactly one of ``use`` and ``path``.
        options: of the loader named by ``use``.
        domains: make two domains.
        min_rating: leave out events rated lower.
        k_core: fewest events of every item and user.
        min_length: fewest events of a user; three are what a leave-one-out split needs.
        max_users: size of a random subset of users (of each domain).
        keep_last: number of latest events of each user.
        on_bad: raise on rows that are wrong, or leave them out and count them.
        duplicates: keep or merge events with the same user, item and time.
        encoding: of the text files, such as ``gbk``; by default UTF-8, and for GroupLens's files
            Latin-1 where they are not UTF-8.
    """

    use: str | None = None
    path: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    domains: DomainsConfig | None = None
    min_rating: float | None = None
    k_core: int = Field(default=1, ge=1, le=1_000_000)
    min_length: int = Field(default=3, ge=3, le=1_000_000)
    max_users: int | None = Field(default=None, ge=1, le=1_000_000_000)
    keep_last: int | None = Field(default=None, ge=3, le=1_000_000)
    on_bad: Literal["error", "drop"] = "error"
    duplicates: Literal["keep", "merge"] = "keep"
    encoding: str | None = None

    @model_validator(mode="after")
    def _read_here(self) -> Self:
        if self.encoding is not None and not is_encoding(self.encoding):
            raise ValueError(f"no text encoding is called {self.encoding!r}")
        if self.domains is not None and self.domains.by is None:
            rows = {"on_bad": "error", "duplicates": "keep", "encoding": None}
            given = [name for name, usual in rows.items() if getattr(self, name) != usual]
            if given:
                raise ValueError(f"{' and '.join(given)}: say it of target and of source")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        named = (self.use is not None) + (self.path is not None)
        pair = self.domains is not None and self.domains.by is None
        if named != (0 if pair else 1):
            rule = "none of use and path beside target and source" if pair else "use or path"
            raise ValueError(f"a data set needs {rule}" + (", not both" if named == 2 else ""))
        if self.options and self.use is None:
            raise ValueError("options belong to a loader named by use")
        if self.use is not None:
            self.loader_options()
        return self

    def loader_options(self) -> Params:
        """Return the typed options of the loader named by ``use``.

        Raises:
            ValueError: unknown loader, or options that it does not take.
        """
        assert self.use is not None
        try:
            model = LOADERS.get(self.use).options
            return model.model_validate(self.options)
        except ScenarioError as error:
            raise ValueError(str(error)) from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            raise ValueError(f"options of {self.use}: {where}: {first['msg']}") from None

    @property
    def policy(self) -> RowPolicy:
        """How rows are read, and what to do with wrong and doubled ones."""
        return RowPolicy(self.on_bad, self.duplicates, self.encoding)


DomainsConfig.model_rebuild()
