"""gMAD rankings: the published studies' figures, the definitions as loops, and what a researcher would notice."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_ndtr
from scipy.stats import norm as normal
from scipy.stats import t as student

from competition.ranking.globalrank import QUADRATIC_A, QUADRATIC_B, Form, connections, global_scores
from competition.ranking.gmad import aggressiveness, mean_scores, rank_judgements, rank_matrices, resistance
from competition.ranking.matrices import RankingError

NAN = float("nan")
# Rows act against columns. The published scores come from matrices of more digits than were printed: rounding these to
# three moves a score by up to 0.003.
STUDIES = {
    "aesthetics, aggressiveness": (
        [[0, 0.216, 0.103, 0.031], [0.314, 0, 0.182, 0.160], [0.287, 0.292, 0, 0.299], [0.459, 0.466, 0.578, 0]],
        [-0.577, -0.189, 0.145, 0.621],
        [-0.552, -0.180, 0.141, 0.590],
    ),
    "aesthetics, resistance": (
        [[0, 0.686, 0.713, 0.541], [0.662, 0, 0.708, 0.534], [0.741, 0.648, 0, 0.422], [0.934, 0.810, 0.701, 0]],
        [-0.097, -0.064, -0.098, 0.260],
        [-0.086, -0.057, -0.087, 0.230],
    ),
    "streaming, aggressiveness": (
        [[0, 0, 0.687], [0.430, 0, 0.077], [0.566, 0.777, 0]],
        [-0.106, -0.161, 0.267],
        None,
    ),
    "streaming, resistance": (
        [[0, 0.570, 0.434], [0.636, 0, 0.223], [0.313, 0.499, 0]],
        [0.010, -0.112, 0.102],
        None,
    ),
}


@pytest.mark.parametrize("study", STUDIES)
def test_published_studies_are_reproduced(study: str) -> None:
    matrix, published, exact = STUDIES[study]
    strength = np.array(matrix)
    component = connections(strength).component
    assert not component.any()
    scores = global_scores(strength, component, form="published")
    assert scores == pytest.approx(published, abs=0.0012)
    plain = global_scores(strength, component)
    if exact is not None:
        assert plain == pytest.approx(exact, abs=0.0006)
    assert np.argsort(plain).tolist() == np.argsort(published).tolist()
    for value in (scores, plain):
        assert value.sum() == pytest.approx(0, abs=1e-12)


def loss(form: Form, scores: np.ndarray, strength: np.ndarray) -> float:
    """What is minimised, entry by entry."""
    total = 0.0
    for i in range(len(scores)):
        for j in range(len(scores)):
            gap = scores[i] - scores[j]
            if form == "exact":
                log_phi = float(log_ndtr(gap))
            else:
                log_phi = -sum(a * max(b - gap, 0) ** 2 for a, b in zip(QUADRATIC_A, QUADRATIC_B, strict=True))
            total -= strength[i, j] * log_phi
    return total


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 6), st.sampled_from(["exact", "published"]), st.floats(0.01, 1e4))
def test_a_general_minimiser_finds_the_same(seed: int, m: int, form: Form, size: float) -> None:
    rng = np.random.default_rng(seed)
    strength = size * rng.uniform(0.05, 1, (m, m)) * (1 - np.eye(m))
    scores = global_scores(strength, np.zeros(m, np.int64), form=form)

    def objective(free: np.ndarray) -> float:
        return loss(form, np.append(free, -free.sum()), strength / size)

    other = minimize(objective, np.zeros(m - 1), method="BFGS", options={"gtol": 1e-9}).x
    assert scores[:-1] == pytest.approx(other, abs=1e-4)


def test_many_matrices_at_once_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(5)
    matrices = rng.random((200, 5, 5)) * (rng.random((200, 5, 5)) < 0.4)  # many without a finite maximum of their own
    component = np.zeros(5, np.int64)
    for form in ("exact", "published"):
        together = global_scores(matrices, component, form=form)
        alone = np.array([global_scores(matrix, component, form=form) for matrix in matrices])
        near = np.array([global_scores(matrix, component, form=form, start=rng.normal(size=5)) for matrix in matrices])
        assert np.isfinite(together).all()
        assert together == pytest.approx(alone, abs=1e-7)
        assert together == pytest.approx(near, abs=1e-5)


def test_a_model_that_nothing_speaks_against_is_first_by_a_finite_distance_and_it_is_said() -> None:
    a = [[NAN, 40, 30], [0, NAN, 20], [0, 10, NAN]]
    r = np.full((3, 3), 50.0)
    for mode in ("exact", "published"):
        standing = rank_matrices(["A", "B", "C"], a, r, mode=mode)
        rank = standing.aggressiveness
        assert rank.rank.tolist() == [1, 2, 3]
        assert 2 < rank.score[0] - rank.score[1] < 6
        assert any('"A"' in note and "not determined" in note for note in rank.notes)
        assert standing.resistance.notes == ()
        assert standing.resistance.score == pytest.approx([0, 0, 0], abs=1e-9)


def test_models_that_nothing_connects_are_not_ranked_together() -> None:
    a = np.full((5, 5), NAN)
    a[0, 1], a[1, 0], a[2, 3], a[3, 2] = 30, 10, 5, 50
    a[4, :4] = -20  # every attack of the fifth failed, and nobody attacked it
    standing = rank_matrices(list("ABCDE"), a, np.where(np.isnan(a), NAN, 50))
    rank = standing.aggressiveness
    assert rank.component.tolist() == [0, 0, 1, 1, 2]
    assert rank.rank.tolist() == [1, 2, 2, 1, 1]
    assert np.isnan(rank.score[4])
    assert rank.score[:2].sum() == pytest.approx(0)
    assert rank.score[2:4].sum() == pytest.approx(0)
    assert any("No ranking across" in note and '"A" and "B"; "C" and "D"; "E"' in note for note in rank.notes)
    assert not standing.resistance.component.any()


@st.composite
def cells(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    m, k = draw(st.integers(2, 5)), draw(st.integers(1, 5))
    s = rng.uniform(-100 if draw(st.booleans()) else 0, 100, (m, m, k))
    s[rng.random(s.shape) < draw(st.sampled_from([0, 0.3, 0.9]))] = NAN
    return s, rng.integers(1, 1000, (m, k)).astype(float)


@given(cells())
def test_pairwise_measures_are_the_sums_of_their_definition(case: tuple[np.ndarray, np.ndarray]) -> None:
    s, p = case
    m, _, k = s.shape
    a, r = aggressiveness(s, p), resistance(s, p / p.sum(axis=1, keepdims=True))
    for i in range(m):
        for j in range(m):
            judged = [level for level in range(k) if not np.isnan(s[i, j, level])]
            if not judged:
                assert np.isnan(a[i, j])
                assert np.isnan(r[j, i])
                continue
            weight = sum(p[j, level] for level in judged)
            assert a[i, j] == pytest.approx(sum(p[j, level] * s[i, j, level] for level in judged) / weight)
            defended = sum(p[j, level] * (100 - abs(s[i, j, level])) for level in judged) / weight
            assert r[j, i] == pytest.approx(defended)
            assert r[j, i] + a[i, j] <= 100 + 1e-9
            no_backfire = all(s[i, j, level] >= 0 for level in judged)
            assert (abs(r[j, i] + a[i, j] - 100) < 1e-9) == no_backfire


def simulate(rng: np.random.Generator, m: int = 4, k: int = 3, people: int = 12) -> dict[str, Any]:
    """Judgements of a competition in which models later in the list attack better."""
    attacker, defender, level, person = (
        column.ravel() for column in np.meshgrid(range(m), range(m), range(1, k + 1), range(people), indexing="ij")
    )
    apart = attacker != defender
    attacker, defender, level, person = (column[apart] for column in (attacker, defender, level, person))
    bias = rng.normal(0, 8, people)
    score = np.clip(25 * (attacker - defender) + bias[person] + rng.normal(0, 25, len(person)), -100, 100)
    return {
        "attacker": attacker,
        "defender": defender,
        "level": level,
        "person": person,
        "score": score,
        "counts": rng.integers(5, 50, (m, k)),
    }


def test_the_bootstrap_draws_whole_people() -> None:
    case = simulate(np.random.default_rng(1))
    names = list("ABCD")
    standing = rank_judgements(names, **case, replicates=40, seed=3)
    times = np.random.default_rng(3).multinomial(12, np.full(12, 1 / 12), size=40)
    slow = []
    for drawn in times:
        rows = np.concatenate([np.flatnonzero(case["person"] == who) for who, n in enumerate(drawn) for _ in range(n)])
        again = {name: column if name == "counts" else column[rows] for name, column in case.items()}
        slow.append(rank_judgements(names, **again, replicates=0).aggressiveness.score)
    wider = student.ppf(0.975, 11) / normal.ppf(0.975) * np.sqrt(12 / 11)
    expected = wider * (np.array(slow) - np.mean(slow, axis=0)) + standing.aggressiveness.score
    assert standing.aggressiveness.replicates == pytest.approx(expected, abs=1e-6)
    rank = standing.aggressiveness
    assert rank.rank.tolist() == [4, 3, 2, 1]
    assert (rank.low < rank.score).all()
    assert (rank.score < rank.high).all()
    assert (rank.rank_best <= rank.rank).all()
    assert standing.n_judgements.tolist() == [216] * 4
    assert standing.scores[0, 1, 2] == pytest.approx(
        case["score"][(case["attacker"] == 0) & (case["defender"] == 1) & (case["level"] == 3)].mean()
    )


def test_the_order_of_the_judgements_and_the_names_of_people_change_nothing() -> None:
    rng = np.random.default_rng(2)
    case = simulate(rng)
    order = rng.permutation(len(case["score"]))
    turned = {name: column if name == "counts" else column[order] for name, column in case.items()}
    turned["person"] = np.array([f"p{who:02d}" for who in turned["person"]])
    one, other = (rank_judgements(list("ABCD"), **some, replicates=50) for some in (case, turned))
    assert one.resistance.low == pytest.approx(other.resistance.low, abs=1e-7)
    assert one.aggressiveness.high == pytest.approx(other.aggressiveness.high, abs=1e-7)


def test_one_person_gives_a_ranking_without_intervals_and_says_so() -> None:
    case = simulate(np.random.default_rng(3), people=1)
    rank = rank_judgements(list("ABCD"), **case).aggressiveness
    assert np.isfinite(rank.score).all()
    assert np.isnan(rank.low).all()
    assert (rank.rank_best.tolist(), rank.rank_worst.tolist()) == ([1] * 4, [4] * 4)
    assert any("One person" in note for note in rank.notes)


def test_cells_without_judgements_are_no_zeros() -> None:
    s = mean_scores([0, 0, 1], [1, 1, 0], [1, 1, 2], [50, 100, -30], 2, 2)
    assert s[0, 1, 0] == 75
    assert s[1, 0, 1] == -30
    assert np.isnan(s).sum() == 6
    assert aggressiveness(s, np.array([[1, 3], [1, 9]]))[0, 1] == 75


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": [50, 101]}, "judgement 2: score is 101; it lies between -100 and 100"),
        ({"score": [50, NAN]}, "judgement 2: score is nan"),
        ({"attacker": [0, 2]}, "judgement 2: attacker is 2; it lies between 0 and 1"),
        ({"level": [0, 1]}, "judgement 1: level is 0; it lies between 1 and 2"),
        ({"level": [3, 1]}, "judgement 1: level is 3"),
        ({"defender": [0, 0]}, "judgement 1: model 0 attacks itself"),
        ({"person": [1]}, "person has 1 entries"),
        ({"score": [1]}, "judgement columns differ in shape"),
        ({"counts": [[1, 2]]}, "one row for each of 2 models"),
        ({"counts": [[1, NAN], [1, 1]]}, "must be finite"),
        ({"mode": "best"}, 'unknown ranking mode "best"'),
        ({"replicates": -1}, "replicates must be 0 or more"),
        ({"attacker": [], "defender": [], "level": [], "person": [], "score": []}, "no judgements to rank"),
    ],
)
def test_judgements_that_cannot_be_ranked_are_named(changes: dict[str, Any], message: str) -> None:
    case: dict[str, Any] = {
        "attacker": [0, 1],
        "defender": [1, 0],
        "level": [1, 2],
        "person": [1, 2],
        "score": [5, 6],
        "counts": [[1, 1], [1, 1]],
    }
    rank_judgements(["A", "B"], **case, replicates=2)
    with pytest.raises(RankingError, match=message):
        rank_judgements(["A", "B"], **(case | changes))


@pytest.mark.parametrize(
    ("a", "r", "message"),
    [
        ([[0, 1]], [[0, 1], [1, 0]], r"aggressiveness has shape \(1, 2\); 2 models"),
        ([[0, 1], [1, 0]], [[0, -1], [1, 0]], 'the resistance of "A" to "B" is -1: it cannot be negative'),
        ([[0, float("inf")], [1, 0]], [[0, 1], [1, 0]], 'the aggressiveness of "A" and "B" is infinite'),
    ],
)
def test_matrices_that_cannot_be_ranked_are_named(a: Any, r: Any, message: str) -> None:
    with pytest.raises(RankingError, match=message):
        rank_matrices(["A", "B"], a, r)
