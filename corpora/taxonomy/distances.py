"""Distances between classes, all pairs at once, and their ranking into few integer levels.

Source: arXiv 2002.10648, section 3.1 (weighted tree distance). A node at depth t of a path weighs 2^(1 - t); the root,
at depth 0, is shared by every two paths and never counts. For two paths, d(a, b) = weights of the nodes of a that are
not on b + weights of the nodes of b that are not on a; for two classes of a DAG, the minimum over all pairs of paths.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from corpora.taxonomy.model import Taxonomy, TaxonomyError

MAX_CLASSES = 20_000  # a matrix of 3.2 GB; beyond this only flat taxonomies, which need no matrix
_BLOCK_CELLS = 8_000_000  # path pairs held at a time: 64 MB of float64

FloatMatrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LevelTable:
    """Distances as small integers: exact, without float ties, and small enough for a processor's cache.

    distances: (L,) float64, ascending, distances[0] = 0.
    ranks: (C, C) uint8 or uint16, distances[ranks[a, b]] = d(a, b). In a flat table this is one number seen C x C
    times, so that any C fits; there its diagonal reads 1, and only `distance` knows that a class is at 0 from itself.
    """

    distances: npt.NDArray[np.float64]
    ranks: npt.NDArray[Any]

    @property
    def n_classes(self) -> int:
        return int(self.ranks.shape[0])

    @property
    def n_levels(self) -> int:
        return len(self.distances)

    def distance(self, first: npt.ArrayLike, second: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """d(first, second), elementwise, for class indices of any matching shapes."""
        a, b = np.asarray(first), np.asarray(second)
        return np.where(a == b, 0.0, self.distances[self.ranks[a, b]])


def distance_matrix(taxonomy: Taxonomy, cache: Path | None = None) -> FloatMatrix:
    """(C, C) float64 distances, symmetric, zero on the diagonal.

    With `cache`, a directory, the matrix is kept there as `taxonomy-<digest>.npy` (written atomically) and read from
    there next time; an unreadable file is computed again. Raises TaxonomyError above MAX_CLASSES.
    """
    if taxonomy.n_classes > MAX_CLASSES:
        raise TaxonomyError(
            f'taxonomy "{taxonomy.name}" has {taxonomy.n_classes} classes; a distance matrix works up to {MAX_CLASSES}'
        )
    if cache is None:
        return _compute(taxonomy)
    path = cache / f"taxonomy-{taxonomy.digest[:32]}.npy"
    matrix = _read(path, taxonomy.n_classes)
    if matrix is None:
        matrix = _compute(taxonomy)
        _write(path, matrix)
    return matrix


def level_table(taxonomy: Taxonomy, cache: Path | None = None) -> LevelTable:
    """The distinct distances of a taxonomy and the (C, C) ranks among them; `cache` as in `distance_matrix`."""
    if taxonomy.is_flat:
        shape = (taxonomy.n_classes, taxonomy.n_classes)
        return LevelTable(np.array([0.0, 1.0]), np.broadcast_to(np.uint8(1), shape))
    return levels_of(distance_matrix(taxonomy, cache))


def levels_of(matrix: FloatMatrix) -> LevelTable:
    """The level table of any symmetric (C, C) matrix of distances with a zero diagonal.

    Raises TaxonomyError for a matrix that is not one, and for more than 65,535 distinct distances.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise TaxonomyError(f"a distance matrix is square, this one has shape {matrix.shape}")
    if not np.isfinite(matrix).all() or (matrix < 0).any() or np.diag(matrix).any() or (matrix != matrix.T).any():
        raise TaxonomyError("distances must be finite, not negative, symmetric, and 0 between a class and itself")
    distances, inverse = np.unique(matrix, return_inverse=True)
    if len(distances) > np.iinfo(np.uint16).max:
        raise TaxonomyError(f"{len(distances)} distinct distances; at most 65,535 work: round them")
    kind = np.uint8 if len(distances) <= 256 else np.uint16
    return LevelTable(distances, inverse.reshape(matrix.shape).astype(kind))


def _compute(taxonomy: Taxonomy) -> FloatMatrix:
    if taxonomy.is_flat:
        return 1.0 - np.eye(taxonomy.n_classes)
    weights, first_path = _path_weights(taxonomy)
    matrix = np.empty((taxonomy.n_classes, taxonomy.n_classes))
    bounds = [*first_path, weights.shape[0]]
    start = 0
    while start < taxonomy.n_classes:  # whole classes at a time, as many as fit into a block of path pairs
        room = bounds[start] + max(1, _BLOCK_CELLS // weights.shape[0])
        stop = max(start + 1, int(np.searchsorted(bounds, room, side="right")) - 1)
        pairs = _path_distances(weights, slice(bounds[start], bounds[stop]))
        nearest = np.minimum.reduceat(pairs, first_path, axis=1)
        offsets = np.asarray(bounds[start:stop]) - bounds[start]
        matrix[start:stop] = np.minimum.reduceat(nearest, offsets, axis=0)
        start = stop
    np.fill_diagonal(matrix, 0.0)
    return matrix


def _path_distances(weights: sparse.csr_array, rows: slice) -> FloatMatrix:
    """(paths in rows, all paths) distances: what each path weighs, less what it shares with the other."""
    shared = weights.copy()
    shared.data = np.ones_like(shared.data)
    total = np.asarray(weights.sum(axis=1)).ravel()
    own: FloatMatrix = (weights[rows] @ shared.T).toarray()
    other: FloatMatrix = (shared[rows] @ weights.T).toarray()
    distances: FloatMatrix = (total[rows, None] - own) + (total[None, :] - other)
    return distances


def _path_weights(taxonomy: Taxonomy) -> tuple[sparse.csr_array, list[int]]:
    """(paths, nodes) weight of each node on each path, and the first path of every class."""
    number: dict[str, int] = {}
    rows: list[int] = []
    columns: list[int] = []
    weights: list[float] = []
    first_path: list[int] = []
    n_paths = 0
    for index in range(taxonomy.n_classes):
        first_path.append(n_paths)
        for path in taxonomy.paths(index):
            for depth, node in enumerate(path[1:], start=1):
                rows.append(n_paths)
                columns.append(number.setdefault(node, len(number)))
                weights.append(2.0 ** (1 - depth))
            n_paths += 1
    shape = (n_paths, max(1, len(number)))
    return sparse.csr_array((weights, (rows, columns)), shape=shape), first_path


def _read(path: Path, n_classes: int) -> FloatMatrix | None:
    try:
        matrix = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return matrix if matrix.shape == (n_classes, n_classes) and matrix.dtype == np.float64 else None


def _write(path: Path, matrix: FloatMatrix) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        try:
            np.save(file, matrix)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
