"""The data of a run, as its manifest tells it: sizes, and what was found when it was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from reports.wording import clean, label

_SIZES = ("users", "items", "events")


class DataRead(NamedTuple):
    """One data set.

    Attributes:
        label: in the scenario.
        sizes: of each domain, in words.
        remarks: what was guessed, changed or left out.
    """

    label: str
    sizes: list[str]
    remarks: list[str]


def data_read(manifest: Mapping[str, Any]) -> list[DataRead]:
    """Return the data sets of a run; none where the manifest does not tell."""
    statistics, remarks = manifest.get("statistics"), manifest.get("remarks")
    if not isinstance(statistics, dict):
        return []
    said = remarks if isinstance(remarks, dict) else {}
    return [
        DataRead(label(name), _sizes(figures), [clean(r, 500) for r in _listed(said.get(name))])
        for name, figures in statistics.items()
    ]


def _sizes(figures: object) -> list[str]:
    domains = [entry for entry in _listed(figures) if isinstance(entry, dict)]
    return [
        f"{clean(entry.get('name', ''), 100)}: "
        + ", ".join(f"{entry[key]:,} {key}" for key in _SIZES if isinstance(entry.get(key), int))
        for entry in domains
    ]


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else []
