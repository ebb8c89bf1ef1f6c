"""Ranking from verdicts and from judgements: what a reader of the leaderboard would notice."""

import numpy as np
import pytest

from competition.ranking.matrices import RankingError
from competition.ranking.perron import answer_counts, rank_from_verdicts, rank_judgements, ranks

NAMES = ["ant", "bee", "cat", "dog", "eel"]


def verdicts(accuracy=(0.9, 0.7, 0.5, 0.3, 0.1), images=30, seed=0, skip=()):
    """Rows (model_a, model_b, path, a_correct, b_correct) of every duel not in `skip`."""
    rng = np.random.default_rng(seed)
    rows = []
    for a in range(len(accuracy)):
        for b in range(a + 1, len(accuracy)):
            if (a, b) not in skip:
                for k in range(images):
                    right = rng.random(2) < (accuracy[a], accuracy[b])
                    rows.append((NAMES[a], NAMES[b], f"{a}{b}/{k}.jpg", *right.tolist()))
    return rows


def rank(rows, **options):
    return rank_from_verdicts(*zip(*rows, strict=True), **options)


def places(ranking):
    return {place.model: place for place in ranking.places}


def test_better_models_rank_higher_within_their_intervals():
    ranking = rank(verdicts())
    assert [place.model for place in ranking.places] == NAMES
    assert [place.rank for place in ranking.places] == [1, 2, 3, 4, 5]
    for place in ranking.places:
        assert place.low < place.score < place.high
        assert place.rank_best <= place.rank <= place.rank_worst
        assert place.n_images == 4 * 30
    assert sum(place.score for place in ranking.places) == pytest.approx(1)
    assert ranking.places[0].rank_worst < 5


def test_score_is_the_perron_vector_of_the_smoothed_ratios():
    rows = verdicts(images=10, seed=3)
    b = np.ones((5, 5))
    for i in range(5):
        for j in range(5):
            mine = [(r if a == NAMES[i] else s) for a, c, _, r, s in rows if {a, c} == {NAMES[i], NAMES[j]}]
            theirs = [(s if a == NAMES[i] else r) for a, c, _, r, s in rows if {a, c} == {NAMES[i], NAMES[j]}]
            if i != j:
                b[i, j] = ((sum(mine) + 0.5) / (len(mine) + 1)) / ((sum(theirs) + 0.5) / (len(theirs) + 1))
    values, vectors = np.linalg.eig(b)
    vector = np.abs(vectors[:, values.real.argmax()].real)
    found = places(rank(rows))
    np.testing.assert_allclose([found[name].score for name in NAMES], vector / vector.sum(), atol=1e-8)


def test_zero_accuracies_still_rank():
    rows = [("good", "bad", f"{k}.jpg", True, False) for k in range(30)]
    ranking = rank(rows)
    assert [place.model for place in ranking.places] == ["good", "bad"]
    assert ranking.places[0].score == pytest.approx(61 / 62)


def test_published_mode_names_the_model_without_a_right_image():
    rows = [("good", "bad", f"{k}.jpg", True, False) for k in range(30)]
    message = 'model "bad" is right on none of the 30 labelled images of its duel with "good".*mode="smoothed"'
    with pytest.raises(RankingError, match=message):
        rank(rows, mode="published")


def test_published_mode_is_the_plain_ratio():
    rows = [("x", "y", f"{k}.jpg", k < 60, k >= 40) for k in range(80)]
    ranking = rank(rows, mode="published")
    assert places(ranking)["x"].score == pytest.approx(0.6)
    assert places(ranking)["x"].low > 0.4


def test_same_seed_same_ranking_whatever_the_order_of_rows_and_sides():
    rows = verdicts(seed=5)
    shuffled = [rows[k] for k in np.random.default_rng(1).permutation(len(rows))]
    turned = [(b, a, path, s, r) if k % 2 else (a, b, path, r, s) for k, (a, b, path, r, s) in enumerate(shuffled)]
    assert rank(rows, seed=9) == rank(turned, seed=9)
    assert rank(rows, seed=9) != rank(rows, seed=10)


def test_equal_models_share_a_rank():
    rows = [("x", "y", f"{k}.jpg", k % 2 == 0, k % 2 == 1) for k in range(20)]
    assert [place.rank for place in rank(rows).places] == [1, 1]
    assert ranks(np.array([0.3, 0.5, 0.3, 0.1])).tolist() == [2, 1, 2, 4]


def test_no_replicates_leaves_intervals_open():
    place = rank(verdicts(), replicates=0).places[0]
    assert np.isnan([place.low, place.high]).all()
    assert (place.rank_best, place.rank_worst) == (1, 5)


def test_a_missing_duel_keeps_the_order():
    ranking = rank(verdicts(images=60, skip=[(0, 4), (1, 3)]))
    assert [place.model for place in ranking.places] == NAMES
    assert places(ranking)["cat"].n_images == 240
    assert places(ranking)["ant"].n_images == 180


def test_models_that_never_met_are_not_ranked_against_each_other():
    rows = [("a", "b", f"{k}.jpg", k < 38, k >= 36) for k in range(40)]
    rows += [("c", "d", f"{k}.jpg", k < 20, k >= 20) for k in range(40)]
    ranking = places(rank(rows))
    assert (ranking["a"].rank_best, ranking["a"].rank_worst) == (1, 3)
    assert (ranking["b"].rank_best, ranking["b"].rank_worst) == (2, 4)
    assert (ranking["c"].rank_best, ranking["c"].rank_worst) == (1, 4)


def test_a_model_without_labels_can_have_any_rank():
    i, j = np.zeros(20, int), np.ones(20, int)
    standing = rank_judgements(["a", "b", "new"], i, j, np.ones(20, bool), np.zeros(20, bool))
    assert not standing.connected
    assert standing.n_images.tolist() == [20, 20, 0]
    assert (standing.rank_best[2], standing.rank_worst[2]) == (1, 3)
    assert standing.rank.tolist() == [1, 3, 2]


def test_adding_a_model_leaves_the_other_duels_as_they_were():
    old = [row for row in verdicts() if "eel" not in row[:2]]
    new = [row for row in verdicts() if "eel" in row[:2]]

    def standing(rows, names):
        a, b, _, right_a, right_b = zip(*rows, strict=True)
        number = {name: k for k, name in enumerate(names)}
        return rank_judgements(names, [number[x] for x in a], [number[x] for x in b], right_a, right_b)

    before, after = standing(old, NAMES[:4]), standing(old + new, NAMES)
    np.testing.assert_array_equal(after.ratio[:4, :4], before.ratio)
    np.testing.assert_array_equal(after.images[:4, :4], before.images)
    assert after.images[4].tolist() == [30, 30, 30, 30, 0]


def test_a_standing_holds_the_matrices_and_the_cases():
    i, j = np.array([0, 0, 0, 1]), np.array([1, 1, 1, 0])
    right_i, right_j = np.array([1, 1, 0, 0]), np.array([1, 0, 0, 1])
    standing = rank_judgements(["x", "y"], i, j, right_i, right_j)
    assert standing.correct.tolist() == [[0, 3], [1, 0]]
    assert standing.images.tolist() == [[0, 4], [4, 0]]
    assert standing.accuracy[0, 1] == 0.75
    assert standing.ratio.tolist() == pytest.approx(np.array([[1, 3.5 / 1.5], [1.5 / 3.5, 1]]))
    assert standing.connected
    assert standing.cases.totals() == (1, 2, 1)
    assert standing.cases.only_first.tolist() == [2]
    assert standing.replicates.shape == (1000, 2)


def test_annotators_who_disagree_widen_the_interval():
    i, j = np.zeros(60, int), np.ones(60, int)
    right = np.arange(60) < 40
    sure = np.where(right[:, None], [0, 5, 0, 0], [0, 0, 5, 0])
    unsure = np.where(right[:, None], [0, 3, 2, 0], [0, 2, 3, 0])
    widths = []
    for answers in (None, sure, unsure):
        standing = rank_judgements(["x", "y"], i, j, right, ~right, answers, replicates=4000)
        assert standing.low[0] < standing.score[0] < standing.high[0]
        widths.append(standing.high[0] - standing.low[0])
    assert widths[0] == widths[1] < widths[2]


def test_sides_of_a_duel_can_be_given_either_way_with_answers():
    rng = np.random.default_rng(2)
    i, j = np.zeros(30, int), np.ones(30, int)
    answers = rng.multinomial(5, [0.4, 0.3, 0.2, 0.1], size=30)
    right_i, right_j = answers[:, :2].sum(axis=1) > 2, answers[:, [0, 2]].sum(axis=1) > 2
    straight = rank_judgements(["x", "y"], i, j, right_i, right_j, answers)
    turned = rank_judgements(["x", "y"], j, i, right_j, right_i, answers[:, [0, 2, 1, 3]])
    np.testing.assert_array_equal(straight.replicates, turned.replicates)


def test_answer_counts():
    counts = answer_counts([0, 0, 2, 2, 2], [True, True, False, True, False], [True, False, True, False, False], 3)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no verdicts to rank"),
        ([("x", "x", "1.jpg", True, False)], 'row 1: model "x" duels with itself'),
        ([("x", "y", "1.jpg", 1, 0), ("y", "x", "1.jpg", 1, 0)], 'row 2: image "1.jpg" has a second verdict'),
        ([("x", "y", "1.jpg", 2, 0)], 'i_correct holds "2": verdicts are true or false'),
        ([("x", "y", "1.jpg", float("nan"), 0)], 'i_correct holds "nan"'),
        ([("x", "y", "1.jpg", "yes", False)], 'i_correct holds "yes"'),
    ],
)
def test_bad_verdicts_are_refused(rows, message):
    columns = list(zip(*rows, strict=True)) or [()] * 5
    with pytest.raises(RankingError, match=message):
        rank_from_verdicts(*columns)


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(RankingError, match="columns differ in length"):
        rank_from_verdicts(["x"], ["y"], ["1.jpg", "2.jpg"], [1], [0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": ["x"]}, "at least two models"),
        ({"j": [7]}, "model number 7, but there are 2 models"),
        ({"i": [-1]}, "model number -1"),
        ({"j": [0]}, 'duel of "x" with itself'),
        ({"i_correct": [True, False]}, "differ in shape"),
        ({"answers": [[1, 2]]}, r"shape \(1, 4\)"),
        ({"answers": [[1, 2, 3, -1]]}, "counts"),
        ({"mode": "elo"}, 'unknown ranking mode "elo"'),
        ({"replicates": -1}, "replicates must be 0 or more"),
    ],
)
def test_bad_exhibits_are_refused(change, message):
    arguments = {"models": ["x", "y"], "i": [0], "j": [1], "i_correct": [True], "j_correct": [False]} | change
    with pytest.raises(RankingError, match=message):
        rank_judgements(**arguments)
