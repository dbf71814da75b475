"""Stage 2 on a tiny random decoder with a byte-level tokenizer made here; nothing is fetched."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harness.core.errors import AssetError, DataError
from harness.core.seeds import Seeds
from models.llm_answer import INVALID, answer, generate, parse_choice, score_candidates
from models.llm_fit import curriculum, train, warm_up
from models.llm_model import SoftPromptLLM, prepare
from models.llm_stage import ItemSide, LLMStage, LLMStageConfig, Questions
from models.llm_training import PackSampler, ask
from models.soft_prompt import USER, Pack, Query, build_lexicon, collate, item_code

TITLES = ["Alien", "Alien Nation", "Heat", "Toy Story", "Se7en", "Big", "Up", "Ran", "M", "Jaws"]
DIM, CODE = 6, 12


@pytest.fixture(scope="module")
def llm_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llm")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(["<end>", *letters])}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<end>", pad_token="<end>"
    ).save_pretrained(path)
    config = LlamaConfig(
        vocab_size=len(vocab), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
        max_position_embeddings=2048, eos_token_id=0, pad_token_id=0, bos_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(3)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data.normal_(0, 0.3, generator=generator)
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def items() -> ItemSide:
    generator = torch.Generator().manual_seed(4)
    count = len(TITLES)
    code = torch.rand(count, CODE, generator=generator)
    return ItemSide(TITLES, code, torch.randn(count, DIM, generator=generator))


def _questions(count: int = 12) -> Questions:
    rng = np.random.default_rng(5)
    history = [[int(i) for i in rng.permutation(10)[: 1 + k % 4]] for k in range(count)]
    target = [next(i for i in range(10) if i not in h) for h in history]
    state = torch.randn(count, DIM, generator=torch.Generator().manual_seed(6))
    seen = [frozenset([*h, t]) for h, t in zip(history, target, strict=True)]
    return Questions(state, history, target, seen)


def _config(**changes: object) -> LLMStageConfig:
    values = {
        "dtype": "float32", "num_candidates": 4, "num_history": 2, "pack_size": 3,
        "packs_per_step": 2, "num_train": 24, "rank_steps": 3, "max_new_tokens": 6,
    }  # fmt: skip
    return LLMStageConfig(**{**values, **changes})  # type: ignore[arg-type]


def _stage(llm_path: Path, items: ItemSide, **changes: object) -> SoftPromptLLM:
    return prepare(_config(**changes), llm_path, items, DIM, Seeds(1))


def _sampler(stage: SoftPromptLLM, questions: Questions, seed: int = 0) -> PackSampler:
    rng = np.random.default_rng(seed)
    return PackSampler(questions, stage.lexicon, len(TITLES), 4, 2, rng)


def _text(stage: SoftPromptLLM, codes: list[int]) -> str:
    """Spell codes out, soft tokens as [U] and [item]."""
    return "".join(
        stage.tokenizer.decode([c]) if c >= 0 else "[U]" if c == USER else f"[{-2 - c}]"
        for c in codes
    )


def test_matched_layout_by_hand(llm_path: Path, items: ItemSide) -> None:
    lexicon = _stage(llm_path, items, noun="movie").lexicon
    stage = _stage(llm_path, items)
    assert _text(stage, lexicon.prefix([2, 5])) == "Candidate movies:\n[2] Heat\n[5] Big\n"
    query = lexicon.query([9, 2], [2, 5])
    assert _text(stage, query) == (
        "History of movies:\n[9] Jaws\n[2] Heat\nThe recommendation is[U]"
    )
    assert _text(stage, lexicon.query([], [2, 5])) == "The recommendation is[U]"
    assert _text(stage, lexicon.answer(5)) == " Big\n"
    assert item_code(0) != USER


def test_paper_layout_by_hand(llm_path: Path, items: ItemSide) -> None:
    stage = _stage(llm_path, items, layout="paper", noun="movie")
    assert stage.lexicon.prefix([2, 5]) == []
    assert _text(stage, stage.lexicon.query([9, 2], [2, 5])) == (
        "[U] is a user representation. This user has chosen these movies:"
        ' "Jaws"[9], "Heat"[2] in the past. Recommend one next movie for this user from:'
        ' "Heat"[2], "Big"[5]. The recommendation is'
    )
    assert stage.lexicon.answer(5)[-1] == stage.tokenizer.eos_token_id
    assert _text(stage, stage.lexicon.answer(5)[:-1]) == ' "Big"'


@pytest.mark.parametrize("layout", ["matched", "paper"])
@pytest.mark.parametrize("projector", ["matched", "paper"])
def test_needed_logits_equal_full_logits_of_single_prompts(
    llm_path: Path, items: ItemSide, layout: str, projector: str
) -> None:
    """One packed, padded, masked pass = one plain causal pass per question."""
    stage = _stage(llm_path, items, layout=layout, projector=projector)
    questions = _questions()
    sampler = _sampler(stage, questions)
    size = 3 if layout == "matched" else 1
    packs = [sampler.users(size, True), sampler.users(size, False), sampler.items(size)]
    batch = collate(packs, stage.lexicon)
    logits = stage.label_logits(batch, stage.embed(batch, questions.state))
    tokens, users = stage.item_tokens(torch.arange(10)), stage.projectors.users(questions.state)
    table = stage.model.get_input_embeddings()
    losses = []
    for pack in packs:
        for query in pack.queries:
            want = stage.lexicon.answer(query.target)
            codes = pack.prefix + query.codes + want
            words = table(torch.tensor([max(c, 0) for c in codes]))
            rows = [
                word if c >= 0 else users[query.state] if c == USER else tokens[-2 - c]
                for c, word in zip(codes, words, strict=True)
            ]
            full = stage.model(inputs_embeds=torch.stack(rows)[None]).logits[0]
            losses.append(F.cross_entropy(full[-len(want) - 1 : -1], torch.tensor(want)))
    lengths = [len(stage.lexicon.answer(q.target)) for p in packs for q in p.queries]
    packed = [
        F.cross_entropy(a, b)
        for a, b in zip(logits.split(lengths), batch.label.split(lengths), strict=True)
    ]
    assert torch.allclose(torch.stack(packed), torch.stack(losses), atol=2e-5)
    assert int(batch.first.sum()) == len(lengths)


def test_batch_padding_does_not_change_answers(llm_path: Path, items: ItemSide) -> None:
    stage = _stage(llm_path, items)
    table = stage.model.get_input_embeddings()
    texts = ["a", "History of b", "The recommendation is", "cd"]
    prompts = [table(torch.tensor(stage.tokenizer(t).input_ids)).detach() for t in texts]
    alone = [generate(stage.model, stage.tokenizer, [p], [-1], 6)[0] for p in prompts]
    assert generate(stage.model, stage.tokenizer, prompts, [-1], 6, batch=4) == alone
    assert generate(stage.model, stage.tokenizer, prompts, [-1], 6, batch=3) == alone
    plain = stage.model.generate(
        torch.tensor([stage.tokenizer(texts[1]).input_ids]),
        max_new_tokens=6, do_sample=False, eos_token_id=None,
    )  # fmt: skip
    assert stage.tokenizer.decode(plain[0, -6:], skip_special_tokens=True) == alone[1]


def test_generation_stops_before_the_stop_token(llm_path: Path, items: ItemSide) -> None:
    stage = _stage(llm_path, items)
    prompt = stage.model.get_input_embeddings()(torch.tensor(stage.tokenizer("ab").input_ids))
    free = generate(stage.model, stage.tokenizer, [prompt.detach()], [-1], 6)[0]
    ids = stage.tokenizer(free).input_ids
    stopped = generate(stage.model, stage.tokenizer, [prompt.detach()], [ids[2]], 6)[0]
    assert stopped == stage.tokenizer.decode(ids[: ids.index(ids[2])])


def test_a_diverged_model_names_nothing(llm_path: Path, items: ItemSide) -> None:
    stage = _stage(llm_path, items)
    table = stage.model.get_input_embeddings()
    good, bad = (
        table(torch.tensor(stage.tokenizer(text).input_ids)).detach() for text in ("ab", "cd")
    )
    alone = generate(stage.model, stage.tokenizer, [good], [-1], 6)
    bad = torch.full_like(bad, float("nan"))
    assert generate(stage.model, stage.tokenizer, [good, bad], [-1], 6) == [*alone, ""]


@pytest.mark.parametrize("layout", ["matched", "paper"])
def test_shared_prefix_scores_equal_full_passes(
    llm_path: Path, items: ItemSide, layout: str
) -> None:
    stage = _stage(llm_path, items, layout=layout)
    questions = _questions(3)
    candidates = np.array([[0, 1, 2, 3], [9, 8, 7, 6], [5, 4, 1, 0]])
    scores = score_candidates(stage, questions, candidates)
    for q, row in enumerate(candidates):
        listed = [int(i) for i in row]
        codes = ask(questions, q, listed, stage.lexicon, 2).codes
        for place, item in enumerate(listed):
            pack = Pack(stage.lexicon.prefix(listed), [Query(codes, q, item)])
            batch = collate([pack], stage.lexicon)
            logits = stage.label_logits(batch, stage.embed(batch, questions.state))
            slow = -F.cross_entropy(logits, batch.label, reduction="sum")
            assert abs(float(slow.detach()) - float(scores[q, place])) < 1e-3


def test_the_target_of_a_question_never_reaches_its_prompt(llm_path: Path, items: ItemSide) -> None:
    stage = _stage(llm_path, items)
    questions = _questions(6)
    other = Questions(
        questions.state, questions.history, [(t + 1) % 10 for t in questions.target],
        [frozenset()] * 6,
    )  # fmt: skip
    candidates = np.array([[0, 1, 2, 3]] * 6)
    one, two = answer(stage, questions, candidates), answer(stage, other, candidates)
    assert one.texts == two.texts and (one.chosen == two.chosen).all()
    assert torch.equal(
        score_candidates(stage, questions, candidates), score_candidates(stage, other, candidates)
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (" Heat", 2),
        ('"heat".', 2),
        ("I recommend Toy Story", 3),
        ("Heat and Toy Story", INVALID),
        ("Alien Nation", 1),
        ("Alien", 0),
        ("Alien, not Alien Nation", INVALID),
        ("Heatwave", INVALID),
        ("The Godfather", INVALID),
        ("", INVALID),
    ],
)
def test_valid_means_exactly_one_candidate(text: str, place: int) -> None:
    assert parse_choice(text, TITLES[:5]) == place


def test_titles_without_letters_or_digits_can_be_named() -> None:
    assert parse_choice(" ???", ["Heat", "???"]) == 1


def test_place_of_the_positive_is_uniform_and_negatives_are_unseen(
    llm_path: Path, items: ItemSide
) -> None:
    stage = _stage(llm_path, items)
    questions = _questions()
    sampler = _sampler(stage, questions, seed=8)
    places: Counter[int] = Counter()
    for _ in range(1200):
        pack = sampler.users(2, False)
        listed = [-2 - c for c in pack.prefix if c < USER]
        assert len(set(listed)) == 4
        for query in pack.queries:
            places[listed.index(query.target)] += 1
            assert query.target == questions.target[query.state]
    count = sum(places.values())
    expected = count / 4
    chi2 = sum((places[k] - expected) ** 2 / expected for k in range(4))
    assert chi2 < 16.3  # 0.999 quantile, 3 degrees of freedom


def test_questions_of_a_pack_have_not_seen_each_others_targets(
    llm_path: Path, items: ItemSide
) -> None:
    stage, questions = _stage(llm_path, items), _questions()
    sampler = _sampler(stage, questions, seed=9)
    for _ in range(200):
        asked = sampler.users(3, True).queries
        for a in asked:
            others = {b.target for b in asked if b is not a}
            assert not others & questions.seen[a.state]


def test_curriculum_orders_recall_anneal_task(llm_path: Path, items: ItemSide) -> None:
    config = _config(num_train=120, recall_share=0.25, anneal_share=0.25, history_from=0.5)
    stage = _stage(llm_path, items)
    steps = list(curriculum(config, _sampler(stage, _questions())))
    asks_with_item = [all(q.state == -1 for p in packs for q in p.queries) for packs, _ in steps]
    shares = [share for _, share in steps]
    past = np.cumsum([0] + [sum(len(p.queries) for p in packs) for packs, _ in steps])[:-1] / 120
    assert asks_with_item == [bool(x < 0.25) for x in past]
    assert shares == pytest.approx(np.clip((past - 0.25) / 0.25, 0, 1))
    assert shares[-1] == 1.0
    word = stage.lexicon.words["history"]
    shown = [p.queries[0].codes[: len(word)] == word for packs, _ in steps for p in packs[:1]]
    assert shown == [bool(x >= 0.5) for x in past]


def test_halfway_asking_token_is_between_item_and_user(llm_path: Path, items: ItemSide) -> None:
    stage, questions = _stage(llm_path, items), _questions()
    batch = collate([_sampler(stage, questions).users(1, False)], stage.lexicon)
    row, column = (int(x) for x in batch.user_slot[0])
    at = [stage.embed(batch, questions.state, share)[row, column] for share in (0.0, 0.5, 1.0)]
    item = stage.item_tokens(torch.arange(10))[int(batch.target[0])]
    user = stage.projectors.users(questions.state)[int(batch.state[0])]
    assert torch.allclose(at[0], item, atol=1e-5) and torch.allclose(at[2], user)
    assert torch.allclose(F.normalize(at[1], dim=0), F.normalize(item + user, dim=0), atol=1e-5)


def test_ranking_warm_up_separates_the_target(llm_path: Path, items: ItemSide) -> None:
    questions = _questions()
    losses = []
    for steps in (1, 300):
        stage = _stage(llm_path, items, rank_steps=steps)
        losses.append(warm_up(stage, questions, Seeds(2)))
    assert losses[1] < 0.5 * losses[0]
    scores = stage.projectors.users(questions.state) @ stage.item_tokens(torch.arange(10)).T
    assert scores.argmax(1).tolist() == questions.target


@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
def test_training_moves_what_it_should_and_repeats(
    llm_path: Path, items: ItemSide, tune: str
) -> None:
    config, questions = _config(tune=tune), _questions()
    before = prepare(config, llm_path, items, DIM, Seeds(1))
    seen: list[int] = []
    first = train(config, llm_path, items, questions, Seeds(1), lambda d, n, loss: seen.append(d))
    second = train(config, llm_path, items, questions, Seeds(1))
    one, two = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)
    for a, b in zip(first.projectors.parameters(), second.projectors.parameters(), strict=True):
        assert torch.equal(a, b)
    start = before.model.state_dict()
    moved = {k for k in one if not torch.equal(one[k], start[k])}
    assert bool(moved) == (tune != "frozen")
    assert all("lora" in k for k in moved) or tune == "full"
    assert torch.equal(
        first.model.get_input_embeddings().weight, before.model.get_input_embeddings().weight
    )
    assert seen[-1] == 24 and seen == sorted(seen)


def test_full_tuning_learns_to_name_the_matching_candidate(llm_path: Path, items: ItemSide) -> None:
    """The stage learns a small task for which chance is one in four."""
    config = _config(
        num_train=600, rank_steps=60, learning_rate=3e-3, max_new_tokens=14, num_history=0
    )
    questions = _questions()
    stage = LLMStage.fit(config, llm_path, items, questions, Seeds(1))
    rng = np.random.default_rng(7)
    rows = []
    for target in questions.target:
        others = rng.permutation([i for i in range(10) if i != target])[:3]
        rows.append(rng.permutation([target, *others]))
    candidates = np.array(rows)
    place = (candidates == np.array(questions.target)[:, None]).argmax(1)
    said = stage.answer(questions.state, [np.array(h) for h in questions.history], candidates)
    assert (said.chosen == place).mean() >= 0.75
    base = stage.base_answer([np.array(h) for h in questions.history], candidates)
    assert (base.chosen == place).mean() <= 0.5


def test_an_interrupt_is_heard_between_two_batches_of_answers(
    llm_path: Path, items: ItemSide
) -> None:
    told: list[str] = []

    def say(text: str) -> None:
        told.append(text)
        if len(told) == 2:
            raise KeyboardInterrupt

    stage = LLMStage(_stage(llm_path, items), llm_path, say=say)
    questions = _questions(70)
    histories = [np.array(h) for h in questions.history]
    rng = np.random.default_rng(7)
    candidates = np.array([rng.permutation(10)[:4] for _ in histories])
    for work, most in (
        (lambda: stage.answer(questions.state, histories, candidates), 64),
        (lambda: stage.scores(questions.state, histories, candidates), 16),
        (lambda: stage.base_answer(histories, candidates), 64),
    ):
        told.clear()
        with pytest.raises(KeyboardInterrupt):
            work()
        assert f" {most} of {len(histories)} " in told[-1]


def test_wrong_settings_and_data_are_refused(
    llm_path: Path, items: ItemSide, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError):
        LLMStageConfig(layout="mached")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="num_history: 0"):
        LLMStageConfig(history_from=1.0)
    with pytest.raises(AssetError, match="the language model"):
        prepare(_config(), tmp_path, items, DIM, Seeds(1))
    lexicon = _stage(llm_path, items).lexicon
    with pytest.raises(DataError, match="candidates"):
        PackSampler(_questions(), lexicon, 3, 4, 2, np.random.default_rng(0))


def test_lexicon_splits_titles_as_they_stand(llm_path: Path, items: ItemSide) -> None:
    tokenizer = _stage(llm_path, items).tokenizer
    lexicon = build_lexicon(tokenizer, ["Big!", "Up"], "matched")
    assert tokenizer.decode(lexicon.answer(0)) == " Big!\n"
