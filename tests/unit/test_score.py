"""The scorer: an oracle scores 1, a guess scores chance, hand values, who counts as a victim."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.answers import score_answers
from harness.claims import score_claims
from harness.core.attack import InferenceAttack, ItemAtPosition, ItemIdentity, ItemMembership
from harness.core.messages import ModelUpdate
from harness.core.observe import ThreatModel
from harness.core.params import Paper
from harness.core.scores import RowScores
from harness.core.seeds import Seeds
from harness.core.system import Answers, Domain
from harness.score import score_recommendations
from harness.sheet import Sheet
from harness.truth import Truth, candidate_lists

NUM_USERS, NUM_ITEMS = 60, 50


class _Attack(InferenceAttack):
    paper = Paper("ours", "baseline")
    reads = (ModelUpdate,)
    threat_model = ThreatModel("server", frozenset(), words="sees nothing")


def _truth(**changes):
    stream = np.random.default_rng(0)
    histories = tuple(stream.permutation(NUM_ITEMS)[:8] for _ in range(NUM_USERS))
    titles = tuple(str(i) for i in range(NUM_ITEMS))
    rest = [np.setdiff1d(np.arange(NUM_ITEMS), h) for h in histories]
    domain = Domain("toy", histories, titles, titles, np.array([r[0] for r in rest]))
    fields = {
        "domain": domain,
        "clean": histories,
        "test": np.array([r[1] for r in rest]),
        "evaluated": np.arange(NUM_USERS),
        "victims": np.ones(NUM_USERS, dtype=bool),
        "honest_uploads": np.ones(NUM_ITEMS, dtype=bool),
        "upload_items": np.arange(NUM_ITEMS),
        "targets": (),
    }
    return Truth(**{**fields, **changes})


def _sheet():
    base = {"run": "r", "cell": "c", "system": "s", "poisoning": "promotion"}
    return Sheet(base, Seeds(0), draws=200)


def _values(sheet):
    return {(row.metric, row.k): row for row in sheet.rows}


def _scored(claims, truth):
    sheet = _sheet()
    score_claims(sheet, _Attack(), "probe", claims, truth, {"max_length": 50})
    return _values(sheet)


def _membership(truth, oracle):
    stream = torch.Generator().manual_seed(1)
    scores = torch.rand(NUM_USERS, NUM_ITEMS, generator=stream)
    if oracle:
        for user, history in enumerate(truth.domain.histories):
            scores[user, torch.from_numpy(history)] += 1
    return ItemMembership(torch.arange(NUM_USERS), scores, 0)


def test_an_oracle_of_membership_scores_one():
    truth = _truth()
    rows = _scored(_membership(truth, oracle=True), truth)
    assert rows["auc", 0].value == 1 and rows["precision_at_size", 0].value == 1


def test_a_guess_of_membership_is_at_its_stated_chance():
    truth = _truth()
    rows = _scored(_membership(truth, oracle=False), truth)
    for metric in ("auc", "precision_at_size"):
        row = rows[metric, 0]
        assert row.low <= row.chance <= row.high
    assert rows["precision_at_size", 0].chance == pytest.approx(8 / NUM_ITEMS)


def test_rows_that_were_never_sent_do_not_count_among_those_sent():
    truth = _truth()
    sent = torch.zeros(NUM_USERS, NUM_ITEMS)
    for user, history in enumerate(truth.domain.histories):
        sent[user, torch.from_numpy(history)] = 1
        others = np.setdiff1d(np.arange(NUM_ITEMS), history)
        sent[user, torch.from_numpy(others[:6])] = 1
    # Whether a row was sent is all that this attack looks at.
    table = RowScores((NUM_USERS, NUM_ITEMS), lambda rows: sent[rows])
    rows = _scored(ItemMembership(torch.arange(NUM_USERS), sent, 0, table), truth)
    wrong = 6 / (NUM_ITEMS - 8)
    assert rows["auc", 0].value == pytest.approx(1 - wrong / 2)
    assert rows["auc_sent", 0].value == rows["auc_sent", 0].chance == 0.5
    # Who sends the rows of the history alone has no such number.
    exact = torch.zeros(NUM_USERS, NUM_ITEMS)
    for user, history in enumerate(truth.domain.histories):
        exact[user, torch.from_numpy(history)] = 1
    table = RowScores((NUM_USERS, NUM_ITEMS), lambda rows: exact[rows])
    rows = _scored(ItemMembership(torch.arange(NUM_USERS), exact, 0, table), truth)
    assert rows["auc", 0].value == 1 and ("auc_sent", 0) not in rows


def test_against_the_whole_history_items_never_trained_on_count_too():
    truth, sheet = _truth(), _sheet()
    scores = torch.zeros(NUM_USERS, NUM_ITEMS)
    for user, history in enumerate(truth.domain.histories):
        scores[user, torch.from_numpy(history[-4:])] = 1
    score_claims(sheet, _Attack(), "probe", ItemMembership(torch.arange(NUM_USERS), scores, 0),
                 truth, {"max_length": 4})  # fmt: skip
    rows = _values(sheet)
    assert rows["auc", 0].value == 1
    assert rows["auc_history", 0].value == pytest.approx(0.75)
    assert ("auc_sent", 0) not in rows


def test_only_victims_are_scored():
    truth = _truth(victims=np.arange(NUM_USERS) < 5)
    assert _scored(_membership(truth, oracle=True), truth)["auc", 0].n == 5


def test_the_truth_is_what_the_model_read_not_the_whole_history():
    truth, sheet = _truth(), _sheet()
    items = torch.tensor([h[-3:].tolist() for h in truth.domain.histories])
    ranks = torch.full((NUM_USERS,), 3)
    claims = ItemAtPosition(torch.arange(NUM_USERS), items, ranks, 0)
    score_claims(sheet, _Attack(), "probe", claims, truth, {"max_length": 3})
    assert _values(sheet)["exact_position", 0].value == 1


def test_an_abstention_is_wrong_and_is_counted():
    truth = _truth()
    items = torch.tensor([h.tolist() for h in truth.domain.histories])
    items[:, 4:] = -1
    claims = ItemAtPosition(torch.arange(NUM_USERS), items, torch.ones(NUM_USERS).long(), 0)
    rows = _scored(claims, truth)
    assert rows["exact_position", 0].value == 0.5 and rows["answered", 0].value == 0.5
    assert rows["exact_position", 0].chance == 1 / NUM_ITEMS


@pytest.mark.parametrize(("scores", "top1", "median"), [("identity", 1.0, 1), ("shift", 0.0, 2)])
def test_identity_by_hand(scores, top1, median):
    eye = torch.eye(NUM_ITEMS)
    values = eye if scores == "identity" else eye + 2 * eye.roll(1, 1)
    claims = ItemIdentity(torch.zeros(NUM_ITEMS, dtype=torch.long), values)
    rows = _scored(claims, _truth())
    assert rows["top1", 0].value == top1 and rows["top5", 0].value == 1
    assert rows["median_rank", 0].value == median
    # Naming every neighbour discloses the whole catalogue although no item is identified.
    assert rows["catalogue_disclosed", 0].value == 1


def test_the_chance_of_identity_is_a_guess_among_the_senders_own_items():
    """Who knows the sender's domain and nothing else names a random item of it."""
    domain = torch.tensor([0] * 10 + [1] * 40)
    stream = torch.Generator().manual_seed(0)
    own = domain.unsqueeze(1) == domain.unsqueeze(0)
    hits: dict[str, list[float]] = {"top1": [], "top5": [], "median_rank": []}
    for _ in range(60):
        guesses = torch.rand(NUM_ITEMS, NUM_ITEMS, generator=stream) + 2.0 * own
        rows = _scored(ItemIdentity(domain, guesses), _truth())
        for metric, values in hits.items():
            values.append(rows[metric, 0].value)
    for metric, error in (("top1", 0.01), ("top5", 0.02), ("median_rank", 1.5)):
        chance = rows[metric, 0].chance
        assert np.mean(hits[metric]) == pytest.approx(chance, abs=error)
    assert rows["top1", 0].chance == pytest.approx((10 / 10 + 40 / 40) / 50)
    assert rows["top5", 0].chance == pytest.approx((10 * 0.5 + 40 * 0.125) / 50)
    honest = np.arange(NUM_ITEMS) >= 10
    rows = _scored(ItemIdentity(domain, guesses), _truth(honest_uploads=honest))
    assert rows["top1", 0].chance == pytest.approx(1 / 40)
    none = _scored(ItemIdentity(domain, guesses), _truth(honest_uploads=honest & ~honest))
    assert np.isnan(none["top1", 0].chance) and none["top1", 0].n == 0


def test_a_wrong_item_of_the_right_category_still_tells_the_category():
    kinds = tuple(("odd",) if item % 2 else ("even",) for item in range(NUM_ITEMS))
    neighbour_but_one = torch.eye(NUM_ITEMS).roll(2, 1)
    claims = ItemIdentity(torch.zeros(NUM_ITEMS, dtype=torch.long), neighbour_but_one)
    rows = _scored(claims, _truth(categories=kinds))
    assert rows["top1", 0].value == 0 and rows["category_overlap", 0].value == 1
    assert rows["category_overlap", 0].chance == 0.5
    assert ("category_overlap", 0) not in _scored(claims, _truth())


class _Fixed:
    """Scores a chosen item of each user highest."""

    answer_limit = NUM_USERS

    def __init__(self, favourite, answers=None):
        self.favourite, self.answers = favourite, answers

    def scores(self, users, histories):
        out = np.zeros((len(users), NUM_ITEMS))
        out[np.arange(len(users)), self.favourite[users]] = 1
        return out

    def answer(self, users, histories, candidates):
        return {"stage 2": Answers(self.answers(users, candidates), [""] * len(users))}


def test_a_perfect_recommender_scores_one_and_exposes_no_target():
    truth = _truth(targets=(7,))
    sheet = _sheet()
    score_recommendations(sheet, _Fixed(truth.test), truth, (1, 10), 20, Seeds(0))
    rows = _values(sheet)
    assert rows["hr", 10].value == rows["ndcg", 1].value == rows["hit1", 1].value == 1
    # 50 items, 8 + 1 had before: HR@10 of a random order is 10/41.
    assert rows["hr", 10].chance == pytest.approx(10 / 41)
    assert rows["er", 1].value == pytest.approx(np.mean(truth.test == 7), abs=0.03)


def test_promoting_the_target_everywhere_gives_exposure_one():
    truth = _truth(targets=(7,))
    sheet = _sheet()
    everywhere = _Fixed(np.full(NUM_USERS, 7))
    score_recommendations(sheet, everywhere, truth, (1,), 20, Seeds(0))
    row = _values(sheet)["er", 1]
    assert row.value == 1 and row.attack == "promotion"
    assert row.n == sum(7 not in c for c in truth.contexts(np.arange(NUM_USERS)))


def test_nobody_to_evaluate_gives_nan_and_n_zero():
    truth = _truth(evaluated=np.zeros(0, dtype=np.int64))
    sheet = _sheet()
    score_recommendations(sheet, _Fixed(truth.test), truth, (10,), 20, Seeds(0))
    assert all(np.isnan(row.value) and row.n == 0 for row in sheet.rows)


def test_both_definitions_of_hit1():
    truth = _truth()

    def half_silent(users, candidates):
        place = (candidates == truth.test[users][:, None]).argmax(1)
        return np.where(users % 2 == 0, place, -1)

    sheet = _sheet()
    score_answers(sheet, _Fixed(truth.test, half_silent), truth, 20, NUM_USERS, Seeds(0))
    rows = _values(sheet)
    assert rows["hit1_all", 1].value == 0.5 and rows["hit1_valid", 1].value == 1
    assert rows["valid_ratio", 0].value == 0.5 and rows["stage1_hit1", 1].value == 1


def test_candidates_hold_the_test_item_once_and_nothing_the_user_had():
    truth, users = _truth(), np.arange(NUM_USERS)
    lists, place = candidate_lists(truth, users, 20, Seeds(4))
    for user, row in enumerate(lists):
        assert row[place[user]] == truth.test[user] and len(set(row)) == 20
        assert not set(row) & set(truth.contexts(users)[user])
    # Each place is equally likely: chi-square of 60 draws over 20 places, 19 degrees of freedom.
    counts = np.bincount(place, minlength=20)
    assert ((counts - 3) ** 2 / 3).sum() < 43.8


def test_candidates_do_not_depend_on_who_else_is_asked():
    truth = _truth()
    everyone, _ = candidate_lists(truth, np.arange(NUM_USERS), 20, Seeds(4))
    some, _ = candidate_lists(truth, np.array([3, 9]), 20, Seeds(4))
    assert (everyone[[3, 9]] == some).all()


@pytest.mark.parametrize("kind", ["identity", "membership"])
def test_claims_in_blocks_score_like_whole_tables(kind, monkeypatch):
    """Ties, a NaN and some dishonest rows included; one, three or all rows at a time."""
    stream = torch.Generator().manual_seed(0)
    table = torch.randint(0, 6, (NUM_ITEMS, NUM_ITEMS), generator=stream).float()
    table[5, 7] = float("nan")
    honest = np.arange(NUM_ITEMS) % 4 > 0
    truth = _truth(honest_uploads=honest, victims=np.arange(NUM_USERS) % 3 > 0)
    ids = torch.arange(NUM_ITEMS)

    def rows(scores):
        claims = ItemIdentity(ids, scores) if kind == "identity" else ItemMembership(ids, scores, 0)
        sheet = _sheet()
        score_claims(sheet, _Attack(), "probe", claims, truth, {"max_length": 50})
        samples = [np.asarray(block.values).tobytes() for block in sheet.samples]
        return [repr(row) for row in sheet.rows], samples

    expected = rows(table)
    lazy = RowScores((NUM_ITEMS, NUM_ITEMS), lambda chosen: table[chosen])
    for height in (1, 3, NUM_ITEMS):
        monkeypatch.setattr("harness.core.scores.BLOCK_BYTES", 4 * NUM_ITEMS * height)
        assert rows(lazy) == rows(table) == expected


def test_recommendations_ranked_a_few_users_at_a_time(monkeypatch):
    truth = _truth(targets=(7, 9))
    released = _Fixed(truth.test)

    def rows():
        sheet = _sheet()
        score_recommendations(sheet, released, truth, (1, 10), 20, Seeds(0))
        return [repr(row) for row in sheet.rows]

    expected = rows()
    monkeypatch.setattr("harness.core.scores.BLOCK_BYTES", 4 * NUM_ITEMS * 7)
    assert rows() == expected
    # The chance level by the matrix of who has had what, which the scorer never holds whole.
    seen = truth.seen(truth.evaluated)
    lacking = ~seen[:, [7, 9]].all(1)
    sheet = _sheet()
    score_recommendations(sheet, released, truth, (10,), 20, Seeds(0))
    chance = np.minimum(1, 10 / (~seen[lacking]).sum(1)).mean()
    assert _values(sheet)["er", 10].chance == chance
    middle = (NUM_ITEMS - seen.sum(1).mean() + 1) / 2
    assert _values(sheet)["target_rank", 0].chance == pytest.approx(middle, rel=1e-12)
