"""Pairwise matrices and Perron vectors, against loops and numpy.linalg.eig."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from competition.ranking.matrices import (
    accuracy_matrix,
    assemble,
    components_of,
    count_matrices,
    duel_ratio,
    perron_vectors,
)


def eig_vector(matrix):
    values, vectors = np.linalg.eig(matrix)
    vector = np.abs(vectors[:, values.real.argmax()].real)
    return vector / vector.sum()


def random_ratios(rng, m, spread=1.0):
    first, second = np.triu_indices(m, 1)
    return np.exp(rng.normal(0, spread, (1, first.size))), first, second


def test_counts_equal_a_loop():
    rng = np.random.default_rng(0)
    i = rng.integers(0, 4, 200)
    j = (i + rng.integers(1, 4, 200)) % 4
    right_i, right_j = rng.random((2, 200)) < 0.6
    c, n = count_matrices(i, j, right_i, right_j, 4)
    for a in range(4):
        for b in range(4):
            rows = [(x, y, p, q) for x, y, p, q in zip(i, j, right_i, right_j, strict=True) if {x, y} == {a, b}]
            assert n[a, b] == len(rows)
            assert c[a, b] == sum(p if x == a else q for x, y, p, q in rows)
    a = accuracy_matrix(c, n)
    assert np.isnan(np.diag(a)).all()
    assert a[0, 1] == c[0, 1] / n[0, 1]


def test_smoothed_ratio_survives_zeros_and_published_is_plain():
    assert duel_ratio(np.array([0]), np.array([30]))[0] == pytest.approx((0.5 / 31) / (30.5 / 31))
    assert duel_ratio(np.array([12]), np.array([8]), "published")[0] == 1.5


@given(st.integers(2, 12), st.integers(0, 10_000))
def test_perron_agrees_with_eig(m, seed):
    rng = np.random.default_rng(seed)
    matrix = assemble(*random_ratios(rng, m), np.zeros(m, dtype=np.int64))
    np.testing.assert_allclose(perron_vectors(matrix)[0], eig_vector(matrix[0]), atol=1e-8)


def test_many_matrices_at_once_equal_one_by_one():
    rng = np.random.default_rng(1)
    matrices = np.concatenate([assemble(*random_ratios(rng, 6, 2.0), np.zeros(6, dtype=np.int64)) for _ in range(20)])
    together = perron_vectors(matrices)
    for matrix, vector in zip(matrices, together, strict=True):
        np.testing.assert_allclose(vector, eig_vector(matrix), atol=1e-8)


def test_consistent_ratios_give_back_their_strengths_even_with_duels_missing():
    """B_ij = s_i / s_j has Perron vector s, whichever duels of a connected competition were held."""
    strength = np.array([0.4, 0.3, 0.2, 0.1])
    for duels in ([(0, 1), (1, 2), (2, 3)], [(0, 3), (1, 3), (2, 3)], [(0, 1), (1, 2), (2, 3), (0, 3)]):
        first, second = np.array(duels).T
        ratio = (strength[first] / strength[second])[None]
        vector = perron_vectors(assemble(ratio, first, second, np.zeros(4, dtype=np.int64)))[0]
        np.testing.assert_allclose(vector, strength, atol=1e-8)


def test_a_missing_duel_does_not_pull_its_models_together():
    """The weakest and the strongest never met; counting that as a draw would cost the strongest."""
    strength = np.array([0.6, 0.3, 0.1])
    first, second = np.array([0, 1]), np.array([1, 2])
    ratio = (strength[first] / strength[second])[None]
    as_draw = assemble(np.array([[2.0, 1.0, 3.0]]), np.array([0, 0, 1]), np.array([1, 2, 2]), np.zeros(3, dtype=int))
    implied = assemble(ratio, first, second, np.zeros(3, dtype=np.int64))
    assert perron_vectors(as_draw)[0][0] < 0.5
    assert perron_vectors(implied)[0][0] == pytest.approx(0.6)


def test_a_long_chain_of_duels_still_converges():
    """Fifty models that met only their neighbours: far more than 1,000 plain iterations."""
    strength = 1.05 ** np.arange(50)
    first, second = np.arange(49), np.arange(1, 50)
    matrix = assemble((strength[first] / strength[second])[None], first, second, np.zeros(50, dtype=np.int64))
    np.testing.assert_allclose(perron_vectors(matrix)[0], strength / strength.sum(), rtol=1e-6)


def test_components():
    n = np.zeros((5, 5), dtype=np.int64)
    n[0, 1] = n[1, 0] = n[2, 3] = n[3, 2] = 4
    component = components_of(n)
    assert component[0] == component[1] != component[2] == component[3]
    assert len(set(component.tolist())) == 3
