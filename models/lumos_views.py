"""LUMOS's three synthetic views per user: future, rephrased, counterfactual (systems.md 1.2, 3-4).

The on-device LLM is asked with real titles, its answer is grounded to catalogue items, and the
views are put together as item sequences: the reading under which an id-based backbone can encode
them (whether the paper's rephrasing is a text or an item sequence is unresolved [inferred]).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from harness.core.seeds import Seeds
from harness.language.encoder import SentenceEncoder
from harness.language.generator import TextGenerator
from harness.language.grounding import Mapped
from models.lumos_inquiries import (
    Room,
    ask_future,
    ask_similar,
    ask_unlike,
    far_items,
    last_items,
    with_items,
)
from models.lumos_view_config import VIEW_NAMES, ViewName, ViewsConfig
from models.lumos_view_rules import exchange_neighbours, new_items, substitute, valid_enough
from models.lumos_view_statistics import ViewStatistics, summarise

__all__ = ["VIEW_NAMES", "ViewName", "Views", "ViewsConfig", "build_views"]


@dataclass(frozen=True)
class Views:
    """The synthetic sequences of all users.

    Attributes:
        future: S_u with appended items, per user; empty where dropped.
        rephrased: S_u with substituted items and exchanged neighbours; empty where dropped.
        counterfactual: items that the user would not choose, none of them in S_u; empty where
            dropped.
        mask: True where the view may enter the loss, columns in the order of `VIEW_NAMES`.
        statistics: one summary per view.
    """

    future: list[list[int]]
    rephrased: list[list[int]]
    counterfactual: list[list[int]]
    mask: Bool[np.ndarray, "user 3"]
    statistics: dict[ViewName, ViewStatistics]


def build_views(
    histories: Sequence[Sequence[int]],
    titles: Sequence[str],
    generator: TextGenerator,
    encoder: SentenceEncoder,
    config: ViewsConfig,
    seeds: Seeds,
) -> Views:
    """Generate, ground and assemble the three views of every user.

    A user's views hang on that user's history and the public catalogue only, apart from the
    batching of the LLM (see `TextGenerator`).

    Args:
        histories: training items per user, oldest first; a user without items gets no view.
        titles: the catalogue's titles; the index is the item id.
        generator: the on-device LLM.
        encoder: sentence encoder for grounding, examples and shortlists.
        config: the choices.
        seeds: for the exchanged neighbours; the LLM's sampling has `ViewsConfig.sampling_seed`.
    """
    room = Room.opened(titles, generator, encoder, config)
    users = with_items(histories)
    built: dict[ViewName, _Built] = {
        "future": _future(room, histories, users),
        "rephrased": _rephrased(room, histories, users, seeds),
        "counterfactual": _counterfactual(room, histories, users),
    }
    return _put_together(built, histories, room)


def _put_together(
    built: dict[ViewName, _Built], histories: Sequence[Sequence[int]], room: Room
) -> Views:
    """Join the three built views, mark which exist, and describe each."""
    mask = np.array([[bool(row) for row in built[view].sequences] for view in VIEW_NAMES]).T
    statistics: dict[ViewName, ViewStatistics] = {
        view: summarise(
            built[view].sequences,
            built[view].added,
            built[view].mapped,
            histories,
            room.catalogue.vectors,
            room.seeds.numpy("view statistics"),
        )
        for view in VIEW_NAMES
    }
    return Views(
        built["future"].sequences,
        built["rephrased"].sequences,
        built["counterfactual"].sequences,
        mask.astype(bool),
        statistics,
    )


@dataclass(frozen=True)
class _Built:
    """One view of all users.

    Attributes:
        sequences: the view per user, empty where dropped.
        added: the generated items that entered it, per user.
        mapped: what was generated for the user, grounded.
    """

    sequences: list[list[int]]
    added: list[list[int]]
    mapped: list[list[Mapped]]

    @classmethod
    def empty(cls, users: int) -> _Built:
        return cls(*([[] for _ in range(users)] for _ in range(3)))


def _future(room: Room, histories: Sequence[Sequence[int]], users: Sequence[int]) -> _Built:
    """S_u^F: append the next items that the LLM expects [digest-A]."""
    config, built = room.config, _Built.empty(len(histories))
    answers = room.answers(ask_future(room, histories, users))
    for user, mapped in zip(users, answers, strict=True):
        built.mapped[user] = mapped
        if valid_enough(mapped, config.min_valid):
            known = histories[user] if config.drop_copied else []
            built.added[user] = new_items(mapped, known)[: config.future_items]
            if built.added[user]:
                built.sequences[user] = [*histories[user], *built.added[user]]
    return built


def _rephrased(
    room: Room, histories: Sequence[Sequence[int]], users: Sequence[int], seeds: Seeds
) -> _Built:
    """S_u^P: near-equivalents for recent items, and mild reordering [digest-A].

    The LLM is asked per item, not per user, so clients with the same item share one answer and the
    cost is bounded by the catalogue. A view in which nothing was substituted is dropped.
    """
    config, last = room.config, last_items(room, histories, users)
    items = sorted({item for shown in last.values() for item in shown})
    told = room.answers(ask_similar(room, histories, users))
    answers = dict(zip(items, told, strict=True))
    like = {item: new_items(mapped, [item]) for item, mapped in answers.items()}
    built = _Built.empty(len(histories))
    for user in users:
        built.mapped[user] = [m for item in last[user] for m in answers.get(item, [])]
        sequence, added = substitute(histories[user], like, config.substitutions)
        if added and valid_enough(built.mapped[user], config.min_valid):
            built.added[user] = added
            rng = seeds.numpy("exchange", user)
            built.sequences[user] = exchange_neighbours(
                sequence, config.swaps, rng, config.history_length
            )
    return built


def _counterfactual(room: Room, histories: Sequence[Sequence[int]], users: Sequence[int]) -> _Built:
    """S_u^N: a sequence that this user would not produce; items of S_u are invalid in it."""
    config, built = room.config, _Built.empty(len(histories))
    if config.counterfactual_source == "farthest":
        for user, items in zip(users, far_items(room, histories, users), strict=True):
            built.added[user] = built.sequences[user] = items[: config.counterfactual_items]
        return built
    answers = room.answers(ask_unlike(room, histories, users))
    for user, mapped in zip(users, answers, strict=True):
        built.mapped[user] = mapped
        if valid_enough(mapped, config.min_valid):
            items = new_items(mapped, histories[user])[: config.counterfactual_items]
            built.added[user] = built.sequences[user] = items
    return built
