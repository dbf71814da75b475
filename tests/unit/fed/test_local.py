"""Batched local training against the slow obvious loop: torch.optim, one client at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.core.averaging import average, join_updates
from harness.core.client_weight import ClientWeight
from harness.core.defense import DataPlan
from harness.core.errors import ScenarioError
from harness.core.local import LocalSpec, LocalTask, Work
from harness.core.messages import PAD, ModelSum, ModelUpdate
from harness.core.seeds import Seeds
from harness.core.system import Domain
from harness.fed.guard import GuardRecord, admit
from harness.fed.local import BatchedTrainer
from harness.fed.optimisers import clip_per_client
from models.backbone import SequenceModel, build_backbone, initial_table
from models.lumos import Lumos, LumosState
from models.lumos_device import WrittenViews
from models.lumos_objective import contrastive_loss, recommendation_loss
from models.sasrec import rows_at
from models.sequences import causal_layout, complement_sample

HISTORIES = [[1, 2, 3, 4, 5, 6], [7, 8, 9], [3, 1], [10, 11, 12, 13, 2, 4, 1]]
VIEWS = [
    ([20, 21], [1, 2, 3, 4, 22, 6], [25, 26]),
    ([23], [7, 24, 9], [27]),
    (None, None, [28]),
    ([20], None, None),
]
NUM_ITEMS = 30


def _state():
    backbone = build_backbone(
        "sasrec", embedding_size=8, num_blocks=1, num_heads=2, max_positions=15
    )
    # Float64: the key bias has no gradient but rounding noise, which Adam would blow up to a step.
    dense = {n: p.double() for n, p in backbone.initial(Seeds(0)).items()}
    table = initial_table(NUM_ITEMS, 8, Seeds(0)).double()
    model = SequenceModel(backbone, dense, table, max_length=10)
    titles = tuple(str(i) for i in range(NUM_ITEMS))
    histories = tuple(np.array(h) for h in HISTORIES)
    domain = Domain("four", histories, titles, titles, np.full(4, -1))
    views = WrittenViews(
        future=[h + v[0] if v[0] else [] for h, v in zip(HISTORIES, VIEWS, strict=True)],
        rephrased=[v[1] or [] for v in VIEWS],
        counterfactual=[v[2] or [] for v in VIEWS],
        findings={},
    )
    return LumosState(model, domain, views)


def _local(system, state, work):
    return join_updates(system.local(state, work))


def _client_loss(model, dense, table, client, negatives, system):
    """One client's loss with four separate forward passes."""
    history, (future, rephrased, counterfactual) = HISTORIES[client], VIEWS[client]

    def hidden(sequence):
        layout, last = causal_layout([np.array(sequence)], 15)
        return model.backbone.hidden(dense, table[layout.ids], layout)[0, : last[0] + 1]

    trunk = hidden(history)
    target, negative = table[torch.tensor(history[1:])], table[torch.from_numpy(negatives)]
    loss = recommendation_loss(
        trunk[None, :-1], target[None], negative[None], torch.tensor([len(history)])
    )
    views = [history + future if future else None, rephrased, counterfactual]
    states = [
        trunk[-1],
        *(hidden(v)[-1] if v else torch.zeros(8, dtype=torch.float64) for v in views),
    ]
    present = torch.tensor([[v is not None for v in views]])
    config = system.config
    contrast = contrastive_loss(torch.stack(states)[None], present, config.temperature)
    return (loss + config.contrastive_weight * contrast).sum()


def _slow_negatives(system, cohort, client, seeds):
    """One client's negatives ``[step, position]`` from its place in the cohort."""
    length, seen = len(HISTORIES[client]) - 1, np.unique(HISTORIES[client])
    shape = (len(cohort), system.config.local_epochs, system.config.max_length)
    draws = seeds.numpy("negatives").random(shape)[
        sorted(cohort.tolist()).index(client), :, :length
    ]
    return complement_sample((draws * (NUM_ITEMS - len(seen))).astype(np.int64), seen)


def _slow_update(state, system, cohort, client, seeds):
    """Train one client with torch.optim on the full item table."""
    config = system.config
    dense = {n: p.clone().requires_grad_() for n, p in state.model.dense.items()}
    table = state.model.table.clone().requires_grad_()
    parameters = [*dense.values(), table]
    optimizer = (
        torch.optim.Adam(parameters, lr=config.learning_rate)
        if config.optimizer == "adam"
        else torch.optim.SGD(parameters, lr=config.learning_rate)
    )
    negatives = _slow_negatives(system, cohort, client, seeds)
    for step in range(config.local_epochs):
        optimizer.zero_grad()
        _client_loss(state.model, dense, table, client, negatives[step], system).backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimizer.step()
    deltas = {n: p.detach() - state.model.dense[n] for n, p in dense.items()}
    return deltas, table.detach() - state.model.table


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_batched_training_equals_a_loop_over_clients(optimizer, chunk):
    state, seeds = _state(), Seeds(5).child("round", 0)
    system = Lumos(
        optimizer=optimizer,
        learning_rate=0.01,
        weight_decay=0.0,
        clip_norm=0.5,
        local_epochs=3,
        chunk_clients=chunk,
        max_length=10,
        embedding_size=8,
    )
    cohort = torch.tensor([2, 0, 3, 1])
    update = _local(system, state, Work(cohort, 0, DataPlan(), BatchedTrainer(), seeds))
    assert sorted(update.clients.tolist()) == [0, 1, 2, 3]
    for place, client in enumerate(update.clients.tolist()):
        dense, table = _slow_update(state, system, cohort, client, seeds)
        for name, delta in dense.items():
            torch.testing.assert_close(update.dense[name][place], delta, atol=1e-7, rtol=1e-6)
        full = torch.zeros_like(table)
        real = update.row_ids[place] != PAD
        full[update.row_ids[place, real]] = update.rows[place, real]
        torch.testing.assert_close(full, table, atol=1e-7, rtol=1e-6)


class _Flat:
    """A loss without a slope."""

    factored = frozenset()
    every_row = False

    def to(self, device):
        return self

    def __call__(self, step, dense, rows, rest=None):
        looked_up = rows_at(rows, torch.zeros(1, 1, dtype=torch.int64))
        return dense["w"].sum(1) * 0 + looked_up.sum((1, 2)) * 0


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_weight_decay_is_decoupled(optimizer):
    spec = LocalSpec(
        steps=1, optimizer=optimizer, learning_rate=0.1, weight_decay=0.5, clip_norm=0.0
    )
    dense, table = {"w": torch.ones(2)}, torch.ones(3, 2)

    trained = BatchedTrainer().train(
        LocalTask(dense, table, torch.tensor([[0, PAD]]), _Flat(), spec)
    )
    torch.testing.assert_close(trained.dense["w"], torch.full((1, 2), -0.05))
    torch.testing.assert_close(trained.rows[0], torch.tensor([[-0.05, -0.05], [0.0, 0.0]]))


def test_clipping_bounds_each_client_on_its_own():
    gradients = [torch.tensor([[3.0, 4.0], [0.3, 0.4]])]
    clipped = clip_per_client(gradients, 1.0)[0]
    assert clipped.norm(dim=1).tolist() == pytest.approx([1.0, 0.5], rel=1e-5)


def test_unknown_optimizer_says_what_is_allowed():
    spec = LocalSpec(steps=1, optimizer="adagrad", learning_rate=1, weight_decay=0, clip_norm=0)
    with pytest.raises(ScenarioError, match="adam, sgd"):
        task = LocalTask({}, torch.ones(1, 1), torch.tensor([[0]]), _Flat(), spec)
        BatchedTrainer().train(task)


@pytest.mark.parametrize("train", [True, False])
def test_view_items_move_only_where_the_option_says_so(train):
    state, seeds = _state(), Seeds(5).child("round", 0)
    system = Lumos(
        optimizer="sgd",
        learning_rate=0.1,
        weight_decay=0.0,
        local_epochs=1,
        max_length=10,
        embedding_size=8,
        train_view_items=train,
    )
    cohort = torch.tensor([0])
    update = _local(system, state, Work(cohort, 0, DataPlan(), BatchedTrainer(), seeds))
    negatives = set(_slow_negatives(system, cohort, 0, seeds).flatten().tolist())
    only_in_views = {20, 21, 22, 25, 26} - negatives
    assert only_in_views
    for item in only_in_views:
        (slot,) = (update.row_ids[0] == item).nonzero().flatten().tolist()
        assert (update.rows[0, slot].abs().max() > 0).item() is train


PLAIN_STEP = {"optimizer": "sgd", "local_epochs": 1, "clip_norm": 0.0}
CHANGES = [{}, {"local_epochs": 3}, {"optimizer": "adam"}, {"clip_norm": 0.5}]


def _both_ways(**change):
    """A cohort's messages with single updates and as sums, and the training's state."""
    state, seeds = _state(), Seeds(5).child("round", 0)
    fixed = {"learning_rate": 0.1, "weight_decay": 0.01, "max_length": 10, "embedding_size": 8}
    system = Lumos(**{"chunk_clients": 2, **fixed, **PLAIN_STEP, **change})
    work = Work(torch.arange(4), 0, DataPlan(), BatchedTrainer(), seeds)
    return list(system.local(state, work)), list(system.local(state, replace(work, summed=True)))


@pytest.mark.parametrize("over_cohort", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_sums_give_the_numbers_of_single_updates(change, over_cohort):
    single, summed = _both_ways(**change)
    assert all(isinstance(message, ModelSum) for message in summed)
    one = average(single, NUM_ITEMS, over_cohort=over_cohort)
    two = average(summed, NUM_ITEMS, over_cohort=over_cohort)
    assert torch.equal(one.row_ids, two.row_ids)
    torch.testing.assert_close(one.rows, two.rows, atol=1e-12, rtol=1e-9)
    for name, delta in one.dense.items():
        torch.testing.assert_close(delta, two.dense[name], atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("rate", [1e9, 1e300])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_broken_sum_comes_back_by_client_for_the_guard_to_see(rate, steps):
    _, summed = _both_ways(learning_rate=rate, weight_decay=0.0, local_epochs=steps)
    assert all(isinstance(message, ModelUpdate) for message in summed)
    record = GuardRecord()
    assert not any(len(admit(message, 0, record, set())) for message in summed)
    assert sum(record.rejected.values()) == 4


def test_clipping_reads_norms_from_factors_of_either_shape():
    """Few tokens take the norm from small Gram matrices, many from the product itself."""
    for tokens in (3, 40):
        weight = ClientWeight(torch.randn(8, 6), 2, torch.zeros((), requires_grad=True))
        x, bias = torch.randn(2, tokens, 8, requires_grad=True), torch.zeros(2, 6)
        weight.linear(x, bias).square().sum().backward()
        inputs, gradient = x.detach(), 2 * (x.detach() @ weight.start)
        expected = (inputs.transpose(1, 2) @ gradient).flatten(1).square().sum(1)
        torch.testing.assert_close(weight.squared_norms(), expected, rtol=1e-4, atol=1e-3)


def _once(weight, x, bias, index):
    return weight.linear(x, bias).square().sum()


def _twice(weight, x, bias, index):
    return weight.linear(weight.linear(x, bias), bias).square().sum()


def _also_looked_up(weight, x, bias, index):
    return weight.linear(weight.lookup(index) * x, bias).square().sum()


@pytest.mark.parametrize("read", [_once, _twice, _also_looked_up])
@pytest.mark.parametrize("shrink", [1.0, 0.9])
def test_steps_at_once_are_the_steps_that_wait(read, shrink):
    """Three steps each way, on a weight read in one place and in two: the same bits."""
    start = torch.randn(6, 6) * 0.1
    index = torch.tensor([[0, 1, 2], [5, 5, 1]])
    found = []
    for at_once in (False, True):
        weight = ClientWeight(start, 2, torch.zeros((), requires_grad=True))
        for step in range(3):
            if at_once:
                weight.step_at_once(shrink)
            x = torch.full((2, 3, 6), 0.1 * (step + 1), requires_grad=True)
            (-0.1 * read(weight, x, torch.ones(2, 6) * 0.1, index)).backward()
            with torch.no_grad():
                weight.step(shrink)
        found.append(weight.deltas())
    assert torch.equal(*found) and found[0].abs().max() > 1e-3
