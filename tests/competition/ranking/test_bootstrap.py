"""The collapsed bootstrap, against drawing images and annotators one at a time."""

import itertools

import numpy as np
import pytest

from competition.ranking.bootstrap import bootstrap_scores, centred, collect_duels, redrawn_verdicts
from competition.ranking.matrices import RankingError
from competition.ranking.perron import rank_judgements

SAYS = [(True, True), (True, False), (False, True), (False, False)]


def verdict_of(answers, tiebreak):
    """0..3 from single answers (kinds 0..3), ties broken by one further answer."""
    yes = []
    for question in range(2):
        margin = sum(1 if SAYS[kind][question] else -1 for kind in answers)
        yes.append(SAYS[tiebreak][question] if margin == 0 else margin > 0)
    return SAYS.index(tuple(yes))


@pytest.mark.parametrize("counts", [(1, 0, 0, 0), (1, 1, 0, 0), (2, 0, 0, 1), (1, 1, 1, 1), (2, 2, 0, 1)])
def test_redrawn_verdicts_equal_the_sum_over_every_possible_draw(counts):
    total = sum(counts)
    share = np.array(counts) / total
    expected = np.zeros(4)
    for *answers, tiebreak in itertools.product(range(4), repeat=total + 1):
        expected[verdict_of(answers, tiebreak)] += share[[*answers, tiebreak]].prod()
    np.testing.assert_allclose(redrawn_verdicts(np.array([counts]), np.array([0]))[0], expected, atol=1e-12)


def test_an_image_without_single_judgements_keeps_its_verdict():
    distribution = redrawn_verdicts(np.array([[0, 0, 0, 0], [5, 0, 0, 0]]), np.array([2, 0]))
    assert distribution.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]


def test_replicates_are_distributed_as_if_images_and_annotators_were_drawn_one_by_one():
    """One duel of twelve images with five annotators each, drawn the slow and obvious way."""
    rng = np.random.default_rng(0)
    answers = rng.multinomial(5, [0.35, 0.3, 0.25, 0.1], size=12)
    singles = [np.repeat(np.arange(4), row) for row in answers]
    outcome = np.array([verdict_of(kinds, 0) for kinds in singles])
    slow = []
    for _ in range(3000):
        drawn = []
        for image in rng.integers(0, 13, 12):
            kinds = (
                rng.choice(singles[image], 5) if image < 12 else [rng.integers(0, 4)]
            )  # smoothing: one image unknown
            drawn.append(verdict_of(kinds, 0))
        drawn = np.array(drawn)
        slow.append(((drawn <= 1).sum(), np.isin(drawn, (0, 2)).sum()))
    slow = np.log((np.array(slow)[:, 0] + 0.5) / (np.array(slow)[:, 1] + 0.5))
    zeros = np.zeros(12, dtype=np.int64)
    duels = collect_duels(zeros, zeros + 1, outcome, redrawn_verdicts(answers, outcome), 2)
    scores = bootstrap_scores(duels, np.zeros(2, dtype=np.int64), replicates=20_000, seed=1)
    fast = np.log(scores[:, 0] / scores[:, 1])  # with two models, r_0 / r_1 = B_01
    assert fast.mean() == pytest.approx(slow.mean(), abs=3 * slow.std() / np.sqrt(3000))
    assert fast.std() == pytest.approx(slow.std(), rel=0.06)
    np.testing.assert_allclose(np.quantile(fast, [0.05, 0.95]), np.quantile(slow, [0.05, 0.95]), atol=0.12)


@pytest.mark.parametrize("mode", ["smoothed", "published"])
def test_image_by_image_and_multinomial_draws_have_one_distribution(monkeypatch, mode):
    """Duels of unequal size, drawn both ways: same means and covariances of the log scores."""
    rng = np.random.default_rng(4)
    i, j = np.repeat([[0, 1], [0, 2], [1, 2]], [9, 30, 17], axis=0).T
    outcome = rng.choice(4, i.size, p=[0.4, 0.3, 0.2, 0.1])
    duels = collect_duels(i, j, outcome, np.eye(4)[outcome], 3)
    logs = []
    for limit in (40, 0):
        monkeypatch.setattr("competition.ranking.bootstrap.DRAW_SINGLY", limit)
        scores = bootstrap_scores(duels, np.zeros(3, dtype=np.int64), replicates=30_000, seed=1, mode=mode)
        logs.append(np.log(scores))
    np.testing.assert_allclose(logs[0].mean(axis=0), logs[1].mean(axis=0), atol=0.01)
    np.testing.assert_allclose(np.cov(logs[0].T), np.cov(logs[1].T), atol=0.005)


def test_a_single_image_does_not_give_a_sure_ranking():
    standing = rank_judgements(["x", "y"], [0], [1], [True], [False])
    assert standing.low[0] < 0.5 < standing.score[0] < standing.high[0]
    assert (standing.rank_best.tolist(), standing.rank_worst.tolist()) == ([1, 1], [2, 2])


def test_replicates_are_centred_on_the_scores():
    replicates = np.array([[0.2, 0.8], [0.3, 0.7]])
    moved = centred(replicates, np.array([0.4, 0.6]))
    np.testing.assert_allclose(np.exp(np.log(moved).mean(axis=0)), [0.4, 0.6])
    np.testing.assert_allclose(moved[0] / moved[1], replicates[0] / replicates[1])
    assert centred(np.empty((0, 2)), np.array([0.4, 0.6])).shape == (0, 2)


def test_published_ratio_refuses_replicates_without_a_ratio():
    right = np.array([True, False, False, False])
    arguments = (["x", "y"], np.zeros(4, int), np.ones(4, int), right, ~right)
    with pytest.raises(RankingError, match=r'published ratio is undefined in .* use mode="smoothed"'):
        rank_judgements(*arguments, mode="published")
    assert rank_judgements(*arguments, mode="published", replicates=0).score.tolist() == pytest.approx([0.25, 0.75])


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "accuracies"), [(0.05, (0.3, 0.8)), (0.15, (0.3, 0.8)), (0.15, (0.1, 0.6))])
def test_intervals_cover_the_score_of_endless_labelling(noise, accuracies):
    """Eight models, k = 30, five annotators an image: 95 % intervals hold the score of 20,000 images a duel."""
    m, rng = 8, np.random.default_rng(2)
    duels = np.array(np.triu_indices(m, 1)).T
    accuracy = np.linspace(*accuracies, m)

    def label(images):
        i, j = np.repeat(duels, images, axis=0).T
        doubt = rng.beta(1, 1 / noise - 1, (2, i.size))
        truth = rng.random((2, i.size)) < accuracy[np.stack([i, j])]
        says = rng.random((5, 2, i.size)) < np.where(truth, 1 - doubt, doubt)
        kind = 2 * ~says[:, 0] + ~says[:, 1]
        answers = np.stack([(kind == k).sum(axis=0) for k in range(4)], axis=1)
        right_i, right_j = says.sum(axis=0) > 2
        return list("abcdefgh"), i, j, right_i, right_j, answers

    truth = rank_judgements(*label(20_000)[:5], replicates=0).score
    covered = []
    for seed in range(100):
        standing = rank_judgements(*label(30), replicates=400, seed=seed)
        covered.append((standing.low <= truth) & (truth <= standing.high))
    assert 0.92 < np.mean(covered) < 0.985
    assert np.mean(covered, axis=0).min() > 0.85
