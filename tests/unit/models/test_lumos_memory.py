"""The memory that a chunk's clients are said to take, against what they do take."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.core.defense import DataPlan
from harness.core.local import LocalSpec, Work
from harness.core.seeds import Seeds
from harness.core.system import Domain, Resources
from harness.fed.local import BatchedTrainer
from models.lumos import Lumos
from models.lumos_memory import chunk_size, client_bytes, cut

CLIENTS, ITEMS = 12, 200


def _system(length, **settings):
    fixed = {"future": False, "rephrased": False, "counterfactual": False, "chunk_clients": CLIENTS}
    system = Lumos(max_length=length, **{**fixed, **settings})
    stream = np.random.default_rng(0)
    histories = tuple(stream.permutation(ITEMS)[:length] for _ in range(CLIENTS))
    titles = tuple(str(i) for i in range(ITEMS))
    domain = Domain("twelve", histories, titles, titles, np.full(CLIENTS, -1))
    resources = Resources({}, None, lambda text: None)
    return system, system.setup((domain,), resources, Seeds(0))


class _Living(TorchDispatchMode):
    """Counts the bytes of all tensors made under it that are still alive, after every operation."""

    def __init__(self):
        super().__init__()
        self.peak = 0
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self._made[storage.data_ptr()] = StorageWeakRef(storage), storage.nbytes()
        self._made = {key: made for key, made in self._made.items() if not made[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._made.values()))
        return result


@pytest.mark.parametrize("length", [10, 50])
@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec"])
def test_a_chunk_takes_no_more_than_it_says_and_not_four_times_less(length, backbone):
    system, state = _system(length, local_epochs=1, optimizer="sgd", backbone=backbone)
    work = Work(torch.arange(CLIENTS), 0, DataPlan(), BatchedTrainer(), Seeds(0))
    spec = LocalSpec(1, "sgd", 0.1, 0.0, 5.0)
    said = CLIENTS * client_bytes(state.model, length, system.config.num_blocks, spec)
    with _Living() as living:
        list(system.local(state, work))
    print("PEAK", living.peak, said, living.peak / said)
    assert said / 4 < living.peak < said


def test_little_memory_trains_fewer_clients_at_once_with_the_same_result():
    system, state = _system(10, optimizer="sgd", learning_rate=0.1, local_epochs=2)
    work = Work(torch.arange(CLIENTS), 0, DataPlan(), BatchedTrainer(), Seeds(0), summed=True)
    tight = Work(
        torch.arange(CLIENTS), 0, DataPlan(), BatchedTrainer(), Seeds(0), True, memory_bytes=3e6
    )
    whole, parts = list(system.local(state, work)), list(system.local(state, tight))
    assert len(whole) == 1
    assert len(parts) > 2
    one = system.combine(state, whole, Seeds(0))
    two = system.combine(state, parts, Seeds(0))
    torch.testing.assert_close(one.rows, two.rows, atol=1e-6, rtol=0)
    for name, delta in one.dense.items():
        torch.testing.assert_close(delta, two.dense[name], atol=1e-6, rtol=0)


def test_at_least_one_client_trains():
    assert chunk_size(64, 1.0, 10**9) == 1
    assert chunk_size(64, None, 10**9) == 64
    assert chunk_size(64, 1e12, 10**6) == 64


@given(
    st.lists(st.integers(2, 200), min_size=1, max_size=80).map(sorted),
    st.integers(1, 40),
    st.integers(1, 3000),
)
def test_chunks_hold_everybody_once_and_keep_to_both_limits(sizes, most, tokens):
    parts = cut(sizes, most, tokens)
    assert [size for part in parts for size in sizes[part]] == sizes
    for part in parts:
        clients = part.stop - part.start
        assert 1 <= clients <= most
        assert clients == 1 or clients * sizes[part.stop - 1] <= tokens
    # No cut into runs of neighbours has fewer chunks.
    filled, clients = 1, 0
    for size in sizes:
        full = clients == most or (clients and (clients + 1) * size > tokens)
        filled, clients = (filled + 1, 1) if full else (filled, clients + 1)
    assert len(parts) == filled


def test_chunks_of_equal_clients_are_even():
    parts = cut([50] * 100, 64, 10**6)
    assert [part.stop - part.start for part in parts] == [50, 50]
    parts = cut([50] * 100, 100, 50 * 40)
    assert [part.stop - part.start for part in parts] == [34, 34, 32]


def test_short_histories_train_in_larger_chunks_than_long_ones():
    lengths = []
    for length in (10, 50):
        system, state = _system(length, chunk_clients=None)
        sizes = [length] * 600
        work = Work(torch.arange(600), 0, DataPlan(), BatchedTrainer(), Seeds(0))
        lengths.append(max(p.stop - p.start for p in system._cut(state, work, sizes)))
    assert lengths == [120, 60]
