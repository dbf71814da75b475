"""Random streams, each derived by hashing what it is for; nothing draws from a global generator."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Seeds:
    """A node in a tree of random streams.

    Two streams with different paths are independent, and a stream does not depend on how many
    others were drawn before it, so results do not change with the order of work or the number of
    workers.

    Attributes:
        root: the scenario's seed, ``0 <= root < 2**63``.
        path: purposes that led here, for example ``("round", 3, "client", 17)``.
    """

    root: int
    path: tuple[str | int, ...] = ()

    def child(self, *purpose: str | int) -> Seeds:
        """Return the node below this one that is named by ``purpose``."""
        return Seeds(self.root, self.path + purpose)

    def integer(self, *purpose: str | int) -> int:
        """Return a 63-bit integer determined by the root and the whole path."""
        text = "\x1f".join([str(self.root), *(repr(p) for p in self.path + purpose)])
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1

    def numpy(self, *purpose: str | int) -> np.random.Generator:
        """Return a NumPy generator of its own for ``purpose``."""
        return np.random.default_rng(self.integer(*purpose))

    def torch(self, *purpose: str | int) -> torch.Generator:
        """Return a CPU torch generator of its own for ``purpose``."""
        return torch.Generator().manual_seed(self.integer(*purpose))
