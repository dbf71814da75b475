"""Sentence embeddings of item texts, cached by content and loaded only when needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from harness.core.errors import AssetError
from harness.language.cache import ArrayStore, digest, model_identity

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_FORMAT = "sentence-embedding/1"


class SentenceEncoder:
    """A frozen sentence encoder (SBERT) with a disk cache.

    SF-UBM encodes item texts with SBERT [paper]; LUMOS grounds generated titles by "fuzzy match /
    embedding nearest neighbour / lookup" [digest-A].

    Args:
        model: a local folder or a hub name that ``SentenceTransformer`` loads.
        cache: folder of the embedding cache; None keeps nothing.
        batch_size: texts per forward pass; part of the cache key, because padding changes the
            last bits.
    """

    def __init__(
        self, model: str | Path, *, cache: Path | None = None, batch_size: int = 64
    ) -> None:
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

        Equal texts are encoded once. The whole list is one cache entry.

        Args:
            texts: the texts; at least one.
            normalise: scale each vector to L2 norm 1, so that dot products are cosines.

        Raises:
            ValueError: ``texts`` is empty, so the width is unknown.
            AssetError: the model can't be loaded.
        """
        if not texts:
            raise ValueError("nothing to encode")
        key = digest(_FORMAT, self.identity, self._batch_size, list(texts))
        vectors = None if self._store is None else self._store.get(key)
        if vectors is None:
            vectors = self._compute(texts)
            if self._store is not None:
                self._store.put(key, vectors)
        if not normalise:
            return vectors
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(norms, np.finfo(np.float32).tiny)

    def _compute(self, texts: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        """Encode distinct texts, longest first, and spread them over the list.

        A model that ends in a normalisation layer (MiniLM's) returns unit vectors either way.
        """
        distinct = sorted(set(texts), key=lambda text: (-len(text), text))
        place = {text: number for number, text in enumerate(distinct)}
        vectors = self._model.encode(
            distinct,
            batch_size=self._batch_size,
            convert_to_numpy=True,
            normalize_embeddings=False,
            show_progress_bar=False,
        )
        array = np.asarray(vectors, dtype=np.float32)
        return array[[place[text] for text in texts]]
