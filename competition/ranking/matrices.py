"""Duel counts, the pairwise matrices made of them, and their Perron vectors.

Terms
    duel       an unordered pair of models, stored once with i < j
    c          (m, m) number of labelled images of duel {i, j} on which model i is right
    n          (m, m) number of labelled images of duel {i, j}; symmetric, zero diagonal
    a          (m, m) pairwise accuracy c / n; NaN where the duel has no labelled image
    B          (m, m) pairwise ratio a_ij / a_ji, ones on the diagonal
    component  models joined by a chain of duels that have labelled images

Source: "I Am Going MAD: Maximum Discrepancy Competition for Comparing Classifiers Adaptively", arXiv 2002.10648,
section 2.2. The smoothing, the treatment of missing duels and everything batched are this project's
(docs/decisions/0002-missing-duels.md).
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Mode = Literal["smoothed", "published"]

TOLERANCE = 1e-10
MAX_ITERATIONS = 1000
# Squaring a matrix 40 times is 2**40 power iterations: what a spectral gap of double precision can need at most.
SQUARINGS = 40


class RankingError(ValueError):
    """The judgements or settings given cannot be ranked; the message names the thing, the value and the way out."""


def check_mode(mode: str) -> None:
    """Raises RankingError for a mode that is neither "smoothed" nor "published"."""
    if mode not in get_args(Mode):
        raise RankingError(f'unknown ranking mode "{mode}": use {" or ".join(map(repr, get_args(Mode)))}')


def count_matrices(
    i: IntArray, j: IntArray, i_correct: BoolArray, j_correct: BoolArray, n_models: int
) -> tuple[IntArray, IntArray]:
    """c and n, both (m, m), of labelled images given one per row; each duel may come in either order."""
    c = np.zeros((n_models, n_models), dtype=np.int64)
    n = np.zeros_like(c)
    np.add.at(c, (i, j), i_correct)
    np.add.at(c, (j, i), j_correct)
    np.add.at(n, (i, j), 1)
    np.add.at(n, (j, i), 1)
    return c, n


def accuracy_matrix(c: IntArray, n: IntArray) -> FloatArray:
    """a (m, m): share of the duel's labelled images on which the row's model is right; NaN without images."""
    return np.divide(c, n, out=np.full(c.shape, np.nan), where=n > 0)


def components_of(n: IntArray) -> IntArray:
    """(m,) component number of each model: models in different components were never compared, even indirectly."""
    labels = connected_components(coo_array(n > 0), directed=False)[1]
    return labels.astype(np.int64)


def duel_ratio(c_i: NDArray, c_j: NDArray, mode: Mode = "smoothed") -> FloatArray:
    """B_ij of duels in which i was right c_i times and j was right c_j times on the same n images; any shape.

    "smoothed" is ((c_i + 1/2) / (n + 1)) / ((c_j + 1/2) / (n + 1)), in which n cancels; "published" is c_i / c_j,
    which is 0, infinite or undefined as soon as a model was right on no image: the caller rejects those.
    """
    if mode == "smoothed":
        return (c_i + 0.5) / (c_j + 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(c_i, c_j, dtype=np.float64)


def assemble(ratio: FloatArray, first: IntArray, second: IntArray, component: IntArray) -> FloatArray:
    """B (R, m, m) from the ratios (R, d) of the d duels that have labelled images.

    A missing duel inside a component takes the value that the rest of the competition implies, r_i / r_j, by setting
    the entry to zero and adding one to the diagonal (Harker 1987, "Incomplete pairwise comparisons in the analytic
    hierarchy process"): the Perron vector is then the one with B_ij = r_i / r_j filled in. Between components nothing
    is known and B_ij = 1.
    """
    m = component.size
    filled = (component[:, None] != component[None, :]).astype(np.float64)
    present = np.zeros((m, m), dtype=np.bool_)
    present[first, second] = present[second, first] = True
    missing = ~present & (component[:, None] == component[None, :])
    np.fill_diagonal(filled, missing.sum(axis=1))  # a model's missing duel with itself is the 1 of B_ii
    matrix = np.broadcast_to(filled, (ratio.shape[0], m, m)).copy()
    matrix[:, first, second] = ratio
    matrix[:, second, first] = 1 / ratio
    return matrix


def perron_vectors(matrix: FloatArray) -> FloatArray:
    """(R, m) Perron vectors of R positive-ratio matrices (R, m, m), each summing to one.

    Power iteration r <- B r / |B r| with the 1-norm, from 1/m, until |change| < 1e-10 for all of them, at most 1,000
    steps. Sparse competitions can need more; the ones left then are finished by repeated squaring, which converges
    to the same vector.
    """
    n_matrices, m, _ = matrix.shape
    vector = np.full((n_matrices, m, 1), 1 / m)
    moved = np.ones(n_matrices, dtype=np.bool_)
    for _ in range(MAX_ITERATIONS):
        following = matrix @ vector
        following /= following.sum(axis=1, keepdims=True)
        moved = np.abs(following - vector).sum(axis=(1, 2)) >= TOLERANCE
        vector = following
        if not moved.any():
            break
    else:
        vector[moved] = _by_squaring(matrix[moved])
    return vector[:, :, 0]


def _by_squaring(matrix: FloatArray) -> FloatArray:
    power = matrix / matrix.sum(axis=(1, 2), keepdims=True)
    for _ in range(SQUARINGS):
        power = power @ power
        power /= power.sum(axis=(1, 2), keepdims=True)
    vector = power.sum(axis=2, keepdims=True)
    return vector / vector.sum(axis=1, keepdims=True)
