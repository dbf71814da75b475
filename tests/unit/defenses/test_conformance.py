"""What every defence must satisfy, whoever wrote it."""

from __future__ import annotations

import copy
import importlib
import pkgutil
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError

import defenses
from harness.core.defense import DataPlan, Federation
from harness.core.messages import EmbeddingUpload, Message, ModelUpdate
from harness.core.params import Fidelity
from harness.core.registry import DEFENSES
from harness.core.seeds import Seeds
from tests.unit.attacks.cases import NUM_ITEMS, same, update, upload

for module in pkgutil.iter_modules(defenses.__path__):
    importlib.import_module(f"defenses.{module.name}")
ALL = [cls for _, cls in DEFENSES if cls.__module__.startswith("defenses.")]
FEDERATION = Federation(
    num_clients=50, cohort_size=5, num_rounds=10, num_items=NUM_ITEMS, round_index=3
)


def named(cls: type) -> str:
    return cls.__name__


def messages(cls: Any) -> list[Message]:
    made: dict[type, list[Message]] = {
        ModelUpdate: [update(), update(1), update(2, slots=0)],
        EmbeddingUpload: [upload()],
    }
    return [message for kind in cls.reads for message in made[kind]]


def run(
    cls: Any, message: Message, seed: int = 3, federation: Federation = FEDERATION
) -> list[Any]:
    """Everything the defence makes of a message, stage by stage."""
    defense, seeds = cls(), Seeds(seed)
    defense.setup(federation)
    made = [defense.on_data(DataPlan()), defense.on_client(message, federation, seeds)]
    if defense.replaces_aggregation():
        made.append(defense.aggregate([made[-1]], federation))
        made.append(defense.on_server(made[-1], federation, seeds))
    return [*made, defense.spent(federation)]


@pytest.mark.parametrize("cls", ALL, ids=named)
def test_declares_source_surface_and_config(cls: Any) -> None:
    assert cls.paper.reference and cls.paper.fidelity in get_args(Fidelity)
    assert cls.reads and cls.summary().endswith(".")
    assert cls.strength in cls.Config.model_fields
    config = cls().config
    assert cls.Config.model_validate_json(config.model_dump_json()) == config
    assert cls(**config.model_dump()).config == config
    assert all(f.description for f in cls.Config.model_fields.values())
    assert cls().strength_value() == getattr(config, cls.strength)
    with pytest.raises(ValidationError, match="Extra inputs"):
        cls(no_such_option=1)


@pytest.mark.parametrize("cls", ALL, ids=named)
def test_stages_are_deterministic_and_change_no_input(cls: Any) -> None:
    for message in messages(cls):
        before = copy.deepcopy(message)
        made, again = run(cls, message), run(cls, message)
        assert same(message, before)
        assert all(same(a, b) for a, b in zip(made, again, strict=True))
        for stage in made[1:]:
            for values in (getattr(stage, "rows", None), getattr(stage, "vectors", None)):
                assert values is None or values.isfinite().all()


@pytest.mark.parametrize("cls", ALL, ids=named)
def test_noise_is_fresh_in_every_round_and_under_every_seed(cls: Any) -> None:
    message = messages(cls)[0]
    first = run(cls, message)
    other_seed = run(cls, message, seed=4)
    other_round = run(cls, message, federation=replace(FEDERATION, round_index=4))
    random = not all(same(a, b) for a, b in zip(first, other_seed, strict=True))
    assert random == (cls.name in {"dp_fedavg", "local_dp", "replacement"})
    if random:
        assert not all(same(a, b) for a, b in zip(first, other_round, strict=True))


@pytest.mark.parametrize("cls", [c for c in ALL if ModelUpdate in c.reads], ids=named)
def test_client_order_does_not_matter(cls: Any) -> None:
    message = update()
    order = torch.tensor([3, 0, 4, 2, 1])
    shuffled = ModelUpdate(
        message.clients[order],
        {n: d[order] for n, d in message.dense.items()},
        message.row_ids[order],
        message.rows[order],
        message.num_examples[order],
    )
    sent, moved = run(cls, message), run(cls, shuffled)
    assert torch.equal(sent[1].rows[order], moved[1].rows)
    if cls.replaces_aggregation():
        torch.testing.assert_close(sent[3].rows, moved[3].rows)
        assert torch.equal(sent[3].row_ids, moved[3].row_ids)


@pytest.mark.parametrize("cls", [c for c in ALL if c.replaces_aggregation()], ids=named)
def test_an_empty_cohort_aggregates_to_nothing(cls: Any) -> None:
    defense, message = cls(), update().select(torch.zeros(5, dtype=torch.bool))
    defense.setup(FEDERATION)
    aggregate = defense.aggregate([message], FEDERATION)
    assert all((d == 0).all() for d in (*aggregate.dense.values(), aggregate.rows))
