"""Decoding that can only spell out given choices: each row writes titles from its own list.

The lever of constrained recommenders (a token trie over the catalogue), as an alternative to
mapping free text afterwards: every title is an item, and a title is never written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from harness.language.decode import Choose

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
    """A `PickTokens` that keeps each row on a path through its remaining choices.

    A choice is spelled as its tokens followed by the separator; when it is complete it is removed
    and the next one begins. With none left the row ends.

    Args:
        tokenise: text to token ids; called with a leading space, as inside a line.
        choices: allowed texts per row, distinct within a row.
        separator: token id between two choices.
        end: token id that ends a row without choices.
        base: picks among the allowed tokens, and is not asked where there is one only.
    """

    def __init__(
        self,
        tokenise: Callable[[str], list[int]],
        choices: Sequence[Sequence[str]],
        *,
        separator: int,
        end: int,
        base: Choose,
    ) -> None:
        known = {text for row in choices for text in row}
        spelled = {text: (*tokenise(" " + text), separator) for text in sorted(known)}
        self._left = [{spelled[text] for text in row} for row in choices]
        self._node = [build_trie(sorted(row)) for row in self._left]
        self._path: list[tuple[int, ...]] = [() for _ in choices]
        self._end = end
        self._base = base

    def __call__(self, logits: Float[Tensor, " vocab"], row: int, step: int) -> list[int]:
        """Return the next token of ``row``, and the following ones up to the next choice."""
        if not self._node[row]:
            return [self._end]
        allowed = sorted(self._node[row])
        # Only the allowed logits are looked at: masking the whole vocabulary for every row, and
        # drawing noise for it, took longer than the model's head.
        place = self._base(logits[allowed], row, step) if len(allowed) > 1 else 0
        tokens = [allowed[place]]
        self._enter(row, tokens[0])
        while self._path[row] and len(self._node[row]) == 1:
            (token,) = self._node[row]
            tokens.append(token)
            self._enter(row, token)
        return tokens

    def _enter(self, row: int, token: int) -> None:
        """Follow ``token``; at the end of a choice, take it out and begin the next."""
        self._path[row] += (token,)
        self._node[row] = self._node[row][token]
        if not self._node[row]:
            self._left[row].discard(self._path[row])
            self._path[row] = ()
            self._node[row] = build_trie(sorted(self._left[row]))
