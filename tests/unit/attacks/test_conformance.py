"""What every attack must satisfy, whoever wrote it."""

from __future__ import annotations

import copy
import importlib
import pkgutil
from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError

import attacks
from harness.core.attack import AttackContext, InferenceAttack, PoisoningAttack
from harness.core.messages import EmbeddingUpload, Message, ModelUpdate
from harness.core.observe import NotGranted
from harness.core.params import Fidelity
from harness.core.registry import ATTACKS
from harness.core.seeds import Seeds
from tests.unit.attacks.cases import catalogue, rows_of, same, update, upload, view

for module in pkgutil.iter_modules(attacks.__path__):
    importlib.import_module(f"attacks.{module.name}")
ALL = [cls for _, cls in ATTACKS if cls.__module__.startswith("attacks.")]
POISONING = [cls for cls in ALL if issubclass(cls, PoisoningAttack)]
INFERENCE = [cls for cls in ALL if issubclass(cls, InferenceAttack)]
OMNISCIENT = {"sign_flip": {"knowledge": "omniscient"}, "alie": {"knowledge": "omniscient"}}


def named(cls: type) -> str:
    return cls.__name__


def messages(cls: Any) -> list[Message]:
    made: dict[type, Message] = {ModelUpdate: update(), EmbeddingUpload: upload()}
    return [made[kind] for kind in cls.reads]


def seen(attack: Any, message: Message, **options: Any) -> Any:
    text = upload()
    public = catalogue(text.vectors, text.domain)
    return view(attack.threat_model, message, public=public, **options)


def context() -> AttackContext:
    return AttackContext(0, 10, (7, 9), 30, {})


def some(message: Any) -> torch.Tensor:
    malicious = torch.zeros(len(message), dtype=torch.bool)
    malicious[1::2] = True
    return malicious


@pytest.mark.parametrize("cls", ALL, ids=named)
def test_declares_source_surface_and_config(cls: Any) -> None:
    assert cls.paper.reference and cls.paper.fidelity in get_args(Fidelity)
    assert cls.reads and cls.threat_model.words and cls.summary().endswith(".")
    config = cls().config
    assert cls.Config.model_validate_json(config.model_dump_json()) == config
    assert cls(**config.model_dump()).config == config
    assert all(f.description for f in cls.Config.model_fields.values())
    with pytest.raises(ValidationError, match="Extra inputs"):
        cls(no_such_option=1)


@pytest.mark.parametrize("cls", POISONING, ids=named)
@pytest.mark.parametrize("omniscient", [False, True])
def test_craft_changes_malicious_rows_only(cls: Any, omniscient: bool) -> None:
    attack = cls(**OMNISCIENT.get(cls.name, {})) if omniscient else cls()
    for message in messages(cls):
        before, malicious = copy.deepcopy(message), some(message)
        crafted = attack.craft(seen(attack, message), message, malicious, context(), Seeds(3))
        again = attack.craft(seen(attack, message), message, malicious, context(), Seeds(3))
        assert same(message, before), "the input was changed"
        assert same(crafted, again), "the same seed gave another result"
        assert not same(crafted, message)
        if isinstance(message, EmbeddingUpload):
            assert torch.equal(crafted.vectors[~malicious], message.vectors[~malicious])
            continue
        honest, kept = message.select(~malicious), crafted.select(~malicious)
        assert same(honest.dense, kept.dense)
        for place in range(len(honest)):
            assert same(rows_of(honest, place), rows_of(kept, place))
        assert (crafted.rows[crafted.row_ids == -1] == 0).all()
        for ids in crafted.row_ids:
            real = ids[ids >= 0]
            assert len(real.unique()) == len(real)


@pytest.mark.parametrize("cls", POISONING, ids=named)
@pytest.mark.parametrize("all_malicious", [True, False])
def test_craft_with_one_client_or_no_rows(cls: Any, all_malicious: bool) -> None:
    attack = cls()
    for message in (update(1), update(1, slots=0), update(2, slots=0)):
        malicious = torch.zeros(len(message), dtype=torch.bool)
        malicious[0] = all_malicious
        crafted = attack.craft(seen(attack, message), message, malicious, context(), Seeds(3))
        assert len(crafted) == len(message)
        assert all(d.isfinite().all() for d in (*crafted.dense.values(), crafted.rows))
        if not all_malicious:
            assert same(crafted, message)


@pytest.mark.parametrize("cls", INFERENCE, ids=named)
def test_infer_is_deterministic_and_reads_only(cls: Any) -> None:
    attack = cls()
    for message in messages(cls):
        before = copy.deepcopy(message)
        assert attack.declines(seen(attack, message)) is None
        claims = attack.infer(seen(attack, message), Seeds(3))
        assert same(message, before)
        assert same(claims, attack.infer(seen(attack, message), Seeds(3)))


@pytest.mark.parametrize("cls", INFERENCE, ids=named)
def test_infer_with_one_client_or_no_rows(cls: Any) -> None:
    attack = cls()
    if ModelUpdate in cls.reads:
        for message in (update(1), update(1, slots=0)):
            assert len(attack.infer(seen(attack, message), Seeds(0)).clients) == 1


@pytest.mark.parametrize("cls", INFERENCE, ids=named)
def test_declines_without_its_message(cls: Any) -> None:
    attack = cls()
    other = upload() if ModelUpdate in cls.reads else update()
    assert attack.declines(seen(attack, other))


@pytest.mark.parametrize("cls", ALL, ids=named)
def test_every_grant_is_needed(cls: Any) -> None:
    """A view with exactly the threat model's grants suffices (above); one with less raises."""
    attack = cls()
    message = messages(cls)[0]
    for grant in attack.threat_model.sees | attack.threat_model.knows:
        less = seen(attack, message, without=grant)
        with pytest.raises(NotGranted):
            if isinstance(attack, PoisoningAttack):
                attack.craft(less, message, some(message), context(), Seeds(3))
            else:
                attack.infer(less, Seeds(3))


@pytest.mark.parametrize("cls", POISONING, ids=named)
def test_without_omniscience_benign_rows_do_not_matter(cls: Any) -> None:
    attack = cls(**({"knowledge": "own"} if "knowledge" in cls.Config.model_fields else {}))
    message = update()
    malicious = some(message)
    noise = torch.where(malicious, 1.0, 5.0)
    crafted = attack.craft(seen(attack, message), message, malicious, context(), Seeds(3))
    changed = message.scaled(noise)
    other = attack.craft(seen(attack, changed), changed, malicious, context(), Seeds(3))
    assert same(crafted.select(malicious), other.select(malicious))
