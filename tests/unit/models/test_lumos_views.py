from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
from pydantic import ValidationError

from harness.core.seeds import Seeds
from harness.core.system import Part
from harness.language.encoder import SentenceEncoder
from harness.language.generator import Decoding, Generated, TextGenerator
from harness.language.grounding import Mapped
from models.lumos_inquiries import write_texts
from models.lumos_prompts import FUTURE, SIMILAR, UNLIKE, Catalogue, future_head, similar_head
from models.lumos_view_rules import exchange_neighbours, new_items, substitute, valid_enough
from models.lumos_views import VIEW_NAMES, Views, ViewsConfig, build_views

TITLES = [f"Title {chr(97 + n) * 3}" for n in range(16)]
"""Items 0-7 lie in one half-plane of the vectors below and 8-15 in the other."""


class CircleEncoder:
    """Item n at angle n * 22.5 degrees; any other text at right angles to all of them."""

    def encode(self, texts: Sequence[str], *, normalise: bool = True) -> np.ndarray:
        vectors = np.zeros((len(texts), 3), dtype=np.float32)
        for row, text in enumerate(texts):
            if text in TITLES:
                angle = TITLES.index(text) * 2 * math.pi / len(TITLES)
                vectors[row] = math.cos(angle), math.sin(angle), 0
            else:
                vectors[row] = 0, 0, 1
        return vectors


class ScriptedModel:
    """Answers by what the open entry asks for, and keeps what it was asked."""

    def __init__(self, answers: dict[tuple[str, str], str]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.choices: list[Sequence[Sequence[str]] | None] = []
        self.decodings: list[Decoding] = []

    def generate(
        self,
        prompts: Sequence[str],
        decoding: Decoding,
        choices: Sequence[Sequence[str]] | None = None,
    ) -> list[Generated]:
        self.asked += prompts
        self.choices.append(choices)
        self.decodings.append(decoding)
        return [Generated(text=self._answer(prompt), complete=True) for prompt in prompts]

    def _answer(self, prompt: str) -> str:
        given, cue = prompt.rsplit("\n\n", 1)[-1].split(": ", 1)[1].split("\n")
        return self.answers.get((cue, given), "")


def names(*items: int) -> str:
    return "; ".join(TITLES[item] for item in items)


HISTORY = [0, 1, 2, 3]
GOOD = {
    ("Next:", names(1, 2, 3)): f" {names(4, 1, 5, 4)}; Nonsense",
    ("Never:", names(1, 2, 3)): f" {names(9, 2, 10)}",
    ("Like it:", TITLES[2]): f" {names(2, 3, 6)}",
    ("Like it:", TITLES[3]): f" {names(6, 7)}",
}


def build(model: ScriptedModel, histories: Sequence[Sequence[int]], **options: object) -> Views:
    config = ViewsConfig.model_validate({"history_length": 3, "swaps": 0, **options})
    return build_views(
        histories,
        TITLES,
        cast(TextGenerator, model),
        cast(SentenceEncoder, CircleEncoder()),
        config,
        Seeds(0),
    )


def test_the_three_views_by_hand() -> None:
    views = build(ScriptedModel(GOOD), [HISTORY])
    assert views.future == [[0, 1, 2, 3, 4, 5]], "appended, without copies and repeats"
    assert views.rephrased == [[0, 1, 6, 7]], "2 -> 6 (3 is in the history), 3 -> 7 (6 is taken)"
    assert views.counterfactual == [[9, 10]], "items of the history are invalid"
    assert views.mask.tolist() == [[True, True, True]]


def test_statistics_by_hand() -> None:
    statistics = build(ScriptedModel(GOOD), [HISTORY]).statistics
    future = statistics["future"]
    assert future.grounding.parsed == 5
    assert future.grounding.valid_ratio == pytest.approx(4 / 5)
    assert future.copied_share == pytest.approx(1 / 4)
    assert future.mean_added == 2
    assert future.mean_length == 6
    assert statistics["rephrased"].copied_share == pytest.approx(2 / 5)
    assert statistics["counterfactual"].copied_share == pytest.approx(1 / 3)
    assert statistics["counterfactual"].cosine_history < future.cosine_history
    # the centre of items 0..3 lies at 1.5 steps of 22.5 degrees; 4 and 5 are 2.5 and 3.5 away
    expected = np.mean([math.cos(math.radians(22.5 * steps)) for steps in (2.5, 3.5)])
    assert future.cosine_history == pytest.approx(expected, abs=1e-6)


def test_a_view_with_too_few_valid_titles_is_masked_and_empty() -> None:
    answers = GOOD | {
        ("Next:", names(1, 2, 3)): f" {names(4)}; No; Nope",
        ("Never:", names(1, 2, 3)): "",
    }
    views = build(ScriptedModel(answers), [HISTORY])
    assert views.mask.tolist() == [[False, True, False]]
    assert views.future == [[]]
    assert views.statistics["future"].dropped_share == 1
    assert math.isnan(views.statistics["future"].mean_length)
    loose = build(ScriptedModel(answers), [HISTORY], min_valid=0.3)
    assert loose.future == [[0, 1, 2, 3, 4]]


def test_an_answer_of_copies_only_gives_no_view() -> None:
    answers = {("Next:", names(1, 2, 3)): f" {names(1, 2)}", ("Like it:", TITLES[3]): names(3)}
    views = build(ScriptedModel(answers), [HISTORY])
    assert not views.mask.any()
    kept = build(ScriptedModel(answers), [HISTORY], drop_copied=False)
    assert kept.future == [[0, 1, 2, 3, 1, 2]]
    assert kept.mask.tolist() == [[True, False, False]]


def test_users_without_items_and_no_users() -> None:
    model = ScriptedModel(GOOD)
    views = build(model, [[], HISTORY, []])
    assert views.mask.any(axis=1).tolist() == [False, True, False]
    alone = build(ScriptedModel(GOOD), [HISTORY])
    assert views.future[1] == alone.future[0]
    empty = build(ScriptedModel({}), [])
    assert empty.mask.shape == (0, len(VIEW_NAMES))


def test_what_is_like_an_item_is_asked_once_for_all_users() -> None:
    model = ScriptedModel(GOOD)
    build(model, [HISTORY, HISTORY, [5, 2, 3]])
    assert sum(prompt.endswith("Like it:") for prompt in model.asked) == 2
    assert sum(prompt.endswith("Next:") for prompt in model.asked) == 3


def test_all_prompts_of_a_view_share_their_head_and_show_the_recent_titles() -> None:
    model = ScriptedModel(GOOD)
    build(model, [HISTORY, [8, 9, 10, 11]])
    for form, count in ((FUTURE, 2), (UNLIKE, 2), (SIMILAR, 4)):
        cue = form[1].rsplit("\n", 1)[1]
        asked = [prompt for prompt in model.asked if prompt.endswith(cue)]
        assert len(asked) == count
        heads = {prompt.rsplit("\n\n", 1)[0] for prompt in asked}
        assert len(heads) == 1
    assert TITLES[0] not in model.asked[0].rsplit("\n\n", 1)[1], "only the last three are shown"


def test_the_llm_is_not_asked_for_farthest_counterfactuals() -> None:
    model = ScriptedModel(GOOD)
    views = build(
        model, [HISTORY], counterfactual_source="farthest", counterfactual_items=2, shortlist=4
    )
    assert not any(prompt.endswith("Never:") for prompt in model.asked)
    assert len(views.counterfactual[0]) == 2
    # the history's last three centre on item 2; the four farthest lie around item 10
    assert set(views.counterfactual[0]) <= {8, 9, 10, 11, 12}
    assert math.isnan(views.statistics["counterfactual"].grounding.valid_ratio)


def test_shortlists_bind_the_model_and_leave_the_history_out() -> None:
    model = ScriptedModel(GOOD)
    build(model, [HISTORY], answer="shortlist", shortlist=4)
    future, similar, unlike = model.choices
    assert future is not None and similar is not None and unlike is not None
    # nearest to item 2 besides 0..3: 4, then 5, 15 at three steps, then 6 or 14 at four
    assert set(future[0]) - {TITLES[6], TITLES[14]} == {TITLES[4], TITLES[5], TITLES[15]}
    assert set(similar[0]) == {TITLES[1], TITLES[3]}
    assert not set(unlike[0]) & {TITLES[item] for item in HISTORY}
    free = ScriptedModel(GOOD)
    build(free, [HISTORY])
    assert free.choices == [None, None, None]


def test_texts_do_not_hang_on_the_training_seed() -> None:
    one, two = ScriptedModel(GOOD), ScriptedModel(GOOD)
    config = ViewsConfig(history_length=3)
    for model, seed in ((one, 1), (two, 2)):
        encoder = cast(SentenceEncoder, CircleEncoder())
        build_views([HISTORY], TITLES, cast(TextGenerator, model), encoder, config, Seeds(seed))
    assert one.asked == two.asked
    assert one.decodings == two.decodings


def test_examples_come_from_the_catalogue_and_follow_the_seed() -> None:
    vectors = CircleEncoder().encode(TITLES)
    apart = Catalogue([f"{chr(97 + n) * 5}" for n in range(16)], vectors)
    head = future_head(apart, "films", 2, Seeds(0))
    assert "{" not in head
    assert head.count("Chosen:") == 2
    entry = head.split("\n\n")[1]
    shown = entry.replace("Chosen: ", "").replace("\nNext: ", "; ").split("; ")
    assert len(set(shown)) == 8
    assert set(shown) <= set(apart.titles)
    assert head == future_head(apart, "films", 2, Seeds(0))
    assert head != future_head(apart, "films", 2, Seeds(1))


def test_examples_do_not_teach_word_play() -> None:
    alike = Catalogue(["Crossing one", "Crossing two", "Bridge"], np.eye(3, dtype=np.float32))
    for seed in range(4):
        entry = similar_head(alike, "films", 1, Seeds(seed)).split("\n\n")[1]
        assert entry.count("Crossing") <= 1


def test_valid_enough() -> None:
    hit, miss = Mapped("a", 1, 1.0, "exact"), Mapped("b", None, 0.1, "unmapped")
    assert valid_enough([hit, miss], 0.5)
    assert not valid_enough([hit, miss, miss], 0.5)
    assert not valid_enough([], 0.0)


def test_new_items_keep_order_and_drop_repeats() -> None:
    mapped = [Mapped("t", item, 1.0, "exact") for item in (5, None, 0, 5, 2)]
    assert new_items(mapped, [2]) == [5, 0]


def test_substitution_never_repeats_an_item() -> None:
    like = {3: [1, 7], 4: [7, 8], 1: [9]}
    assert substitute([1, 3, 4], like, 2) == ([1, 7, 8], [7, 8])
    assert substitute([1, 3, 4], like, 0) == ([1, 3, 4], [])
    assert substitute([4], {4: [4]}, 5) == ([4], [])


@pytest.mark.parametrize("swaps", [0, 1, 2, 9])
def test_exchanged_neighbours_move_by_one_place_at_most(swaps: int) -> None:
    sequence = list(range(7))
    for seed in range(20):
        moved = exchange_neighbours(sequence, swaps, np.random.default_rng(seed))
        assert sorted(moved) == sequence
        assert all(abs(moved.index(item) - item) <= 1 for item in sequence)
        exchanged = sum(a != b for a, b in zip(moved, sequence, strict=True)) // 2
        assert exchanged == swaps if swaps < 2 else 2 <= exchanged <= 3
    assert exchange_neighbours([4], 3, np.random.default_rng(0)) == [4]
    assert exchange_neighbours([], 1, np.random.default_rng(0)) == []


def test_the_config_is_strict_and_says_what_each_field_is() -> None:
    with pytest.raises(ValidationError, match="futureitems"):
        ViewsConfig.model_validate({"futureitems": 3})
    for name, field in ViewsConfig.model_fields.items():
        assert field.description, name
        assert "[" in field.description, f"{name} names no source"


@pytest.mark.parametrize("answer", ["text", "shortlist"])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_prepared_texts_are_those_that_the_views_ask_for(answer: str, parts: int) -> None:
    variants = [[HISTORY, [5, 6, 7], []], [HISTORY, [8, 9, 1], [2]]]
    wanted = {"history_length": 3, "swaps": 0, "answer": answer, "shortlist": 8}

    def questions(model: ScriptedModel) -> set[tuple[str, str]]:
        lists = [str(list(row)) for call in model.choices for row in call or []]
        return set(zip(model.asked, lists, strict=True))

    later = ScriptedModel({})
    for histories in variants:
        build(later, histories, answer=answer, shortlist=8)
    prepared = ScriptedModel({})
    for index in range(parts):
        write_texts(
            [history for histories in variants for history in histories],
            TITLES,
            cast(TextGenerator, prepared),
            cast(SentenceEncoder, CircleEncoder()),
            ViewsConfig.model_validate(wanted),
            Part(index, parts),
        )
    assert set(prepared.asked) == set(later.asked)
    assert len(prepared.asked) == len(set(prepared.asked)), "nothing is written twice"
    if answer == "shortlist":
        assert questions(prepared) == questions(later)
