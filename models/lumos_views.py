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
from harness.core.system import Part
from harness.language.encoder import SentenceEncoder
from harness.language.generator import Decoding, Generated, TextGenerator
from harness.language.grounding import Grounder, Mapped, display_title, split_titles
from models import lumos_prompts as prompts
from models.lumos_view_config import VIEW_NAMES, ViewName, ViewsConfig
from models.lumos_view_rules import exchange_neighbours, new_items, substitute, valid_enough
from models.lumos_view_statistics import ViewStatistics, summarise

__all__ = ["VIEW_NAMES", "ViewName", "Views", "ViewsConfig", "build_views", "write_texts"]

_TOKENS_PER_TITLE = 7


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


@dataclass(frozen=True)
class _Inquiry:
    """What the LLM is asked for one view.

    Attributes:
        prompts: one a subject (a user, or an item).
        titles: how many titles each answer is to hold.
        lists: items that each answer may name; empty where it may say anything.
    """

    prompts: list[str]
    titles: int
    lists: list[list[int]]


@dataclass(frozen=True)
class _Room:
    """What the three builders share."""

    catalogue: prompts.Catalogue
    generator: TextGenerator
    grounder: Grounder
    config: ViewsConfig

    @classmethod
    def opened(
        cls,
        titles: Sequence[str],
        generator: TextGenerator,
        encoder: SentenceEncoder,
        config: ViewsConfig,
    ) -> _Room:
        grounder = Grounder(titles, encoder, threshold=config.threshold)
        names = [display_title(title) or title for title in titles]
        return cls(prompts.Catalogue(names, grounder.vectors), generator, grounder, config)

    @property
    def bound(self) -> bool:
        return self.config.answer == "shortlist"

    @property
    def seeds(self) -> Seeds:
        return Seeds(self.config.sampling_seed).child("lumos views")

    def texts(self, inquiry: _Inquiry) -> list[Generated]:
        """Ask the LLM, or the cache of what it said."""
        titles = inquiry.titles
        decoding = Decoding(
            max_new_tokens=_TOKENS_PER_TITLE * titles,
            stop=("\n", ";"),
            stop_after=titles,
            temperature=self.config.temperature,
            seed=self.config.sampling_seed,
        )
        if not self.bound:
            return self.generator.generate(inquiry.prompts, decoding)
        decoding = decoding.model_copy(update={"max_new_tokens": 3 * decoding.max_new_tokens})
        names = self.catalogue.titles
        choices = [sorted({names[item] for item in items}) for items in inquiry.lists]
        return self.generator.generate(inquiry.prompts, decoding, choices)

    def answers(self, inquiry: _Inquiry) -> list[list[Mapped]]:
        """Ask the LLM and ground what it wrote."""
        parts = [split_titles(t.text, complete=t.complete) for t in self.texts(inquiry)]
        found = iter(self.grounder.ground([title for part in parts for title in part]))
        return [[next(found) for _ in part] for part in parts]


def write_texts(
    histories: Sequence[Sequence[int]],
    titles: Sequence[str],
    generator: TextGenerator,
    encoder: SentenceEncoder,
    config: ViewsConfig,
    part: Part,
) -> None:
    """Let the LLM write what `build_views` will ask for, into the generator's cache.

    Which prompts are decoded together is decided by ``histories`` and ``part`` alone, so the texts
    are the same however many processes share the work and wherever one was interrupted.

    Args:
        histories: of all users under all noise that will be trained on; one may occur twice.
        titles: of the catalogue.
        generator: the on-device LLM, with a cache.
        encoder: sentence encoder.
        config: the choices.
        part: which share of the prompts.
    """
    room = _Room.opened(titles, generator, encoder, config)
    distinct = sorted({tuple(history) for history in histories})
    users = _with_items(distinct)
    for ask in (_ask_future, _ask_similar, _ask_unlike):
        inquiry = ask(room, distinct, users)
        lists = inquiry.lists or [[]] * len(inquiry.prompts)
        wanted = dict(zip(inquiry.prompts, lists, strict=True))
        share = sorted(wanted)[part.index :: part.count]
        room.texts(_Inquiry(share, inquiry.titles, [wanted[prompt] for prompt in share]))


def _with_items(histories: Sequence[Sequence[int]]) -> list[int]:
    return [user for user, history in enumerate(histories) if history]


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
    room = _Room.opened(titles, generator, encoder, config)
    users = _with_items(histories)
    built: dict[ViewName, _Built] = {
        "future": _future(room, histories, users),
        "rephrased": _rephrased(room, histories, users, seeds),
        "counterfactual": _counterfactual(room, histories, users),
    }
    return _put_together(built, histories, room)


def _put_together(
    built: dict[ViewName, _Built], histories: Sequence[Sequence[int]], room: _Room
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


def _ask_future(room: _Room, histories: Sequence[Sequence[int]], users: Sequence[int]) -> _Inquiry:
    config, catalogue = room.config, room.catalogue
    head = prompts.future_head(
        catalogue, config.item_kind, config.examples, room.seeds.child("future")
    )
    recent = [histories[user][-config.history_length :] for user in users]
    lists = [
        catalogue.near(shown, config.shortlist, without=histories[user])
        for user, shown in zip(users, recent, strict=True)
        if room.bound
    ]
    questions = [prompts.ask(catalogue, head, prompts.FUTURE[1], shown) for shown in recent]
    return _Inquiry(questions, config.future_items, lists)


def _future(room: _Room, histories: Sequence[Sequence[int]], users: Sequence[int]) -> _Built:
    """S_u^F: append the next items that the LLM expects [digest-A]."""
    config, built = room.config, _Built.empty(len(histories))
    answers = room.answers(_ask_future(room, histories, users))
    for user, mapped in zip(users, answers, strict=True):
        built.mapped[user] = mapped
        if valid_enough(mapped, config.min_valid):
            known = histories[user] if config.drop_copied else []
            built.added[user] = new_items(mapped, known)[: config.future_items]
            if built.added[user]:
                built.sequences[user] = [*histories[user], *built.added[user]]
    return built


def _last_items(
    room: _Room, histories: Sequence[Sequence[int]], users: Sequence[int]
) -> dict[int, Sequence[int]]:
    count = room.config.substitutions
    return {user: histories[user][max(0, len(histories[user]) - count) :] for user in users}


def _ask_similar(room: _Room, histories: Sequence[Sequence[int]], users: Sequence[int]) -> _Inquiry:
    """One question an item: what is like it does not hang on who watched it."""
    config, catalogue = room.config, room.catalogue
    head = prompts.similar_head(
        catalogue, config.item_kind, config.examples, room.seeds.child("similar")
    )
    last = _last_items(room, histories, users)
    items = sorted({item for shown in last.values() for item in shown})
    lists = [
        catalogue.near([item], config.shortlist // 4 + 1, without=[item])
        for item in items
        if room.bound
    ]
    questions = [prompts.ask(catalogue, head, prompts.SIMILAR[1], [item]) for item in items]
    return _Inquiry(questions, config.alternatives, lists)


def _rephrased(
    room: _Room, histories: Sequence[Sequence[int]], users: Sequence[int], seeds: Seeds
) -> _Built:
    """S_u^P: near-equivalents for recent items, and mild reordering [digest-A].

    The LLM is asked per item, not per user, so clients with the same item share one answer and the
    cost is bounded by the catalogue. A view in which nothing was substituted is dropped.
    """
    config, last = room.config, _last_items(room, histories, users)
    items = sorted({item for shown in last.values() for item in shown})
    told = room.answers(_ask_similar(room, histories, users))
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


def _far(room: _Room, histories: Sequence[Sequence[int]], users: Sequence[int]) -> list[list[int]]:
    config = room.config
    return [
        room.catalogue.far(
            histories[user][-config.history_length :],
            config.shortlist,
            histories[user],
            room.seeds,
        )
        for user in users
    ]


def _ask_unlike(room: _Room, histories: Sequence[Sequence[int]], users: Sequence[int]) -> _Inquiry:
    config, catalogue = room.config, room.catalogue
    if config.counterfactual_source == "farthest":
        return _Inquiry([], config.counterfactual_items, [])
    head = prompts.unlike_head(
        catalogue, config.item_kind, config.examples, room.seeds.child("unlike")
    )
    questions = [
        prompts.ask(catalogue, head, prompts.UNLIKE[1], histories[user][-config.history_length :])
        for user in users
    ]
    lists = _far(room, histories, users) if room.bound else []
    return _Inquiry(questions, config.counterfactual_items, lists)


def _counterfactual(
    room: _Room, histories: Sequence[Sequence[int]], users: Sequence[int]
) -> _Built:
    """S_u^N: a sequence that this user would not produce; items of S_u are invalid in it."""
    config, built = room.config, _Built.empty(len(histories))
    if config.counterfactual_source == "farthest":
        for user, items in zip(users, _far(room, histories, users), strict=True):
            built.added[user] = built.sequences[user] = items[: config.counterfactual_items]
        return built
    answers = room.answers(_ask_unlike(room, histories, users))
    for user, mapped in zip(users, answers, strict=True):
        built.mapped[user] = mapped
        if valid_enough(mapped, config.min_valid):
            items = new_items(mapped, histories[user])[: config.counterfactual_items]
            built.added[user] = built.sequences[user] = items
    return built
