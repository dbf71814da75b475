"""From generated text to catalogue items: split into titles, then exact match or nearest neighbour.

LUMOS grounds LLM text "by fuzzy match / embedding nearest neighbour / lookup; discard unmappable
items" [digest-A]; the order (exact first) and the threshold are ours.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from harness.language.encoder import SentenceEncoder

_YEAR = re.compile(r"\s*[(\[]\s*(?:18|19|20)\d{2}\s*[)\]]\s*$")
_INVERTED = re.compile(r"^(.*\S),\s*(the|an?|les?|la|l'|il|el|der|die|das)$")
_MARKER = re.compile(r"^\s*(?:[-*•–]\s+|\(?\d{1,2}[.):]\s+)")
_BREAK = re.compile(r"[;\n]+")
_QUOTES = "\"'“”\u2018’«»*_`"

HowMapped = Literal["exact", "nearest", "unmapped"]


def normalise_title(title: str) -> str:
    """Return the form under which two spellings of a title are equal.

    NFC and case folding, without the year in brackets at the end, a trailing article put back in
    front ("Matrix, The (1999)" and "The Matrix" agree), no punctuation, "&" read as "and".
    """
    text = unicodedata.normalize("NFC", title).casefold().strip()
    text = _YEAR.sub("", text).strip()
    if match := _INVERTED.match(text):
        text = f"{match[2]} {match[1]}"
    text = text.replace("&", " and ").replace("'", "").replace("’", "")
    return " ".join(re.sub(r"[^\w]+", " ", text).split())


def display_title(title: str) -> str:
    """Return a catalogue title as a person would write it: no year, the article in front.

    Years cost one token a digit in small LLMs' tokenizers and a trailing article breaks a list
    that is separated by commas or semicolons.
    """
    text = _YEAR.sub("", unicodedata.normalize("NFC", title)).strip()
    if match := _INVERTED.match(text.casefold()):
        article, rest = text[-len(match[2]) :], text[: len(match[1])]
        text = f"{article}{'' if article.endswith(chr(39)) else ' '}{rest}"
    return text.replace(";", ",")


def split_titles(text: str, *, complete: bool = True) -> list[str]:
    """Split generated text into titles.

    Separators are semicolons and line breaks; list numbers, bullets, surrounding quotes and a
    year in brackets are dropped.

    Args:
        text: what the model wrote.
        complete: False says that the text was cut off, so its last title may be half a title and
            is left out, unless it is the only one.
    """
    parts = _BREAK.split(text)
    if not complete and len(parts) > 1:
        parts = parts[:-1]
    titles = [_MARKER.sub("", part).strip().strip(_QUOTES).rstrip(".,").strip() for part in parts]
    return [title for title in titles if any(c.isalnum() for c in title)]


@dataclass(frozen=True)
class Mapped:
    """One generated title and the item that it was taken for.

    Attributes:
        title: the title as generated.
        item: index into the catalogue, or None.
        cosine: of title and item in the encoder's space; 1 for an exact match; the best one found
            when nothing was near enough.
        how: exact match, nearest neighbour, or not mapped.
    """

    title: str
    item: int | None
    cosine: float
    how: HowMapped


@dataclass(frozen=True)
class GroundingQuality:
    """How well a collection of generated titles met the catalogue; NaN where nothing was parsed.

    Attributes:
        parsed: titles found in the texts.
        valid_ratio: share of them that was mapped to an item.
        exact_ratio: share that matched an item's title exactly.
        mean_cosine: mean over all parsed titles of the cosine to the best item.
    """

    parsed: int
    valid_ratio: float
    exact_ratio: float
    mean_cosine: float


def quality(mapped: Collection[Mapped]) -> GroundingQuality:
    """Summarise mapped titles."""
    count = len(mapped)
    if not count:
        return GroundingQuality(0, float("nan"), float("nan"), float("nan"))
    return GroundingQuality(
        parsed=count,
        valid_ratio=sum(m.item is not None for m in mapped) / count,
        exact_ratio=sum(m.how == "exact" for m in mapped) / count,
        mean_cosine=float(np.mean([m.cosine for m in mapped])),
    )


def shown_titles(titles: Sequence[str]) -> list[str]:
    """Return the texts that stand for a catalogue's titles before the encoder."""
    return [display_title(title) or title for title in titles]


class Grounder:
    """Maps generated titles to items of one catalogue.

    Args:
        titles: the catalogue's titles; an item's id is its index. Among equal titles the first
            one is the match.
        encoder: gives the vectors for the nearest neighbour.
        threshold: least cosine at which the nearest item counts as meant, in [-1, 1].
    """

    def __init__(
        self, titles: Sequence[str], encoder: SentenceEncoder, *, threshold: float
    ) -> None:
        self._exact: dict[str, int] = {}
        for item, title in enumerate(titles):
            self._exact.setdefault(normalise_title(title), item)
        self._exact.pop("", None)
        self._titles = shown_titles(titles)
        self._encoder = encoder
        self._threshold = threshold

    @property
    def vectors(self) -> Float[np.ndarray, "item dim"]:
        """Unit vectors of the catalogue's titles."""
        return self._encoder.encode(self._titles)

    def ground(self, titles: Sequence[str]) -> list[Mapped]:
        """Map each title: exact on the normalised title, else the nearest item, else nothing."""
        normal = [normalise_title(title) for title in titles]
        unknown = sorted({t for t, n in zip(titles, normal, strict=True) if n not in self._exact})
        near = dict(zip(unknown, self._nearest(unknown), strict=True))
        result = []
        for title, key in zip(titles, normal, strict=True):
            if key in self._exact:
                result.append(Mapped(title, self._exact[key], 1.0, "exact"))
                continue
            item, cosine = near[title]
            hit = cosine >= self._threshold
            result.append(
                Mapped(title, item if hit else None, cosine, "nearest" if hit else "unmapped")
            )
        return result

    def _nearest(self, titles: Sequence[str]) -> list[tuple[int, float]]:
        """Return the nearest item of each title and its cosine."""
        if not titles:
            return []
        # Imported where it is used: normalising a title needs no torch.
        import torch

        from harness.core.neighbors import nearest

        queries = self._encoder.encode([display_title(t) or t for t in titles])
        found = nearest(torch.from_numpy(queries), torch.from_numpy(self.vectors))
        return list(zip(found.items[:, 0].tolist(), found.scores[:, 0].tolist(), strict=True))
