"""Full-softmax local training against the slow obvious loop: a full item table for each client."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harness.core import unread_rows
from harness.core.averaging import average, join_updates
from harness.core.defense import DataPlan
from harness.core.local import LocalSpec, Work
from harness.core.messages import ModelSum, ModelUpdate
from harness.core.seeds import Seeds
from harness.core.system import Domain
from harness.core.unread_rows import UnreadRows
from harness.fed.guard import GuardRecord, admit
from harness.fed.local import BatchedTrainer
from models.backbone import SequenceModel, build_backbone, initial_table
from models.lumos import Lumos, LumosState
from models.lumos_device import WrittenViews
from models.lumos_memory import client_bytes, softmax_bytes
from models.lumos_objective import contrastive_loss
from models.sequences import causal_layout

HISTORIES = [[1, 2, 3, 4, 5, 6], [7, 8, 9], [3, 1], [10, 11, 12, 13, 2, 4, 1]]
VIEWS = [
    ([20, 21], [1, 2, 3, 4, 22, 6], [25, 26]),
    ([23], [7, 24, 9], [27]),
    (None, None, [28]),
    ([20], None, None),
]
NUM_ITEMS = 150
"""More than two of the narrowest tiles."""
FIXED = {"loss": "softmax", "learning_rate": 0.02, "max_length": 10, "embedding_size": 8}


@pytest.fixture(autouse=True)
def narrow_tiles(monkeypatch):
    """Cut even this small catalogue into several tiles."""
    monkeypatch.setattr(unread_rows, "TILE", 1)


def _state(backbone="sasrec", num_items=NUM_ITEMS):
    encoder = build_backbone(
        backbone, embedding_size=8, num_blocks=1, num_heads=2, max_positions=15
    )
    dense = {n: p.double() for n, p in encoder.initial(Seeds(0)).items()}
    # Far from uniform, so that the rows' moves matter to what follows.
    table = 3 * initial_table(num_items, 8, Seeds(0)).double()
    model = SequenceModel(encoder, dense, table, max_length=10)
    titles = tuple(str(i) for i in range(num_items))
    histories = tuple(np.array(h) for h in HISTORIES)
    domain = Domain("four", histories, titles, titles, np.full(4, -1))
    views = WrittenViews(
        future=[h + v[0] if v[0] else [] for h, v in zip(HISTORIES, VIEWS, strict=True)],
        rephrased=[v[1] or [] for v in VIEWS],
        counterfactual=[v[2] or [] for v in VIEWS],
        findings={},
    )
    return LumosState(model, domain, views)


def _work(**change):
    return replace(
        Work(torch.arange(4), 0, DataPlan(), BatchedTrainer(), Seeds(5).child("round", 0)), **change
    )


def _slow_loss(model, dense, table, client, config):
    """One client's loss with separate forward passes and all scores."""
    history, (future, rephrased, counterfactual) = HISTORIES[client], VIEWS[client]

    def hidden(sequence):
        layout, last = causal_layout([np.array(sequence)], 15)
        return model.backbone.hidden(dense, table[layout.ids], layout)[0, : last[0] + 1]

    trunk = hidden(history)
    loss = F.cross_entropy(trunk[:-1] @ table.T, torch.tensor(history[1:]))
    views = [history + future if future else None, rephrased, counterfactual]
    states = [
        trunk[-1],
        *(hidden(v)[-1] if v else torch.zeros(8, dtype=torch.float64) for v in views),
    ]
    present = torch.tensor([[v is not None for v in views]])
    contrast = contrastive_loss(torch.stack(states)[None], present, config.temperature)
    return (loss + config.contrastive_weight * contrast).sum()


def _slow_update(state, config, client):
    """Train one client with torch.optim on its own copy of the full item table."""
    dense = {n: p.clone().requires_grad_() for n, p in state.model.dense.items()}
    table = state.model.table.clone().requires_grad_()
    parameters = [*dense.values(), table]
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.SGD
    optimizer = kind(parameters, lr=config.learning_rate)
    for _ in range(config.local_epochs):
        optimizer.zero_grad()
        _slow_loss(state.model, dense, table, client, config).backward()
        if config.clip_norm:
            torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        with torch.no_grad():
            for parameter in parameters:
                parameter.mul_(1 - config.learning_rate * config.weight_decay)
        optimizer.step()
    deltas = {n: p.detach() - state.model.dense[n] for n, p in dense.items()}
    return deltas, table.detach() - state.model.table


CASES = [
    {"optimizer": optimizer, "local_epochs": steps, **rest}
    for optimizer in ("sgd", "adam")
    for steps, rest in (
        (1, {"clip_norm": 0.0, "weight_decay": 0.0}),
        (2, {"clip_norm": 0.5, "weight_decay": 0.1}),
        (5, {"clip_norm": 0.5, "weight_decay": 0.1}),
        (5, {"clip_norm": 0.0, "weight_decay": 0.1}),
    )
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(str(v) for v in c.values()))
@pytest.mark.parametrize("chunk", [1, 4])
def test_single_updates_equal_a_loop_over_clients_with_full_tables(case, chunk):
    state = _state()
    system = Lumos(chunk_clients=chunk, **FIXED, **case)
    update = join_updates(system.local(state, _work()))
    assert update.rows.shape == (4, NUM_ITEMS, 8)
    for place, client in enumerate(update.clients.tolist()):
        dense, table = _slow_update(state, system.config, client)
        for name, delta in dense.items():
            torch.testing.assert_close(update.dense[name][place], delta, atol=1e-7, rtol=1e-6)
        torch.testing.assert_close(update.rows[place], table, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(str(v) for v in c.values()))
def test_sums_equal_the_sum_of_a_loop_over_clients(case):
    state = _state()
    system = Lumos(chunk_clients=3, **FIXED, **case)
    messages = list(system.local(state, _work(summed=True)))
    assert [type(m) for m in messages] == [ModelSum, ModelSum]
    assert [m.senders.tolist() for m in messages] == [[3] * NUM_ITEMS, [1] * NUM_ITEMS]
    slow = [_slow_update(state, system.config, client) for client in range(4)]
    mean = average(messages, NUM_ITEMS, over_cohort=False)
    assert mean.row_ids.tolist() == list(range(NUM_ITEMS))
    torch.testing.assert_close(mean.rows, sum(table for _, table in slow) / 4, atol=1e-7, rtol=1e-6)
    for name, delta in mean.dense.items():
        expected = sum(dense[name] for dense, _ in slow) / 4
        torch.testing.assert_close(delta, expected, atol=1e-7, rtol=1e-6)


def test_sums_say_the_traffic_of_single_updates():
    state, system = _state(), Lumos(**FIXED, local_epochs=1)
    (single,), (total,) = (list(system.local(state, _work(summed=s))) for s in (False, True))
    assert total.bytes_per_client() == single.bytes_per_client()


def test_the_other_encoder_trains_the_same():
    state = _state("gru4rec")
    system = Lumos(backbone="gru4rec", optimizer="sgd", local_epochs=2, **FIXED)
    update = join_updates(system.local(state, _work()))
    for place, client in enumerate(update.clients.tolist()):
        _, table = _slow_update(state, system.config, client)
        torch.testing.assert_close(update.rows[place], table, atol=1e-7, rtol=1e-6)


def test_a_client_that_reads_every_item_by_index_has_an_empty_rest():
    table = torch.randn(3, 4, dtype=torch.float64)
    rest = UnreadRows(table, torch.tensor([[0, 1, 2], [0, -1, -1]]), shrink=1.0)
    states = torch.randn(2, 2, 4, dtype=torch.float64, requires_grad=True)
    found = rest.logsumexp(states)
    assert (found[0] < -1e29).all()
    torch.testing.assert_close(found[1], (states[1] @ table[1:].T).logsumexp(-1))
    torch.logaddexp(found, torch.zeros(2, 2, dtype=torch.float64)).sum().backward()
    assert torch.equal(states.grad[0], torch.zeros_like(states.grad[0]))
    assert states.grad[1].isfinite().all()


def test_scores_far_apart_neither_overflow_nor_vanish():
    table = torch.tensor([[300.0], [-300.0], [200.0], *[[-1e4]] * 200])
    rest = UnreadRows(table, torch.tensor([[0]]), shrink=1.0)
    states = torch.tensor([[[1.0], [-1.0]]], requires_grad=True)
    found = rest.logsumexp(states)
    assert found.tolist() == [[200.0, pytest.approx(1e4 + np.log(200), rel=1e-6)]]
    found.sum().backward()
    assert states.grad.flatten().tolist() == pytest.approx([200.0, -1e4])


def test_norms_come_from_factors_exactly():
    table = torch.randn(300, 6, dtype=torch.float64)
    rest = UnreadRows(table, torch.tensor([[4, 9], [2, -1]]), shrink=1.0, norms=True)
    states = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 5, dtype=torch.float64)
    rest.logsumexp(states).backward(upstream)
    for client, read in enumerate(([4, 9], [2])):
        own = table.clone().requires_grad_()
        kept = torch.ones(300, dtype=torch.bool)
        kept[read] = False
        found = (states[client].detach() @ own[kept].T).logsumexp(-1) @ upstream[client]
        (gradient,) = torch.autograd.grad(found, own)
        torch.testing.assert_close(rest.squared_norms()[client], gradient.square().sum())


@pytest.mark.parametrize("steps", [1, 3])
def test_a_broken_sum_comes_back_by_client_few_at_once(steps):
    state = _state()
    system = Lumos(
        optimizer="sgd", clip_norm=0.0, local_epochs=steps, **{**FIXED, "learning_rate": 1e9}
    )
    messages = list(system.local(state, _work(summed=True)))
    assert all(isinstance(message, ModelUpdate) for message in messages)
    record = GuardRecord()
    assert not any(len(admit(message, 0, record, set())) for message in messages)
    assert sum(record.rejected.values()) == 4


def test_the_guard_reads_the_summed_table():
    state, system = _state(), Lumos(**FIXED, local_epochs=1)
    (total,) = system.local(state, _work(summed=True))
    assert admit(total, 0, GuardRecord(), set()) is total
    total.rows[3, 2] = torch.nan
    record = GuardRecord()
    assert not len(admit(total, 0, record, set()))
    assert sum(record.rejected.values()) == 4


@pytest.mark.parametrize(("summed", "chunks"), [(True, 1), (False, 2)])
def test_updates_as_large_as_the_table_train_fewer_clients_at_once(summed, chunks):
    state, said = _state(num_items=20_000), []
    system = Lumos(**FIXED, chunk_clients=4, local_epochs=2)
    spec = LocalSpec(2, "adam", 0.02, 0.0, 5.0)
    once, each = softmax_bytes(state.model, 24, spec, summed=False)
    memory = once + 2.9 * (each + client_bytes(state.model, 24, 2, spec))
    work = _work(summed=summed, memory_bytes=memory, progress=said.append)
    messages = list(system.local(state, work))
    assert len(messages) == chunks and len(said) == chunks - 1
    whole = average(system.local(state, _work(summed=True)), 20_000, over_cohort=False)
    mean = average(messages, 20_000, over_cohort=False)
    torch.testing.assert_close(mean.rows, whole.rows, atol=1e-9, rtol=1e-6)


def test_the_loss_goes_down():
    state = _state()
    system = Lumos(optimizer="adam", **{**FIXED, "learning_rate": 0.01})

    def loss(model):
        return sum(
            _slow_loss(model, model.dense, model.table, client, system.config).item()
            for client in range(4)
        )

    before = loss(state.model)
    for _ in range(10):
        aggregate = system.combine(state, system.local(state, _work(summed=True)), Seeds(0))
        state = system.apply(state, aggregate)
    assert loss(state.model) < 0.8 * before


PEAK = """
import resource, torch, numpy as np
torch.set_num_threads(1)
from harness.core.defense import DataPlan
from harness.core.local import LocalSpec, Work
from harness.core.seeds import Seeds
from harness.core.system import Domain, Resources
from harness.fed.local import BatchedTrainer
from models.lumos import Lumos
items, clients = 20_000, 64
off = {"future": False, "rephrased": False, "counterfactual": False}
system = Lumos(loss="softmax", optimizer="OPTIMIZER", local_epochs=5, max_length=10, **off)
stream = np.random.default_rng(0)
histories = tuple(stream.permutation(items)[:10] for _ in range(clients))
titles = ("",) * items
domain = Domain("many", histories, titles, titles, np.full(clients, -1))
state = system.setup((domain,), Resources({}, None, print), Seeds(0))
def train(count):
    work = Work(torch.arange(count), 0, DataPlan(), BatchedTrainer(), Seeds(0), True)
    return list(system.local(state, work))
train(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(message,) = train(clients)
assert len(message) == clients and message.rows.shape == (items, 64)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_summed_chunk_never_holds_a_table_for_each_client(optimizer):
    code = PEAK.replace("OPTIMIZER", optimizer)
    # What is freed goes back at once: the figure is of what is held, not of how it is laid out.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "100000"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert int(done.stdout) < 0.25 * 64 * 20_000 * 64 * 4
