from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.core.errors import AssetError
from harness.language.generator import Decoding, TextGenerator
from tests.unit.language.tiny import write_tiny_model

PROMPTS = ["Shared start: Alien; Heat", "Shared start: Fargo", "Shared start: Kolya; Big; Jaws"]


def plain(folder: Path, prompts: Sequence[str], new: int) -> list[str]:
    """The slow twin: one prompt at a time through the library's own greedy search."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    texts = []
    for prompt in prompts:
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        out = model.generate(  # pyright: ignore[reportAttributeAccessIssue]
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
        )
        texts.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return texts


def texts(generator: TextGenerator, prompts: Sequence[str], decoding: Decoding) -> list[str]:
    return [made.text for made in generator.generate(prompts, decoding)]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_shared_prefix_and_padding_change_nothing_against_plain_greedy_search(
    tiny_llm: Path, batch_size: int
) -> None:
    generator = TextGenerator(tiny_llm, dtype="float32", batch_size=batch_size)
    made = texts(generator, PROMPTS, Decoding(max_new_tokens=20))
    assert made == plain(tiny_llm, PROMPTS, 20)
    assert len(set(made)) == len(made), "the tiny model must react to its prompt"


def test_prompts_without_a_common_start(tiny_llm: Path) -> None:
    prompts = ["Alien", "Fargo is longer", "x"]
    generator = TextGenerator(tiny_llm, dtype="float32")
    assert texts(generator, prompts, Decoding(max_new_tokens=9)) == plain(tiny_llm, prompts, 9)


def test_rows_that_stop_early_leave_the_others_unchanged(tiny_llm: Path) -> None:
    prompts = [f"Shared start: {chr(65 + n) * (n + 1)}" for n in range(12)]
    full = plain(tiny_llm, prompts, 24)
    stop = next(c for c in full[0] if c.isascii() and c.isalnum())
    expected = [text.split(stop)[0] for text in full]
    assert len({len(text) for text in expected}) > 2, "rows must end at different steps"
    generator = TextGenerator(tiny_llm, dtype="float32")
    made = generator.generate(prompts, Decoding(max_new_tokens=24, stop=(stop,)))
    assert [m.text for m in made] == expected
    assert all(m.complete for m, text in zip(made, full, strict=True) if stop in text)
    assert not all(m.complete for m in made), "some rows must reach the limit"


def test_stop_after_counts_occurrences_of_any_stop() -> None:
    decoding = Decoding(stop=(";", "\n"), stop_after=3)
    assert decoding.end("a; b; c") is None
    assert decoding.end("a; b\nc; d") == len("a; b\nc")
    assert Decoding().end("a;") is None


def test_a_warm_cache_answers_without_loading_the_model(tiny_llm: Path, tmp_path: Path) -> None:
    decoding = Decoding(max_new_tokens=6)
    cold = TextGenerator(tiny_llm, cache=tmp_path / "t.sqlite", dtype="float32")
    first = texts(cold, PROMPTS, decoding)
    assert cold.loaded
    warm = TextGenerator(tiny_llm, cache=tmp_path / "t.sqlite", dtype="float32")
    assert texts(warm, PROMPTS[::-1], decoding) == first[::-1]
    assert not warm.loaded


def test_the_cache_tells_decodings_models_and_choices_apart(tmp_path: Path) -> None:
    store = tmp_path / "t.sqlite"
    one = write_tiny_model(tmp_path / "one", seed=1)
    two = write_tiny_model(tmp_path / "two", seed=2)
    TextGenerator(one, cache=store, dtype="float32").generate(["Alien"], Decoding(max_new_tokens=4))
    for folder, decoding, choices in [
        (two, Decoding(max_new_tokens=4), None),
        (one, Decoding(max_new_tokens=5), None),
        (one, Decoding(max_new_tokens=4), [["Heat"]]),
    ]:
        other = TextGenerator(folder, cache=store, dtype="float32")
        other.generate(["Alien"], decoding, choices)
        assert other.loaded
    copy = tmp_path / "copy"
    shutil.copytree(one, copy)
    same = TextGenerator(copy, cache=store, dtype="float32")
    same.generate(["Alien"], Decoding(max_new_tokens=4))
    assert not same.loaded, "content decides, not where it lies"


def test_an_interrupted_run_keeps_whole_batches_and_ends_with_the_same_texts(
    tiny_llm: Path, tmp_path: Path
) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    decoding = Decoding(max_new_tokens=5)
    broken = TextGenerator(
        tiny_llm, cache=tmp_path / "t.sqlite", dtype="float32", batch_size=2, progress=interrupt
    )
    with pytest.raises(KeyboardInterrupt):
        broken.generate(PROMPTS, decoding)
    todo: list[tuple[int, int]] = []
    again = TextGenerator(
        tiny_llm,
        cache=tmp_path / "t.sqlite",
        dtype="float32",
        batch_size=2,
        progress=lambda done, total: todo.append((done, total)),
    )
    assert texts(again, PROMPTS, decoding) == plain(tiny_llm, PROMPTS, 5)
    assert todo == [(1, 1)]


def test_batches_hang_on_the_prompts_and_not_on_the_cache(tiny_llm: Path, tmp_path: Path) -> None:
    decoding = Decoding(max_new_tokens=3)
    prompts = [f"{'word ' * n}end" for n in range(6)]

    def sizes(store: Path, asked: list[str]) -> list[int]:
        done: list[int] = [0]
        generator = TextGenerator(
            tiny_llm,
            cache=store,
            dtype="float32",
            batch_size=2,
            progress=lambda made, total: done.append(made),
        )
        generator.generate(asked, decoding)
        return [after - before for before, after in pairwise(done)]

    store = tmp_path / "t.sqlite"
    assert sizes(store, prompts[4:]) == [2], "the two longest, which are a batch of all six too"
    assert sizes(store, prompts) == [2, 2], "the other two batches, as without a cache"
    other = tmp_path / "o.sqlite"
    assert sizes(other, [prompts[5], prompts[3]]) == [2]
    assert sizes(other, prompts) == [2, 2], "one whole batch, and what the halves lack, together"


def test_sampling_hangs_on_seed_and_prompt_not_on_the_batch(tiny_llm: Path) -> None:
    generator = TextGenerator(tiny_llm, dtype="float32")
    hot = Decoding(max_new_tokens=12, temperature=1.0, seed=3)
    together = texts(generator, PROMPTS, hot)
    assert [texts(generator, [prompt], hot)[0] for prompt in PROMPTS] == together
    assert texts(generator, PROMPTS, hot.model_copy(update={"seed": 4})) != together
    nearly_greedy = hot.model_copy(update={"temperature": 1e-6})
    assert texts(generator, PROMPTS, nearly_greedy) == plain(tiny_llm, PROMPTS, 12)


def test_sampled_tokens_follow_the_softmax(tiny_llm: Path) -> None:
    generator = TextGenerator(tiny_llm, dtype="float32", batch_size=64)
    tokenizer = AutoTokenizer.from_pretrained(tiny_llm)
    model = AutoModelForCausalLM.from_pretrained(tiny_llm, dtype=torch.float32)
    with torch.inference_mode():
        logits = model(torch.tensor([tokenizer("Alien")["input_ids"]])).logits[0, -1]
    expected = (logits.double() / 2.0).softmax(-1)
    readable = [t for t in range(len(expected)) if tokenizer.decode([t]).strip().isascii()]
    top = max(readable[2:], key=lambda token: float(expected[token]))
    assert float(expected[top]) > 0.02
    hits = 0
    for seed in range(200):
        decoding = Decoding(max_new_tokens=1, temperature=2.0, seed=seed)
        made = texts(generator, ["Alien"], decoding)[0]
        hits += made == tokenizer.decode([top])
    p = float(expected[top])
    assert abs(hits / 200 - p) < 4 * (p * (1 - p) / 200) ** 0.5


def test_choices_bind_the_text_and_never_repeat(tiny_llm: Path) -> None:
    generator = TextGenerator(tiny_llm, dtype="float32")
    rows = [["Alien", "Aliens", "Heat"], ["Fargo"], ["Big", "Jaws", "Big Night"]]
    decoding = Decoding(max_new_tokens=60, stop=(";",), stop_after=2)
    for made, row in zip(generator.generate(PROMPTS, decoding, rows), rows, strict=True):
        parts = [part.strip() for part in made.text.split(";") if part.strip()]
        assert made.complete
        assert len(parts) == len(set(parts)) == min(2, len(row))
        assert set(parts) <= set(row)


def test_choices_are_followed_greedily_token_by_token(tiny_llm: Path) -> None:
    """A slow twin that scores the allowed continuations itself."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_llm)
    model = AutoModelForCausalLM.from_pretrained(tiny_llm, dtype=torch.float32)
    row = ["Heat", "Alien", "Aliens", "Hero"]
    ids, path = tokenizer(PROMPTS[0])["input_ids"], ""
    spelled = [f" {title};" for title in row]
    while path not in spelled:
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, -1]
        letters = {s[len(path)] for s in spelled if s.startswith(path)}
        best = max(letters, key=lambda c: float(logits[tokenizer(c)["input_ids"][0]]))
        path, ids = path + best, ids + tokenizer(best)["input_ids"]
    generator = TextGenerator(tiny_llm, dtype="float32")
    decoding = Decoding(max_new_tokens=20, stop=(";",))
    assert generator.generate([PROMPTS[0]], decoding, [row])[0].text == path[:-1]


def test_chat_messages_use_the_models_template(tiny_llm: Path) -> None:
    generator = TextGenerator(tiny_llm, dtype="float32")
    chat = [{"role": "user", "content": "Alien?"}]
    rendered = "<s>user:Alien?</s><s>assistant:"
    decoding = Decoding(max_new_tokens=7)
    assert generator.generate([chat], decoding)[0].text == texts(generator, [rendered], decoding)[0]


def test_no_prompts_need_no_model(tiny_llm: Path) -> None:
    generator = TextGenerator(tiny_llm)
    assert generator.generate([], Decoding()) == []
    assert not generator.loaded


def test_a_folder_without_a_model_is_an_asset_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(AssetError, match="can't be loaded"):
        TextGenerator(tmp_path).generate(["x"], Decoding())
    with pytest.raises(AssetError, match="no model files"):
        TextGenerator(empty).generate(["x"], Decoding())
