"""Local training on another device and in another number format.

No GPU is needed: PyTorch's fake tensors have a device and a shape and no values, and an operation
on tensors of two devices raises as it would on a machine that has both. The other device is called
``meta`` here, because a PyTorch without CUDA cannot differentiate on one that is called ``cuda``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.core.averaging import average, join_updates
from harness.core.defense import DataPlan
from harness.core.device import Arithmetic
from harness.core.item_rows import read_items
from harness.core.local import LocalSpec, Work
from harness.core.seeds import Seeds
from harness.core.system import Domain
from harness.fed.local import BatchedTrainer
from harness.fed.steps import Chunk, adapt, descend, descend_sum, one_shared_step, single, sum_up
from models.backbone import SequenceModel, build_backbone, initial_table
from models.lumos import Lumos, LumosState
from models.lumos_device import WrittenViews

HISTORIES = [[1, 2, 3, 4, 5, 6], [7, 8, 9], [3, 1], [10, 11, 12, 13, 2, 4, 1]]
NUM_ITEMS = 200


def _state(backbone="sasrec"):
    encoder = build_backbone(
        backbone, embedding_size=16, num_blocks=2, num_heads=2, max_positions=15
    )
    table = initial_table(NUM_ITEMS, 16, Seeds(0))
    model = SequenceModel(encoder, encoder.initial(Seeds(0)), table, max_length=10)
    titles = ("",) * NUM_ITEMS
    histories = tuple(np.array(h) for h in HISTORIES)
    views = WrittenViews(
        future=[[*h, 20, 21] for h in HISTORIES],
        rephrased=[[*h[:-1], 30] for h in HISTORIES],
        counterfactual=[[40, 41]] * 4,
        findings={},
    )
    return LumosState(model, Domain("four", histories, titles, titles, np.full(4, -1)), views)


class _Kept(BatchedTrainer):
    """A trainer that keeps what it was given."""

    def train(self, task):
        self.chunk = Chunk(**vars(task))
        return super().train(task)


def _work(arithmetic=None, **change):
    trainer = BatchedTrainer(arithmetic or Arithmetic())
    return replace(Work(torch.arange(4), 0, DataPlan(), trainer, Seeds(1)), **change)


def _fake(value, mode):
    """Return a copy of a tree of dataclasses in which every tensor is a fake one."""
    if isinstance(value, torch.Tensor):
        return mode.from_tensor(value)
    if isinstance(value, dict):
        return {name: _fake(child, mode) for name, child in value.items()}
    fields = getattr(value, "__dataclass_fields__", {})
    return (
        replace(value, **{f: _fake(getattr(value, f), mode) for f in fields}) if fields else value
    )


def _train(chunk, items):
    """Train in each way there is; return all tensors that come out."""
    plain = chunk.spec.optimizer == "sgd"
    if plain and chunk.spec.steps == 1:
        total = one_shared_step(chunk, items)
        return [*total.dense.values(), total.rows]
    deltas, moved, rest = descend(chunk) if plain else adapt(chunk)
    found = single(deltas, moved, rest)
    if plain:
        total = descend_sum(chunk, items)
    else:
        total = sum_up(items, {n: delta.sum(0) for n, delta in deltas.items()}, moved, rest)
    return [*found.dense.values(), found.rows, *total.dense.values(), total.rows]


def _chunk(loss, backbone="sasrec"):
    trainer, state = _Kept(), _state(backbone)
    system = Lumos(loss=loss, embedding_size=16, max_length=10, local_epochs=3)
    list(system.local(state, _work(trainer=trainer)))
    return trainer.chunk


def _items(chunk):
    return read_items(chunk.row_ids, len(chunk.table))


ONE_STEP = LocalSpec(1, "sgd", 0.1, 0.01, 0.0)
SGD = LocalSpec(3, "sgd", 0.1, 0.01, 0.5)
ADAM = LocalSpec(3, "adam", 0.1, 0.01, 0.5)
CASES = [
    *(("sasrec", "binary", spec, None) for spec in (ONE_STEP, SGD, ADAM)),
    *(("sasrec", "softmax", spec, None) for spec in (ONE_STEP, SGD, ADAM)),
    ("gru4rec", "softmax", SGD, None),
    ("sasrec", "softmax", SGD, torch.bfloat16),
    ("sasrec", "softmax", ADAM, torch.bfloat16),
]


@pytest.mark.parametrize(("backbone", "loss", "spec", "products"), CASES)
def test_a_chunk_trains_on_one_device_throughout(backbone, loss, spec, products):
    chunk = replace(_chunk(loss, backbone), spec=spec, products=products)
    items = _items(chunk)
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        tensors = _train(_fake(chunk, mode).to("meta"), _fake(items, mode).to("meta"))
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert {tensor.dtype for tensor in tensors} == {torch.float32}


def test_fake_tensors_would_tell_a_tensor_left_behind():
    chunk = _chunk("binary")
    items = _items(chunk)
    with FakeTensorMode(allow_non_fake_inputs=False) as mode, pytest.raises(RuntimeError):
        fake = _fake(chunk, mode)
        _train(replace(fake.to("meta"), loss=fake.loss), _fake(items, mode).to("meta"))


@pytest.mark.parametrize("loss", ["binary", "softmax"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_bfloat16_products_stay_close_and_everything_else_is_float32(loss, optimizer):
    """Eight bits of mantissa: within 5 % of the norm of the change, after two steps."""
    state = _state()
    rate = 0.1 if optimizer == "sgd" else 1e-4
    system = Lumos(
        loss=loss, embedding_size=16, max_length=10, local_epochs=2, optimizer=optimizer,
        learning_rate=rate, contrastive_weight=0.0,
    )  # fmt: skip
    rounded = _work(Arithmetic("cpu", "bfloat16"))
    exact = join_updates(system.local(state, _work()))
    close = join_updates(system.local(state, rounded))
    assert {d.dtype for d in (*close.dense.values(), close.rows)} == {torch.float32}
    assert not torch.equal(exact.rows, close.rows)

    def flat(update):
        # The key bias has no gradient but rounding noise, which Adam would blow up to a step.
        dense = [d.flatten(1) for n, d in sorted(update.dense.items()) if "key.bias" not in n]
        return torch.cat([*dense, update.rows.flatten(1)], 1)

    away = (flat(close) - flat(exact)).norm(dim=1) / flat(exact).norm(dim=1)
    # Where rounding lifts a unit over the kink of its ReLU, a client's change is off by more.
    assert away.sort().values[1] < (0.05 if optimizer == "sgd" else 0.25) and away.max() < 0.3


@pytest.mark.parametrize("loss", ["binary", "softmax"])
def test_bfloat16_learns(loss):
    state = _state()
    system = Lumos(
        loss=loss, embedding_size=16, max_length=10, learning_rate=0.01, contrastive_weight=0.0
    )

    def ranks(model):
        scores = model.scores(np.arange(4), [np.array(h[:-1]) for h in HISTORIES])
        own = scores[np.arange(4), [h[-1] for h in HISTORIES]]
        return float((scores > own[:, None]).sum(1).mean())

    before = ranks(state.model)
    for _ in range(20):
        work = _work(Arithmetic("cpu", "bfloat16"), summed=True)
        mean = average(system.local(state, work), NUM_ITEMS, over_cohort=False)
        state = system.apply(state, mean)
    assert before > 40 and ranks(state.model) < 2
