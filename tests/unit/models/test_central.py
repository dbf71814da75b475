"""Central training: NaN never wins, nobody to train on is no training, patience ends it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.core.errors import RunError
from harness.core.seeds import Seeds
from harness.core.system import Domain, Resources
from models import central
from models.anchors import CentralSasrec, Popularity
from models.backbone import SequenceModel
from models.central import CentralConfig, fit_central, validation_ndcg
from models.pretrain import pretrained

ITEMS = 12


def _domain(num_users: int = 20, length: int = 6) -> Domain:
    titles = tuple(str(item) for item in range(ITEMS))
    histories = tuple((np.arange(length) + user) % ITEMS for user in range(num_users))
    validation = np.array([(length + user) % ITEMS for user in range(num_users)])
    return Domain("ring", histories, titles, titles, validation)


def _config(**values) -> CentralConfig:
    return CentralConfig(embedding_size=8, num_blocks=1, max_length=8, check_every=1, **values)


def _model(scores: float | None) -> SequenceModel:
    model = fit_central(_domain(), _config(epochs=1), Seeds(0))
    return model if scores is None else replace(model, table=torch.full((ITEMS, 8), scores))


def _slow_ndcg(model: SequenceModel, domain: Domain, k: int) -> float:
    gains = []
    for user, history in enumerate(domain.histories):
        scores = model.scores(np.array([user]), [history])[0]
        target = domain.validation[user]
        rivals = [s for i, s in enumerate(scores) if i not in set(history) and i != target]
        rank = 1 + sum(not s < scores[target] for s in rivals)
        gains.append(1 / np.log2(rank + 1) if rank <= k else 0.0)
    return float(np.mean(gains))


def test_validation_against_a_slow_twin():
    model = _model(None)
    for k in (1, 3, 20):
        assert validation_ndcg(model, _domain(), k) == pytest.approx(
            _slow_ndcg(model, _domain(), k)
        )


def test_nan_scores_have_no_ndcg_and_equal_ones_rank_last():
    assert np.isnan(validation_ndcg(_model(float("nan")), _domain()))
    # Six items are left of twelve: the target stands behind the five others.
    assert validation_ndcg(_model(0.0), _domain()) == pytest.approx(1 / np.log2(7))


def test_a_training_that_diverges_at_once_fails_with_a_reason():
    with pytest.raises(RunError, match=r"diverged.*learning rate \(1e\+30\)"):
        fit_central(_domain(), _config(learning_rate=1e30, epochs=30), Seeds(0))


def test_the_best_model_before_a_divergence_is_kept(monkeypatch):
    epochs: list[int] = []
    honest = central._epoch

    def breaking(model, *rest):
        honest(model, *rest)
        epochs.append(len(epochs) + 1)
        if len(epochs) == 3:
            model.table.data[0] = float("nan")

    monkeypatch.setattr(central, "_epoch", breaking)
    told: list[str] = []
    model = fit_central(_domain(), _config(epochs=50), Seeds(0), told.append)
    assert epochs == [1, 2, 3] and bool(model.table.isfinite().all())
    assert "not finite" in told[-1] and not any("nan" in line for line in told)


@pytest.mark.parametrize("length", [0, 1])
def test_nobody_to_train_on_is_an_error_and_no_result(length, tmp_path):
    resources = Resources({}, tmp_path, lambda text: None)
    domain = _domain(5, length)
    with pytest.raises(RunError, match="no user has two events"):
        CentralSasrec().release((domain, resources), Seeds(0))
    assert not list(Path(tmp_path).rglob("*.safetensors"))


@pytest.mark.parametrize("users", [0, 3])
def test_popularity_of_nothing_is_an_error(users, tmp_path):
    resources = Resources({}, tmp_path, lambda text: None)
    with pytest.raises(RunError, match="no training event"):
        Popularity().release((_domain(users, 0), resources), Seeds(0))


def _with_scores(monkeypatch, scores: list[float]):
    given = iter(scores)
    monkeypatch.setattr(central, "_epoch", lambda *rest: None)
    monkeypatch.setattr(central, "validation_ndcg", lambda *rest: next(given))


def test_patience_ends_a_training_and_the_limit_is_told(monkeypatch, tmp_path):
    told: list[str] = []
    _with_scores(monkeypatch, [0.1, 0.3, 0.2, 0.2, 0.2, 0.9])
    model = fit_central(_domain(), _config(epochs=100, patience=3), Seeds(0), told.append)
    assert len(told) == 5 and model.caveat == ""
    _with_scores(monkeypatch, [0.1, 0.2, 0.3, 0.2])
    model = fit_central(_domain(), _config(epochs=4, patience=3), Seeds(0))
    assert model.caveat.startswith("not trained out: best on validation at epoch 3 of 4")
    for _ in range(2):  # trained, then read from the cache
        _with_scores(monkeypatch, [0.1, 0.2, 0.3, 0.2])
        again = pretrained(
            _domain(), _config(epochs=4, patience=3), Seeds(0), tmp_path, lambda text: None
        )
        assert again.caveat == model.caveat


def test_without_validation_items_the_last_epoch_is_kept():
    domain = replace(_domain(), validation=np.full(20, -1))
    few, many = (fit_central(domain, _config(epochs=e), Seeds(0)) for e in (1, 3))
    assert not torch.equal(few.table, many.table)
