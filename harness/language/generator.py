"""The on-device LLM as a function from prompts to texts: batched, deterministic, cached by content.

A warm cache answers without loading the model, so that a scenario pays for generation once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from harness.core.device import Device
from harness.core.seeds import Seeds
from harness.language.cache import TextStore, digest, model_identity
from harness.language.constrain import ChoicePick
from harness.language.decode import (
    Choose,
    PickTokens,
    Prefix,
    decode_batch,
    encode_prefix,
    greedy,
    one_by_one,
    shared_length,
)
from harness.language.llm import Dtype, load_llm, resolved

_FORMAT = "generated-text/2"
CHOICE_SEPARATOR = ";"
"""Stands between two choices of a constrained text."""

Chat = Sequence[Mapping[str, str]]
Prompt = str | Chat
"""Plain text that is continued as it stands, or chat messages with ``role`` and ``content``."""


class Decoding(BaseModel):
    """How a text is continued; every field is part of the cache key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_new_tokens: int = Field(default=32, ge=1, description="upper limit of new tokens per text")
    stop: tuple[str, ...] = Field(
        default=(),
        description="strings that end a text; the text is cut before the one that ended it",
    )
    stop_after: int = Field(
        default=1,
        ge=1,
        description="end at the n-th occurrence of any stop string, not at the first",
    )
    temperature: float = Field(
        default=0.0,
        ge=0,
        description="0 takes the most probable token; above, samples (Gumbel-max)",
    )
    seed: int = Field(default=0, ge=0, description="of the sampling; unused at temperature 0")

    def end(self, text: str) -> int | None:
        """Return where ``text`` is to be cut, or None when it may go on."""
        ends = sorted(
            place
            for stop in self.stop
            for place in range(len(text))
            if text.startswith(stop, place)
        )
        return ends[self.stop_after - 1] if len(ends) >= self.stop_after else None


class Generated(BaseModel):
    """One generated text.

    Attributes:
        text: the new text, without the prompt and without what ended it.
        complete: False when the token limit cut it off.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    complete: bool


class TextGenerator:
    """A causal language model with a text cache.

    Determinism: the last bits of a logit depend on the other prompts of a batch, and a near tie may
    fall either way. So batches are formed from all prompts of a call, whatever the cache holds, and
    each is stored whole: the same list of prompts gives the same texts on the same kind of machine,
    also after an interruption. Only a batch that another call has half answered is asked anew in
    another company.

    Args:
        model: a local folder or a hub name of a causal language model.
        cache: SQLite file of generated texts; None keeps nothing.
        dtype: of the weights; ``auto`` is `harness.language.llm.cpu_dtype`.
        batch_size: prompts that are decoded together.
        progress: called with (prompts done, prompts to do) after each batch.
        device: where the model runs; texts of another device than the CPU are kept apart.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        cache: Path | None = None,
        dtype: Dtype = "auto",
        batch_size: int = 64,
        progress: Callable[[int, int], None] | None = None,
        device: Device = "cpu",
    ) -> None:
        self._source = model
        self._store = None if cache is None else TextStore(cache)
        self._dtype = resolved(dtype, device)
        self._device: Device = device
        self._batch_size = batch_size
        self._progress = progress

    @cached_property
    def identity(self) -> str:
        """Hash over the model's files (or its hub name), the number format and the device."""
        elsewhere = () if self._device == "cpu" else (self._device,)
        return digest(model_identity(self._source), str(self._dtype), *elsewhere)

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """Load model and tokenizer at the first prompt that the cache lacks."""
        tokenizer, model = load_llm(self._source, self._dtype, grouped=True, device=self._device)
        return model, tokenizer

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return "_parts" in self.__dict__

    def release(self) -> None:
        """Drop the model from memory; it is loaded again when needed."""
        self.__dict__.pop("_parts", None)

    def generate(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        choices: Sequence[Sequence[str]] | None = None,
    ) -> list[Generated]:
        """Continue every prompt.

        Args:
            prompts: texts or chats; equal ones are generated once.
            decoding: limits, stops, sampling.
            choices: per prompt the texts it may write, separated by semicolons and each at most
                once (`ChoicePick`); None lets it write anything.

        Returns:
            One text per prompt, in the order given.

        Raises:
            AssetError: the model is needed and can't be loaded.
        """
        lists = [None] * len(prompts) if choices is None else [list(row) for row in choices]
        keys = [self._key(p, decoding, row) for p, row in zip(prompts, lists, strict=True)]
        stored = {} if self._store is None else self._store.get(sorted(set(keys)))
        texts = {key: Generated.model_validate_json(value) for key, value in stored.items()}
        if len(texts) < len(set(keys)):
            tokens = {k: self._tokens(p) for k, p in zip(keys, prompts, strict=True)}
            texts |= self._fill(texts.keys(), tokens, dict(zip(keys, lists, strict=True)), decoding)
        return [texts[key] for key in keys]

    def _key(self, prompt: Prompt, decoding: Decoding, choices: list[str] | None) -> str:
        content = prompt if isinstance(prompt, str) else [dict(turn) for turn in prompt]
        return digest(_FORMAT, self.identity, content, decoding.model_dump(mode="json"), choices)

    def _tokens(self, prompt: Prompt) -> list[int]:
        """Return the prompt's token ids; chats go through the model's own template."""
        tokenizer = self._parts[1]
        if isinstance(prompt, str):
            return list(tokenizer(prompt)["input_ids"])
        if tokenizer.chat_template is None:
            return list(
                tokenizer("\n".join(turn["content"] for turn in prompt) + "\n")["input_ids"]
            )
        text = tokenizer.apply_chat_template(
            [dict(turn) for turn in prompt], tokenize=False, add_generation_prompt=True
        )
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def _fill(
        self,
        known: Set[str],
        tokens: Mapping[str, list[int]],
        choices: Mapping[str, list[str] | None],
        decoding: Decoding,
    ) -> dict[str, Generated]:
        """Generate the texts that are not ``known``, batch by batch, and store each batch."""
        shared = shared_length(list(tokens.values()))
        prefix = encode_prefix(self._parts[0], next(iter(tokens.values()))[:shared])
        blocks = self._blocks(known, tokens)
        made: dict[str, Generated] = {}
        for block in blocks:
            own = [tokens[key][shared:] for key in block]
            pick = self._pick(block, [choices[key] for key in block], decoding)
            batch = self._batch(block, own, prefix, decoding, pick)
            if self._store is not None:
                self._store.put({key: text.model_dump_json() for key, text in batch.items()})
            made.update(batch)
            if self._progress is not None:
                self._progress(len(made), sum(map(len, blocks)))
        return made

    def _blocks(self, known: Set[str], tokens: Mapping[str, list[int]]) -> list[list[str]]:
        """Return the batches that are wholly unknown, then what others lack, longest first."""
        keys = sorted(tokens, key=lambda key: (-len(tokens[key]), key))
        blocks = _cut(keys, self._batch_size)
        fresh = [block for block in blocks if not known & set(block)]
        rest = [k for block in blocks if known & set(block) for k in block if k not in known]
        return fresh + _cut(rest, self._batch_size)

    def _pick(
        self, keys: list[str], choices: list[list[str] | None], decoding: Decoding
    ) -> PickTokens:
        """Return how the batch's next tokens are chosen."""
        tokenizer = self._parts[1]
        base = _sampler(keys, decoding) if decoding.temperature > 0 else greedy
        given = [row for row in choices if row is not None]
        if not given:
            return one_by_one(base)

        def tokenise(text: str) -> list[int]:
            return list(tokenizer(text, add_special_tokens=False)["input_ids"])

        separator, end = tokenise(CHOICE_SEPARATOR)[-1], tokenizer.eos_token_id
        return ChoicePick(tokenise, given, separator=separator, end=end, base=base)

    def _batch(
        self,
        keys: list[str],
        own: list[list[int]],
        prefix: Prefix,
        decoding: Decoding,
        pick: PickTokens,
    ) -> dict[str, Generated]:
        """Decode one batch and cut the texts at their stops."""
        model, tokenizer = self._parts
        ends = _end_ids(model, tokenizer)

        def text_of(new: Sequence[int]) -> str:
            kept = [token for token in new if token not in ends]
            return tokenizer.decode(
                kept, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )

        def finished(new: Sequence[int]) -> bool:
            return new[-1] in ends or decoding.end(text_of(new)) is not None

        rows = decode_batch(
            model,
            own,
            prefix,
            pad=0,
            max_new_tokens=decoding.max_new_tokens,
            finished=finished,
            pick=pick,
        )
        result = {}
        for key, new in zip(keys, rows, strict=True):
            text = text_of(new)
            result[key] = Generated(text=text[: decoding.end(text)], complete=finished(new))
        return result


def _cut(keys: list[str], size: int) -> list[list[str]]:
    return [keys[start : start + size] for start in range(0, len(keys), size)]


def _end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the ids that end a text, from the tokenizer and the model's generation settings."""
    ids = {tokenizer.eos_token_id}
    named = model.generation_config.eos_token_id
    ids.update(named if isinstance(named, list | tuple) else [named])
    return frozenset(int(i) for i in ids if i is not None)


def _sampler(keys: Sequence[str], decoding: Decoding) -> Choose:
    """Sample by the Gumbel-max trick, each row from a stream of its own.

    A row's stream hangs on its own prompt, so neighbours in the batch do not change its draws.
    """
    streams = [Seeds(decoding.seed).numpy("generate", key) for key in keys]

    def pick(logits: Float[Tensor, " vocab"], row: int, step: int) -> int:
        del step
        noise = streams[row].gumbel(size=logits.shape[0])
        return int(np.argmax(logits.double().numpy() / decoding.temperature + noise))

    return pick
