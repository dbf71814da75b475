"""Random streams, each derived by hashing what it is for; nothing draws from a global generator."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

_KEY_BYTES = 32
_STATE_WORDS = 624
"""Words of 32 bits in the state of torch's CPU generator (MT19937)."""
_HEADER_WORDS, _FOOTER_BYTES = 3, 40
"""What surrounds them in ``torch.Generator.get_state``: seed, place, and a kept normal draw."""


@dataclass(frozen=True, init=False)
class Seeds:
    """A node in a tree of random streams.

    Two streams with different paths are independent: each is seeded with at least 128 bits of a
    hash of its whole path, so that 2**40 of them meet with a probability below 2**-48. A stream
    does not depend on how many others were drawn before it, so results do not change with the order
    of work or the number of workers.

    The tree can only be walked down. A node holds a hash of its path, so whoever is handed one (an
    attack, a defence) can draw the streams below it and none above or beside it. Who guesses the
    scenario's seed can draw everything: a run that can be repeated has no other secret.

    Attributes:
        key: 256-bit hash of the root and of the purposes that led here.
    """

    key: bytes

    def __init__(self, root: int) -> None:
        """Start a tree at the scenario's seed, ``root >= 0``."""
        object.__setattr__(self, "key", _hash(b"", b"root " + str(int(root)).encode()))

    def child(self, *purpose: str | int) -> Seeds:
        """Return the node below this one that is named by ``purpose``."""
        node = object.__new__(Seeds)
        object.__setattr__(node, "key", self._below(purpose))
        return node

    def integer(self, *purpose: str | int) -> int:
        """Return a 63-bit integer determined by the root and the whole path."""
        return int.from_bytes(_hash(self._below(purpose), b"integer")[:8], "little") >> 1

    def numpy(self, *purpose: str | int) -> np.random.Generator:
        """Return a NumPy generator of its own for ``purpose``."""
        # Of these 256 bits the seed sequence keeps 128.
        return np.random.default_rng(np.frombuffer(_hash(self._below(purpose), b"numpy"), "<u4"))

    def torch(self, *purpose: str | int) -> torch.Generator:
        """Return a CPU torch generator of its own for ``purpose``.

        ``manual_seed`` keeps 32 bits of what it is given, under which 77,000 streams meet more
        often than not; so the generator's whole state is filled from the hash.
        """
        words = hashlib.shake_128(self._below(purpose) + b"torch").digest(4 * _STATE_WORDS)
        head = 8 * (_HEADER_WORDS + _STATE_WORDS)
        state = np.zeros(head + _FOOTER_BYTES, dtype=np.uint8)
        whole = state[:head].view(np.uint64)
        # One word is left, so that the first draw makes a fresh block of words.
        whole[1] = 1 | 1 << 32
        whole[_HEADER_WORDS:] = np.frombuffer(words, "<u4")
        generator = torch.Generator()
        generator.set_state(torch.from_numpy(state))
        return generator

    def _below(self, purpose: tuple[str | int, ...]) -> bytes:
        key = self.key
        for part in purpose:
            # An integer and its digits as text are different purposes.
            name = "=" + part if isinstance(part, str) else f"#{int(part)}"
            key = _hash(key, name.encode())
        return key


def _hash(key: bytes, text: bytes) -> bytes:
    return hashlib.blake2b(text, key=key, digest_size=_KEY_BYTES).digest()
