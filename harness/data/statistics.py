"""Figures of a data set, printed before a run and stored beside its results."""

from __future__ import annotations

import numpy as np

from harness.data.interactions import Interactions

POPULAR_SHARE = 0.1


def statistics(data: Interactions) -> dict[str, int | float | str]:
    """Return counts, lengths, density, popularity and coverage of titles, then the load report.

    ``popular_share_of_events`` is the share of events on the most popular tenth of the items.
    Densities are NaN where there is nothing to divide by.
    """
    lengths = data.lengths
    popularity = np.sort(np.bincount(data.joined(), minlength=data.num_items))[::-1]
    top = max(1, round(POPULAR_SHARE * data.num_items))
    events = data.num_events
    figures: dict[str, int | float | str] = {
        "name": data.name,
        "sha256": data.sha256,
        "users": data.num_users,
        "items": data.num_items,
        "events": events,
        "length_mean": float(lengths.mean()) if len(lengths) else float("nan"),
        "length_median": float(np.median(lengths)) if len(lengths) else float("nan"),
        "length_min": int(lengths.min(initial=np.iinfo(np.int64).max)) if len(lengths) else 0,
        "length_max": int(lengths.max(initial=0)),
        "density": events / (data.num_users * data.num_items) if events else float("nan"),
        "popular_share_of_events": (
            float(popularity[:top].sum() / events) if events else float("nan")
        ),
        "repeated_user_item_events": _repeated(data),
        "items_titled": sum(1 for title in data.titles if title),
    }
    if data.timestamps is not None:
        times = np.concatenate(data.timestamps)
        figures["time_first"], figures["time_last"] = float(times.min()), float(times.max())
    return {**figures, **data.report}


def _repeated(data: Interactions) -> int:
    pairs = data.user_of_event() * max(1, data.num_items) + data.joined()
    return len(pairs) - len(np.unique(pairs))


def as_text(figures: dict[str, int | float | str]) -> str:
    """Return the figures as aligned lines for the terminal."""
    width = max(len(name) for name in figures)
    return "\n".join(f"{name:<{width}}  {_shown(value)}" for name, value in figures.items())


def _shown(value: int | float | str) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else value
