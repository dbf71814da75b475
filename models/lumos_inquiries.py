"""What LUMOS's devices ask their LLM: one inquiry a view, from public titles and own history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.seeds import Seeds
from harness.core.system import Part
from harness.language.encoder import SentenceEncoder
from harness.language.generator import Decoding, Generated, TextGenerator
from harness.language.grounding import Grounder, Mapped, display_title, split_titles
from models import lumos_prompts as prompts
from models.lumos_view_config import ViewsConfig

_TOKENS_PER_TITLE = 7


@dataclass(frozen=True)
class Inquiry:
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
class Room:
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
    ) -> Room:
        """Encode the catalogue."""
        grounder = Grounder(titles, encoder, threshold=config.threshold)
        names = [display_title(title) or title for title in titles]
        return cls(prompts.Catalogue(names, grounder.vectors), generator, grounder, config)

    @property
    def bound(self) -> bool:
        """Whether an answer may name items of a list only."""
        return self.config.answer == "shortlist"

    @property
    def seeds(self) -> Seeds:
        """Streams of what every user is asked alike."""
        return Seeds(self.config.sampling_seed).child("lumos views")

    def texts(self, inquiry: Inquiry) -> list[Generated]:
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

    def answers(self, inquiry: Inquiry) -> list[list[Mapped]]:
        """Ask the LLM and ground what it wrote."""
        parts = [split_titles(t.text, complete=t.complete) for t in self.texts(inquiry)]
        found = iter(self.grounder.ground([title for part in parts for title in part]))
        return [[next(found) for _ in part] for part in parts]


def ask_future(room: Room, histories: Sequence[Sequence[int]], users: Sequence[int]) -> Inquiry:
    """Ask every user for what comes next."""
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
    return Inquiry(questions, config.future_items, lists)


def last_items(
    room: Room, histories: Sequence[Sequence[int]], users: Sequence[int]
) -> dict[int, Sequence[int]]:
    """Return the items of each user that a rephrasing may substitute."""
    count = room.config.substitutions
    return {user: histories[user][max(0, len(histories[user]) - count) :] for user in users}


def ask_similar(room: Room, histories: Sequence[Sequence[int]], users: Sequence[int]) -> Inquiry:
    """One question an item: what is like it does not hang on who watched it."""
    config, catalogue = room.config, room.catalogue
    head = prompts.similar_head(
        catalogue, config.item_kind, config.examples, room.seeds.child("similar")
    )
    last = last_items(room, histories, users)
    items = sorted({item for shown in last.values() for item in shown})
    lists = [
        catalogue.near([item], config.shortlist // 4 + 1, without=[item])
        for item in items
        if room.bound
    ]
    questions = [prompts.ask(catalogue, head, prompts.SIMILAR[1], [item]) for item in items]
    return Inquiry(questions, config.alternatives, lists)


def far_items(
    room: Room, histories: Sequence[Sequence[int]], users: Sequence[int]
) -> list[list[int]]:
    """Return, for each user, drawn items that are far from the history."""
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


def ask_unlike(room: Room, histories: Sequence[Sequence[int]], users: Sequence[int]) -> Inquiry:
    """Ask every user for what would never be chosen; nobody, where the view is drawn instead."""
    config, catalogue = room.config, room.catalogue
    if config.counterfactual_source == "farthest":
        return Inquiry([], config.counterfactual_items, [])
    head = prompts.unlike_head(
        catalogue, config.item_kind, config.examples, room.seeds.child("unlike")
    )
    questions = [
        prompts.ask(catalogue, head, prompts.UNLIKE[1], histories[user][-config.history_length :])
        for user in users
    ]
    lists = far_items(room, histories, users) if room.bound else []
    return Inquiry(questions, config.counterfactual_items, lists)


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
    room = Room.opened(titles, generator, encoder, config)
    distinct = sorted({tuple(history) for history in histories})
    users = with_items(distinct)
    for ask in (ask_future, ask_similar, ask_unlike):
        inquiry = ask(room, distinct, users)
        lists = inquiry.lists or [[]] * len(inquiry.prompts)
        wanted = dict(zip(inquiry.prompts, lists, strict=True))
        share = sorted(wanted)[part.index :: part.count]
        room.texts(Inquiry(share, inquiry.titles, [wanted[prompt] for prompt in share]))


def with_items(histories: Sequence[Sequence[int]]) -> list[int]:
    """Return the users that have a history."""
    return [user for user, history in enumerate(histories) if history]
