"""Candidate lists: how they are drawn, and popularity, guesses and stage 1 on the same ones."""

from __future__ import annotations

import numpy as np
import pytest

from harness.answers import score_answers
from harness.core.seeds import Seeds
from harness.core.system import Answers, Domain
from harness.metrics.baselines import frequency_guess_hit1, shared_hit1
from harness.score import score_recommendations
from harness.settings import Evaluation
from harness.sheet import Sheet
from harness.truth import Truth, candidate_lists

NUM_USERS, NUM_ITEMS, BOTH = 400, 120, ("uniform", "popularity")


def _truth(noisy=False):
    """Users who take items by a steep popularity; the test item is one draw more."""
    stream = np.random.default_rng(0)
    weights = 1 / (1 + np.arange(NUM_ITEMS)) ** 0.8
    weights = weights[stream.permutation(NUM_ITEMS)] / weights.sum()
    drawn = [stream.choice(NUM_ITEMS, 10, replace=False, p=weights) for _ in range(NUM_USERS)]
    histories = tuple(d[:8] for d in drawn)
    held = tuple(stream.integers(0, NUM_ITEMS, 8) for _ in drawn) if noisy else histories
    titles = tuple(str(i) for i in range(NUM_ITEMS))
    domain = Domain("toy", held, titles, titles, np.array([d[8] for d in drawn]))
    return Truth(
        domain=domain,
        clean=histories,
        test=np.array([d[9] for d in drawn]),
        evaluated=np.arange(NUM_USERS),
        victims=np.ones(NUM_USERS, dtype=bool),
        honest_uploads=np.ones(NUM_ITEMS, dtype=bool),
        targets=(),
    )


class _ByPopularity:
    """Scores by training counts, and answers with the best known candidate; every third invalid."""

    answer_limit = NUM_USERS

    def __init__(self, truth):
        self.counts = truth.popularity()

    def scores(self, users, histories):
        # Counts tie; a different hair's breadth for each user breaks ties at random.
        hair = np.random.default_rng(1).random((len(users), NUM_ITEMS)) / 1000
        return self.counts[None] + hair

    def answer(self, users, histories, candidates):
        best = self.counts[candidates].argmax(1)
        return {"stage 2": Answers(np.where(users % 3 == 0, -1, best), [""] * len(users))}


def _sheet():
    return Sheet({"run": "r", "cell": "c", "system": "s", "poisoning": "none"}, Seeds(0), 200)


def _rows(sheet):
    return {(row.metric, row.protocol): row for row in sheet.rows}


def test_ties_of_popularity_count_as_a_fair_draw():
    counts = np.array([[3, 3, 1], [3, 3, 1], [0, 0, 0], [1, 2, 5]])
    place = np.array([0, 2, 1, 2])
    assert shared_hit1(counts, place).tolist() == pytest.approx([1 / 2, 0, 1 / 3, 1])
    expected = [3 / 7, 1 / 7, 1 / 3, 5 / 8]
    assert frequency_guess_hit1(counts, place).tolist() == pytest.approx(expected)


def test_references_agree_with_drawing_guesses():
    """The exact expectations against what many random guesses and orders reach."""
    stream = np.random.default_rng(3)
    counts, place = stream.integers(0, 4, (30, 6)), stream.integers(0, 6, 30)
    counts[:, 0] += 1
    rounds = 4000
    guessed, ranked = np.zeros(30), np.zeros(30)
    for _ in range(rounds):
        shares = counts / counts.sum(1, keepdims=True)
        drawn = (stream.random((30, 1)) < shares.cumsum(1)).argmax(1)
        guessed += drawn == place
        ranked += (counts + stream.random(counts.shape) / 2).argmax(1) == place
    assert guessed / rounds == pytest.approx(frequency_guess_hit1(counts, place), abs=0.04)
    assert ranked / rounds == pytest.approx(shared_hit1(counts, place), abs=0.04)


def test_popularity_alone_beats_chance_on_uniform_lists_and_not_on_matched_ones():
    truth, sheet = _truth(), _sheet()
    score_recommendations(sheet, _ByPopularity(truth), truth, (10,), 20, Seeds(0), BOTH)
    rows = _rows(sheet)
    uniform, matched = rows["popularity_hit1", "sampled"], rows["popularity_hit1", "popularity"]
    assert uniform.low > 2 * uniform.chance and matched.value < 0.5 * uniform.value
    guess = rows["frequency_guess_hit1", "sampled"]
    assert uniform.chance == guess.chance == 1 / 20 and uniform.n == guess.n == NUM_USERS
    assert guess.chance < guess.value < uniform.value
    # What ranks by popularity is worth what popularity is worth.
    for protocol in ("sampled", "popularity"):
        gain = rows["hit1_over_popularity", protocol]
        assert gain.low <= 0 <= gain.high and abs(gain.value) < 0.03


def test_candidates_by_popularity_follow_the_training_counts():
    truth = _truth()
    follows = {}
    for sampling in BOTH:
        lists, place = candidate_lists(truth, truth.evaluated, 20, Seeds(0), sampling)
        drawn = np.bincount(lists[np.arange(20) != place[:, None]], minlength=NUM_ITEMS)
        follows[sampling] = np.corrcoef(drawn, truth.popularity())[0, 1]
    # Users have had the best known items, so the link is not one; uniform lists even avoid them.
    assert follows["popularity"] > 0.6 and follows["uniform"] < 0
    for user, row in enumerate(lists):
        assert len(set(row)) == 20 and row[place[user]] == truth.test[user]
        assert not set(row) & set(truth.contexts([user])[0])


@pytest.mark.parametrize("sampling", BOTH)
def test_noise_changes_no_list_and_counts_are_of_what_was_trained_on(sampling):
    clean, noisy = _truth(), _truth(noisy=True)
    ours, theirs = (
        candidate_lists(t, np.arange(30), 20, Seeds(2), sampling)[0] for t in (clean, noisy)
    )
    assert (ours == theirs).all()
    every = np.concatenate(noisy.domain.histories)
    assert (noisy.popularity() == [(every == item).sum() for item in range(NUM_ITEMS)]).all()


def test_no_held_out_item_counts_as_popular():
    truth = _truth()
    assert truth.popularity().sum() == 8 * NUM_USERS


def test_a_language_stage_stands_beside_popularity_on_its_own_users():
    truth, sheet = _truth(), _sheet()
    score_answers(sheet, _ByPopularity(truth), truth, 20, 90, Seeds(0), BOTH)
    rows = _rows(sheet)
    blocks = {(b.metric, b.protocol): b for b in sheet.samples}
    for protocol in ("sampled", "popularity"):
        said, popular = (blocks[m, protocol] for m in ("hit1_all", "asked_popularity_hit1"))
        assert said.units.tolist() == popular.units.tolist() and len(said.units) == 90
        gain = blocks["hit1_all_over_popularity", protocol].values
        assert gain.tolist() == pytest.approx((said.values - popular.values).tolist())
        assert rows["stage1_hit1", protocol].n == rows["asked_frequency_guess_hit1", protocol].n
        valid = rows["hit1_valid", protocol]
        assert valid.n == rows["valid_popularity_hit1", protocol].n < 90
        assert valid.n == rows["valid_stage1_hit1", protocol].n
    # A third of its answers is no answer: below popularity, which always names one.
    assert rows["hit1_all_over_popularity", "sampled"].high < 0


class _WithBackbone(_ByPopularity):
    """Names random scores as its own reference."""

    class _Random:
        def scores(self, users, histories):
            return np.random.default_rng(5).random((len(users), NUM_ITEMS))

    @property
    def references(self):
        return {"backbone": self._Random()}


def test_a_models_own_reference_is_scored_on_the_same_users():
    truth, sheet = _truth(), _sheet()
    score_recommendations(sheet, _WithBackbone(truth), truth, (5, 10), 20, Seeds(0))
    rows = {(r.metric, r.k): r for r in sheet.rows}
    alone = _sheet()
    score_recommendations(alone, _WithBackbone._Random(), truth, (5, 10), 20, Seeds(0))
    expected = {(r.metric, r.k): r.value for r in alone.rows}
    for metric, k in (("hr", 5), ("hr", 10), ("ndcg", 10), ("hit1", 1)):
        assert rows[f"backbone_{metric}", k].value == expected[metric, k]
    gain = rows["hr_over_backbone", 10]
    assert gain.value == pytest.approx(rows["hr", 10].value - rows["backbone_hr", 10].value)
    assert gain.low > 0


@pytest.mark.parametrize("given", ["popularity", ["uniform", "popularity"]])
def test_the_setting_takes_one_way_or_both(given):
    ways = Evaluation.model_validate({"candidate_sampling": given}).candidate_sampling
    assert ways == ((given,) if isinstance(given, str) else tuple(given))
    with pytest.raises(ValueError, match="twice"):
        Evaluation.model_validate({"candidate_sampling": ["uniform", "uniform"]})
