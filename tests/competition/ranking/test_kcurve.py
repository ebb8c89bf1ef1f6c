"""The ranking over k, and MAD beside its control arm."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from competition.ranking.kcurve import compare_arms, control_accuracy, k_curve
from competition.ranking.matrices import RankingError
from competition.ranking.perron import rank_judgements

NAMES = list("abcde")


def exhibits(images=30, seed=0):
    rng = np.random.default_rng(seed)
    i, j = np.repeat(np.array(np.triu_indices(5, 1)).T, images, axis=0).T
    accuracy = np.array([0.8, 0.65, 0.5, 0.35, 0.2])
    return i, j, np.tile(np.arange(images), 10), rng.random(i.size) < accuracy[i], rng.random(i.size) < accuracy[j]


def test_each_point_ranks_the_first_k_images_of_every_duel():
    i, j, position, right_i, right_j = exhibits(images=23)
    curve = k_curve(NAMES, i, j, position, right_i, right_j)
    assert curve.k.tolist() == [5, 10, 15, 20, 23]
    assert curve.images.tolist() == [50, 100, 150, 200, 230]
    for k, score, srcc in zip(curve.k, curve.score, curve.srcc, strict=True):
        kept = position < k
        expected = rank_judgements(NAMES, i[kept], j[kept], right_i[kept], right_j[kept], replicates=0).score
        np.testing.assert_array_equal(score, expected)
        assert srcc == pytest.approx(spearmanr(score, curve.score[-1]).statistic)
    assert curve.srcc[-1] == pytest.approx(1)
    assert curve.rank[-1].tolist() == [1, 2, 3, 4, 5]


def test_k_counts_labelled_images_whatever_the_order_of_rows():
    """Gaps left by dropped exhibits close up, and a duel that runs out stays as it is."""
    i, j, position, right_i, right_j = exhibits(images=20)
    kept = ~((i == 0) & (j == 1) & (position % 2 == 0))
    order = np.random.default_rng(0).permutation(np.flatnonzero(kept))
    curve = k_curve(NAMES, i[order], j[order], position[order], right_i[order], right_j[order], step=8)
    assert curve.k.tolist() == [8, 16, 20]
    assert curve.images.tolist() == [80, 9 * 16 + 10, 9 * 20 + 10]


def test_a_step_below_one_is_refused():
    with pytest.raises(RankingError, match="step of the k-curve"):
        k_curve(NAMES, *exhibits()[:3], *exhibits()[3:], step=0)


def test_control_accuracy_counts_what_was_labelled():
    correct = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1]], dtype=bool)
    labelled = np.array([[1, 1, 1], [1, 1, 1], [1, 0, 1]], dtype=bool)
    control = control_accuracy(correct, labelled)
    assert control.accuracy.tolist() == [1, 0.5, pytest.approx(1 / 3)]
    assert control.images.tolist() == [3, 2, 3]
    assert control.rank.tolist() == [1, 2, 3]
    assert (control.low < control.accuracy).all()
    assert control.high[0] == 1


def test_a_control_arm_without_labels_is_not_an_error():
    control = control_accuracy(np.empty((0, 3), dtype=bool))
    assert np.isnan(control.accuracy).all()
    assert (control.low.tolist(), control.high.tolist()) == ([0, 0, 0], [1, 1, 1])


def test_shapes_must_match():
    with pytest.raises(RankingError, match=r"\(images, models\)"):
        control_accuracy(np.ones((4, 3), bool), np.ones((4, 2), bool))


def test_mad_separates_models_that_random_images_leave_alike():
    """The point of MAD: models alike on random images, told apart where they disagree."""
    i, j, _, right_i, right_j = exhibits()
    standing = rank_judgements(NAMES, i, j, right_i, right_j)
    control = np.ones((30, 5), dtype=bool)
    control[:3] = [[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]
    comparison = compare_arms(standing, control)
    assert comparison.pairs == 10
    assert comparison.control_separated == 0
    assert comparison.mad_separated >= 5
    assert comparison.control_falsifying == pytest.approx(0.1)
    assert comparison.mad_falsifying == pytest.approx(1 - standing.cases.totals()[0] / 300)
    assert (comparison.mad_images, comparison.control_images) == (300, 30)
    assert comparison.srcc > 0.8
    assert np.isnan(compare_arms(standing, np.ones((4, 5), bool)).srcc)
