"""The rules by which grounded titles become views; pure functions of lists of item ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.language.grounding import Mapped


def valid_enough(mapped: Sequence[Mapped], least: float) -> bool:
    """Tell whether a view may stay: something was parsed and enough of it is an item."""
    return bool(mapped) and sum(m.item is not None for m in mapped) >= least * len(mapped)


def new_items(mapped: Sequence[Mapped], without: Sequence[int]) -> list[int]:
    """Return grounded items in order, each once and none that is in ``without``."""
    seen = set(without)
    fresh = (m.item for m in mapped)
    return [i for i in fresh if i is not None and not (i in seen or seen.add(i))]


def substitute(
    history: Sequence[int], replacements: dict[int, list[int]], count: int
) -> tuple[list[int], list[int]]:
    """Replace the ``count`` most recent positions that have an alternative outside the sequence.

    Args:
        history: items, oldest first.
        replacements: near-equivalents by item, best first.
        count: how many of the last positions are looked at.

    Returns:
        The new sequence, and the items that came in (oldest position first).
    """
    sequence, added = list(history), []
    for place in range(max(0, len(history) - count), len(history)):
        for item in replacements.get(history[place], []):
            if item not in history and item not in sequence:
                sequence[place] = item
                added.append(item)
                break
    return sequence, added


def exchange_neighbours(
    sequence: Sequence[int], swaps: int, rng: np.random.Generator, window: int | None = None
) -> list[int]:
    """Exchange ``swaps`` disjoint adjacent pairs at random, as many as fit.

    Args:
        sequence: items, oldest first.
        swaps: pairs to exchange.
        rng: chooses the pairs.
        window: exchange among so many latest items only, which leaves the older ones as a prefix
            that the view shares with the history; None means anywhere.
    """
    result = list(sequence)
    first = 0 if window is None else max(0, len(result) - window)
    free = list(range(first, len(result) - 1))
    for _ in range(swaps):
        if not free:
            break
        place = free[int(rng.integers(len(free)))]
        result[place], result[place + 1] = result[place + 1], result[place]
        free = [other for other in free if abs(other - place) > 1]
    return result
