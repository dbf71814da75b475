"""Sentence embeddings of item texts, cached by content and loaded only when needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from harness.core.errors import AssetError
from harness.core.pace import Pace
from harness.language.cache import ArrayStore, digest, model_identity

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_FORMAT = "sentence-embedding/2"
_BLOCK_BATCHES = 4
"""Batches that are encoded, kept and reported together: some seconds of work."""


class SentenceEncoder:
    """A frozen sentence encoder (SBERT) with a disk cache.

    SF-UBM encodes item texts with SBERT [paper]; LUMOS grounds generated titles by "fuzzy match /
    embedding nearest neighbour / lookup" [digest-A].

    Args:
        model: a local folder or a hub name that ``SentenceTransformer`` loads.
        cache: folder of the embedding cache; None keeps nothing.
        batch_size: texts per forward pass; part of the cache key, because padding changes the
            last bits.
        progress: told how far a long list is; may raise to stop there. Blocks that are done stay
            in the cache.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        cache: Path | None = None,
        batch_size: int = 64,
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._progress = progress
        self._source = model
        self._store = None if cache is None else ArrayStore(cache)
        self._batch_size = batch_size

    @cached_property
    def identity(self) -> str:
        """Hash over the model's files, or its hub name."""
        return model_identity(self._source)

    @cached_property
    def _model(self) -> SentenceTransformer:
        """Load the model at the first text that the cache lacks."""
        from sentence_transformers import SentenceTransformer

        local = Path(self._source).is_dir()
        try:
            return SentenceTransformer(str(self._source), device="cpu", local_files_only=local)
        except (OSError, ValueError) as error:
            raise AssetError(
                f"the sentence encoder {self._source} can't be loaded: {error}"
            ) from error

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return "_model" in self.__dict__

    def encode(
        self, texts: Sequence[str], *, normalise: bool = True
    ) -> Float[np.ndarray, "text dim"]:
        """Return one vector per text, in the order given.

        Equal texts are encoded once. The whole list is one cache entry, and each block of a long
        one too, so that processes can share the work (:meth:`encode_part`).

        Args:
            texts: the texts; at least one.
            normalise: scale each vector to L2 norm 1, so that dot products are cosines.

        Raises:
            ValueError: ``texts`` is empty, so the width is unknown.
            AssetError: the model can't be loaded.
        """
        if not texts:
            raise ValueError("nothing to encode")
        key = self._key(texts)
        vectors = None if self._store is None else self._store.get(key)
        if vectors is None:
            vectors = self._compute(texts)
            if self._store is not None:
                self._store.put(key, vectors)
        if not normalise:
            return vectors
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(norms, np.finfo(np.float32).tiny)

    def encode_part(self, texts: Sequence[str], part: int, count: int) -> None:
        """Encode a share of a list into the cache, for a later :meth:`encode` of the whole list.

        Who encodes which share changes no bit: batches are cut from the whole list.

        Args:
            texts: the whole list.
            part: which share, from 0.
            count: how many there are.

        Raises:
            AssetError: the model can't be loaded.
        """
        if self._store is None or not texts or self._store.get(self._key(texts)) is not None:
            return
        self._encoded(self._blocks(texts)[part::count])

    def _key(self, texts: Sequence[str]) -> str:
        return digest(_FORMAT, self.identity, self._batch_size, list(texts))

    def _blocks(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the distinct texts, longest first, in blocks of whole batches."""
        distinct = sorted(set(texts), key=lambda text: (-len(text), text))
        size = _BLOCK_BATCHES * self._batch_size
        return [distinct[start : start + size] for start in range(0, len(distinct), size)]

    def _compute(self, texts: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        """Encode distinct texts and spread them over the list.

        A model that ends in a normalisation layer (MiniLM's) returns unit vectors either way.
        """
        blocks = self._blocks(texts)
        place = {text: number for number, text in enumerate(chain.from_iterable(blocks))}
        array = np.concatenate(self._encoded(blocks))
        return array[[place[text] for text in texts]]

    def _encoded(self, blocks: list[list[str]]) -> list[Float[np.ndarray, "text dim"]]:
        """Return the vectors of each block, from the cache or encoded now."""
        pace = Pace("encoding texts", sum(map(len, blocks)), self._progress)
        found: list[Float[np.ndarray, "text dim"]] = []
        done = 0
        for block in blocks:
            key = self._key(block)
            vectors = None if self._store is None else self._store.get(key)
            if vectors is None:
                vectors = self._run_model(block)
                if self._store is not None:
                    self._store.put(key, vectors)
                pace.reached(done + len(block))
            found.append(vectors)
            done += len(block)
        return found

    def _run_model(self, texts: list[str]) -> Float[np.ndarray, "text dim"]:
        size = self._batch_size
        # One call a batch: in a longer list the library would cut the batches anew.
        batches = [
            self._model.encode(
                texts[start : start + size],
                batch_size=size,
                convert_to_numpy=True,
                normalize_embeddings=False,
                show_progress_bar=False,
            )
            for start in range(0, len(texts), size)
        ]
        return np.concatenate(batches).astype(np.float32, copy=False)
