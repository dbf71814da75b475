"""SASRec and a client's local training as anybody would write them in plain PyTorch.

What the loop over clients, Flower and pfl run in the benchmarks: the same architecture, loss and
number of steps as the engine's, one client at a time. Needs torch and numpy only.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

NUM_ITEMS = 3416
DIM = 64
BLOCKS = 2
HEADS = 2
STEPS = 5
LEARNING_RATE = 0.1


def histories(num_users: int, length: int, seed: int = 0) -> np.ndarray:
    """Return ``[user, length + 1]`` items, popular ones more often (Zipf)."""
    stream = np.random.default_rng(seed)
    weight = 1 / np.arange(1, NUM_ITEMS + 1)
    drawn = stream.choice(NUM_ITEMS, size=(num_users, length + 1), p=weight / weight.sum())
    return drawn.astype(np.int64)


class Block(nn.Module):
    """Attention and feed-forward; queries are normalised, keys and values are not."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIM, eps=1e-8), nn.LayerNorm(DIM, eps=1e-8)
        self.query, self.key = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)
        self.value, self.output = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)
        self.feed1, self.feed2 = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[sequence, token, dim]`` to the same."""
        normed = self.norm1(x)
        query, key, value = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in (self.query(normed), self.key(x), self.value(x))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = self.norm2(normed + self.output(mixed.transpose(1, 2).flatten(2)))
        return x + self.feed2(F.relu(self.feed1(x)))


class PlainSASRec(nn.Module):
    """SASRec with tied item embeddings."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.items = nn.Embedding(NUM_ITEMS, DIM)
        self.positions = nn.Embedding(length, DIM)
        self.blocks = nn.Sequential(*[Block() for _ in range(BLOCKS)])
        self.norm = nn.LayerNorm(DIM, eps=1e-8)

    def loss(self, history: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
        """Mean binary cross-entropy over the positions of ``[sequence, length + 1]``."""
        inputs, targets = history[:, :-1], history[:, 1:]
        place = torch.arange(inputs.shape[1])
        hidden = self.norm(self.blocks(self.items(inputs) + self.positions(place)))
        positive = (hidden * self.items(targets)).sum(-1)
        negative = (hidden * self.items(negatives)).sum(-1)
        return (F.softplus(-positive) + F.softplus(negative)).mean()


def train_client(model: PlainSASRec, history: np.ndarray, stream: np.random.Generator) -> None:
    """Five SGD steps on one client's history, in place."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    data = torch.from_numpy(history[None])
    for _ in range(STEPS):
        negatives = torch.from_numpy(stream.integers(0, NUM_ITEMS, (1, len(history) - 1)))
        optimizer.zero_grad()
        model.loss(data, negatives).backward()
        optimizer.step()
