"""Decoding that can only spell out given choices: each row writes titles from its own list.

The lever of constrained recommenders (a token trie over the catalogue), as an alternative to
mapping free text afterwards: every title is an item, and a title is never written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from harness.language.decode import PickToken

Trie = dict[int, "Trie"]


def build_trie(sequences: Sequence[Sequence[int]]) -> Trie:
    """Return the prefix tree of token sequences."""
    root: Trie = {}
    for sequence in sequences:
        node = root
        for token in sequence:
            node = node.setdefault(token, {})
    return root


class ChoicePick:
    """A `PickToken` that keeps each row on a path through its remaining choices.

    A choice is spelled as its tokens followed by the separator; when it is complete it is removed
    and the next one begins. With none left the row ends.

    Args:
        tokenise: text to token ids; called with a leading space, as inside a line.
        choices: allowed texts per row, distinct within a row.
        separator: token id between two choices.
        end: token id that ends a row without choices.
        base: picks among the allowed tokens; the others come to it as minus infinity.
    """

    def __init__(
        self,
        tokenise: Callable[[str], list[int]],
        choices: Sequence[Sequence[str]],
        *,
        separator: int,
        end: int,
        base: PickToken,
    ) -> None:
        known = {text for row in choices for text in row}
        spelled = {text: (*tokenise(" " + text), separator) for text in sorted(known)}
        self._left = [{spelled[text] for text in row} for row in choices]
        self._node = [build_trie(sorted(row)) for row in self._left]
        self._path: list[tuple[int, ...]] = [() for _ in choices]
        self._end = end
        self._base = base

    def __call__(self, logits: Float[Tensor, " vocab"], row: int, step: int) -> int:
        """Return the next token of ``row``."""
        if not self._node[row]:
            return self._end
        allowed = sorted(self._node[row])
        masked = torch.full_like(logits, -torch.inf)
        masked[allowed] = logits[allowed]
        token = self._base(masked, row, step)
        self._path[row] += (token,)
        self._node[row] = self._node[row][token]
        if not self._node[row]:
            self._left[row].discard(self._path[row])
            self._path[row] = ()
            self._node[row] = build_trie(sorted(self._left[row]))
        return token
