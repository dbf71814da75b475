"""FKD: each term of equation 14 against a loop over users, and what its switches remove."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.core.seeds import Seeds
from models.backbone import SequenceModel, build_backbone, initial_table
from models.fkd import FkdConfig, FkdData, fit_fkd, fkd_loss, initial_mapping
from models.sequences import complement_sample

NUM_ITEMS, DIM, TEXT = 20, 6, 10


def _data():
    backbone = build_backbone(
        "sasrec", embedding_size=DIM, num_blocks=1, num_heads=1, max_positions=8
    )
    model = SequenceModel(
        backbone, backbone.initial(Seeds(0)), initial_table(NUM_ITEMS, DIM, Seeds(0)), 8
    )
    stream = np.random.default_rng(0)
    histories = tuple(stream.permutation(NUM_ITEMS)[:n] for n in (3, 5, 4, 6))
    generator = torch.Generator().manual_seed(0)
    return FkdData(
        model=model,
        histories=histories,
        states=model.encode([h[:-1].tolist() for h in histories]),
        federated=torch.randn(NUM_ITEMS, TEXT, generator=generator),
        text=torch.randn(NUM_ITEMS, TEXT, generator=generator),
    )


def _slow_loss(mapping, data, config, users, stream):
    """Equation 14, user by user and item by item."""
    table, total = data.model.table, 0.0
    width = max(len(data.histories[u][-config.max_items :]) for u in users)
    for user in users:
        history = data.histories[user][-config.max_items :]
        seen = np.unique(data.histories[user])
        foreign = complement_sample(stream.integers(0, NUM_ITEMS - len(seen), width), seen)
        foreign_used = foreign[width - len(history) :]
        positive = data.states[user] @ mapping.decoded(table[history[-1:]])[0]
        negative = data.states[user] @ mapping.decoded(table[foreign[-1:]])[0]
        loss = -torch.log(torch.sigmoid(positive)) - torch.log(1 - torch.sigmoid(negative))
        for term, weight in (("id", config.id_weight), ("text", config.text_weight)):
            errors = []
            for item in history:
                source = table[item] if term == "id" else data.federated[item]
                wanted = table[item] if term == "id" else data.text[item]
                code = mapping.apply(f"{term}_encoder", source)
                errors.append((mapping.apply(f"{term}_decoder", code) - wanted).square().sum())
            loss = loss + weight * sum(errors) / len(errors)

        def mediator(items):
            pairs = [
                mapping.apply("id_encoder", table[i])
                - mapping.apply("text_encoder", data.federated[i])
                for i in items
            ]
            return sum(pairs) / len(pairs)

        loss = loss + (mediator(history) - mediator(foreign_used)).square().sum()
        total += loss.item()
    return total / len(users)


def test_loss_equals_the_equations_user_by_user():
    data, config = _data(), FkdConfig(dim=5)
    mapping = initial_mapping(DIM, TEXT, 5, Seeds(1))
    users = np.array([0, 1, 2, 3])
    fast = fkd_loss(mapping, data, config, users, np.random.default_rng(7))
    slow = _slow_loss(mapping, data, config, users, np.random.default_rng(7))
    assert fast.item() == pytest.approx(slow, rel=1e-5)


def test_the_teacher_passes_no_gradient_unless_asked():
    data, users = _data(), np.array([0, 1])
    gradients = []
    for stop in (True, False):
        mapping = initial_mapping(DIM, TEXT, 5, Seeds(1))
        for parameter in mapping.parameters.values():
            parameter.requires_grad_()
        config = FkdConfig(dim=5, stop_gradient=stop)
        fkd_loss(mapping, data, config, users, np.random.default_rng(7)).backward()
        gradients.append(mapping.parameters["text_encoder.bias"].grad)
    # Both mediators subtract the same text bias, so without the stop only Dec_T's path is left.
    assert not torch.allclose(gradients[0], gradients[1])


def test_without_text_the_federated_vectors_do_not_matter():
    data = _data()
    other = FkdData(data.model, data.histories, data.states, data.federated + 1, data.text)
    config = FkdConfig(dim=5, text=False, epochs=2)
    first, second = (fit_fkd(d, config, Seeds(0)) for d in (data, other))
    assert torch.equal(first.decoded(data.model.table), second.decoded(data.model.table))


def test_with_text_the_federated_vectors_do_matter():
    data = _data()
    other = FkdData(data.model, data.histories, data.states, data.federated + 1, data.text)
    config = FkdConfig(dim=5, epochs=2)
    first, second = (fit_fkd(d, config, Seeds(0)) for d in (data, other))
    assert not torch.equal(first.decoded(data.model.table), second.decoded(data.model.table))


def test_training_lowers_the_loss():
    data, config = _data(), FkdConfig(dim=16, epochs=200, batch_size=4, learning_rate=0.01)
    users, stream = np.arange(4), np.random.default_rng
    start = initial_mapping(DIM, TEXT, 16, Seeds(0).child("x"))
    before = fkd_loss(start, data, config, users, stream(3)).item()
    after = fkd_loss(fit_fkd(data, config, Seeds(0)), data, config, users, stream(3)).item()
    assert after < 0.5 * before
