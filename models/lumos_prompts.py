"""Prompts of LUMOS's three views, with examples drawn from the public catalogue.

No source gives the wording (systems.md 1.3: "only intent"); all of it is ours. The prompts are
continued as plain text, not put as a chat: of 56 ML-100K users SmolLM2-135M-Instruct answered a
chat with an apology or with the history itself in 96 to 100 % of cases. The examples come from the
catalogue alone (titles that the sentence encoder puts close together or far apart), never from
anyone's interactions, so that the same prompt serves any catalogue and reveals nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from harness.core.cosine import ranking
from harness.core.seeds import Seeds

FUTURE = (
    "Each entry lists {kind} that one person chose, then the {kind} this person chose next.\n\n",
    "Chosen: {given}\nNext:",
)
UNLIKE = (
    "Each entry lists {kind} that one person likes, then {kind} of another kind that this person "
    "would never choose.\n\n",
    "Likes: {given}\nNever:",
)
SIMILAR = (
    "Each entry names one of many {kind}, then others that are much like it.\n\n",
    "Named: {given}\nLike it:",
)
_SEPARATOR = "; "
_FAR_SHARE = 0.25
_WORD = re.compile(r"\w{4,}")


@dataclass(frozen=True)
class Catalogue:
    """What every client knows of the items: their titles and the titles' vectors.

    Attributes:
        titles: display titles, by item id.
        vectors: unit vectors of the titles.
    """

    titles: Sequence[str]
    vectors: Float[np.ndarray, "item dim"]

    def nearest(self, query: Float[np.ndarray, " dim"]) -> list[int]:
        """Return all items, the most similar to ``query`` first; ties by id."""
        return ranking(query, self.vectors).tolist()

    def centre(self, items: Sequence[int]) -> Float[np.ndarray, " dim"]:
        """Return the unit vector along the mean of the items' vectors."""
        mean = self.vectors[list(items)].mean(axis=0)
        return mean / max(float(np.linalg.norm(mean)), float(np.finfo(np.float32).tiny))

    def near(self, shown: Sequence[int], count: int, without: Sequence[int]) -> list[int]:
        """Return the ``count`` items nearest to the shown ones, none of ``without``."""
        known = set(without)
        ranked = self.nearest(self.centre(shown))
        return [item for item in ranked if item not in known][:count]

    def far(
        self, shown: Sequence[int], count: int, without: Sequence[int], seeds: Seeds
    ) -> list[int]:
        """Draw ``count`` items from the farthest quarter of the catalogue, none of ``without``.

        A draw, not the very farthest: those are the same few outlying titles for everyone.
        """
        known = set(without)
        ranked = [item for item in self.nearest(self.centre(shown)) if item not in known]
        far = ranked[-max(count, int(len(ranked) * _FAR_SHARE)) :]
        rng = seeds.numpy("far", *[int(item) for item in shown])
        return [far[place] for place in rng.permutation(len(far))[:count]]


def _line(catalogue: Catalogue, items: Sequence[int]) -> str:
    return _SEPARATOR.join(catalogue.titles[item] for item in items)


def _neighbours(catalogue: Catalogue, anchor: int, count: int) -> list[int]:
    """Return ``anchor`` and its nearest items that share no longer word with one another.

    Without the rule the examples teach word play ("Legal Deceit; Deceiver"), and the model then
    repeats the title it was given.
    """
    chosen: list[int] = []
    words: set[str] = set()
    for item in [anchor, *catalogue.nearest(catalogue.vectors[anchor])]:
        own = set(_WORD.findall(catalogue.titles[item].casefold()))
        if item in chosen or own & words:
            continue
        chosen.append(item)
        words |= own
        if len(chosen) == count:
            break
    return chosen


def _anchors(catalogue: Catalogue, count: int, seeds: Seeds) -> list[int]:
    order = seeds.numpy("examples").permutation(len(catalogue.titles))
    return [int(item) for item in order[:count]]


def future_head(catalogue: Catalogue, kind: str, count: int, seeds: Seeds) -> str:
    """Return instruction and examples for a plausible continuation [intent: digest-A]."""
    text = FUTURE[0].format(kind=kind)
    for anchor in _anchors(catalogue, count, seeds):
        group = _neighbours(catalogue, anchor, 8)
        text += _entry(catalogue, FUTURE[1], group[0::2], group[1::2])
    return text


def unlike_head(catalogue: Catalogue, kind: str, count: int, seeds: Seeds) -> str:
    """Return instruction and examples for items of another kind [intent: paper, digest-A]."""
    text = UNLIKE[0].format(kind=kind)
    rng = seeds.numpy("unlike")
    for anchor in _anchors(catalogue, count, seeds):
        ranked = catalogue.nearest(catalogue.vectors[anchor])
        far = ranked[-max(1, len(ranked) // 8) :]
        other = far[int(rng.integers(len(far)))]
        group, strange = _neighbours(catalogue, anchor, 4), _neighbours(catalogue, other, 4)
        text += _entry(catalogue, UNLIKE[1], group, strange)
    return text


def similar_head(catalogue: Catalogue, kind: str, count: int, seeds: Seeds) -> str:
    """Return instruction and examples for near-equivalents of one item [intent: digest-A]."""
    text = SIMILAR[0].format(kind=kind)
    for anchor in _anchors(catalogue, count, seeds):
        group = _neighbours(catalogue, anchor, 4)
        text += _entry(catalogue, SIMILAR[1], group[:1], group[1:])
    return text


def _entry(catalogue: Catalogue, form: str, given: Sequence[int], answer: Sequence[int]) -> str:
    return f"{form.format(given=_line(catalogue, given))} {_line(catalogue, answer)}\n\n"


def ask(catalogue: Catalogue, head: str, form: str, given: Sequence[int]) -> str:
    """Return ``head`` followed by the open entry of the items ``given``."""
    return head + form.format(given=_line(catalogue, given))
