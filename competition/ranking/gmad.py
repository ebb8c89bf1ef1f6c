"""Ranking of a gMAD competition: aggressiveness, resistance, and the global order of both (gMAD, CVPR 2016, section 3).

Terms
    cell  (attacker i, defender j, level k), with the mean human score s_ijk of its pairs in -100..100; positive where
          people agree with the attacker
    p     (M, K) images in each level of each defender: counts, or shares that sum to one
    a     (M, M) aggressiveness of i attacking j, sum_k p_jk s_ijk / sum_k p_jk, in -100..100
    r     (M, M) resistance of i defending against j, sum_k p_ik (100 - |s_jik|) / sum_k p_ik, in 0..100

Cells without a judgement leave both sums. r_ij + a_ji <= 100, equal exactly where no s_jik is negative.

Intervals draw whole people with replacement, with all they answered. Replicates are shifted so that their mean is the
score: people drawn again are fewer different people, whose means lie further from zero, which alone would lower every
resistance. They are widened where people are few (docs/decisions/0007-gmad-intervals.md).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.special import ndtri, stdtrit

from competition.ranking.globalrank import Form, check_form, connections, global_scores, notes_on
from competition.ranking.matrices import FloatArray, IntArray, RankingError
from labeling.psychometrics.ranks import percentile_intervals, rank_ranges, ranks_within

FULL = 100.0
DEFAULT_REPLICATES = 1000
_ONE_PERSON = "One person answered: there are no intervals over people."
DENSE = 0.05  # from this share of cells that a person judges a dense product is faster than a sparse one
BLOCK_BYTES = 8 << 20  # cells of the replicates worked on together


@dataclass(frozen=True)
class GlobalRank:
    """A leaderboard on one scale; arrays are (M,) in the order of the models.

    score       in standard deviations of a difference, sum zero in each component; NaN for a model that nothing
                compares with another
    low, high   95 % interval over people; NaN without replicates
    rank        1 = best of its component; rank_best, rank_worst as the intervals allow
    component   models of different components have no common scale
    replicates  (R, M) scores of the people drawn again, shifted to the score and widened for their small number
    notes       what the answers do not say, in words
    """

    score: FloatArray
    low: FloatArray
    high: FloatArray
    rank: IntArray
    rank_best: IntArray
    rank_worst: IntArray
    component: IntArray
    replicates: FloatArray
    notes: tuple[str, ...]


@dataclass(frozen=True)
class GmadStanding:
    """Everything a gMAD competition says.

    scores       s (M, M, K): [attacker, defender, level - 1], NaN without a judgement; empty (M, M, 0) from matrices
    aggressiveness_matrix, resistance_matrix  a and r (M, M), NaN where nothing was judged and on the diagonal
    n_judgements (M,) judgements of cells in which the model attacks or defends
    """

    models: tuple[str, ...]
    scores: FloatArray
    aggressiveness_matrix: FloatArray
    resistance_matrix: FloatArray
    aggressiveness: GlobalRank
    resistance: GlobalRank
    n_judgements: IntArray
    n_persons: int


def mean_scores(
    attacker: ArrayLike, defender: ArrayLike, level: ArrayLike, score: ArrayLike, n_models: int, n_levels: int
) -> FloatArray:
    """s (M, M, K) from judgements, one per row; level: 1..K; NaN for cells without one."""
    cell, value = _cells(attacker, defender, level, score, n_models, n_levels)
    size = n_models * n_models * n_levels
    total, number = (np.bincount(cell, weights, size).astype(np.float64) for weights in (value, None))
    return _divided(total, number).reshape(n_models, n_models, n_levels)


def aggressiveness(s: FloatArray, p: FloatArray) -> FloatArray:
    """a (..., M, M) from s (..., M, M, K) and p (M, K)."""
    score, weight = _judged(s, p)
    return _divided(np.einsum("...k,...k", weight, score), weight.sum(axis=-1))


def resistance(s: FloatArray, p: FloatArray) -> FloatArray:
    """r (..., M, M), [defender, attacker], from s (..., M, M, K) and p (M, K)."""
    score, weight = _judged(s, p)
    against = _divided(np.einsum("...k,...k", weight, FULL - np.abs(score)), weight.sum(axis=-1))
    return against.swapaxes(-1, -2)


def rank_judgements(
    models: Sequence[str],
    attacker: ArrayLike,
    defender: ArrayLike,
    level: ArrayLike,
    person: ArrayLike,
    score: ArrayLike,
    counts: ArrayLike,
    *,
    mode: Form = "exact",
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    interval: float = 0.95,
) -> GmadStanding:
    """Ranks models from judgements of their pairs, one per row.

    attacker, defender: (n,) positions of models; level: (n,) 1..K; person: (n,) any labels; score: (n,) -100..100,
    positive = agrees with the attacker; counts: (M, K) images in the levels of each defender; replicates 0, or one
    person alone: no intervals.

    Raises RankingError for columns of different lengths, values out of range and settings that make no sense.
    """
    check_form(mode)
    p = _level_counts(counts, len(models))
    if replicates < 0:
        raise RankingError(f"replicates must be 0 or more, {replicates} given")
    m, k = p.shape
    cell, value = _cells(attacker, defender, level, score, m, k)
    persons, who = np.unique(np.asarray(person), return_inverse=True)
    if who.shape != cell.shape:
        raise RankingError(f"person has {who.size} entries, judgements have {cell.size}")
    s = mean_scores(attacker, defender, level, score, m, k)
    parts = list(_replicates(who, cell, value, s.shape, p, replicates if len(persons) > 1 else 0, seed))
    a, r = aggressiveness(s, p), resistance(s, p)
    models_of = np.stack([cell // k // m, cell // k % m])
    return GmadStanding(
        models=tuple(models),
        scores=s,
        aggressiveness_matrix=a,
        resistance_matrix=r,
        aggressiveness=_rank(
            models, a, [part[0] for part in parts], mode, interval, "a successful attack", len(persons)
        ),
        resistance=_rank(models, r, [part[1] for part in parts], mode, interval, "a resisted attack", len(persons)),
        n_judgements=np.bincount(models_of.ravel(), minlength=m),
        n_persons=len(persons),
    )


def rank_matrices(
    models: Sequence[str], aggressiveness: ArrayLike, resistance: ArrayLike, *, mode: Form = "exact"
) -> GmadStanding:
    """Ranks models from the matrices a and r (M, M) alone, on any scale, NaN = not judged; there are no intervals.

    The diagonals are not looked at. Raises RankingError for other shapes, infinite numbers and negative resistances.
    """
    check_form(mode)
    a, r = (_square(matrix, models, what) for matrix, what in ((aggressiveness, "aggressiveness"), (resistance, "resistance")))  # fmt: skip  # noqa: E501
    if (np.nan_to_num(r) < 0).any():
        i, j = np.argwhere(np.nan_to_num(r) < 0)[0]
        raise RankingError(f'the resistance of "{models[i]}" to "{models[j]}" is {r[i, j]:g}: it cannot be negative')
    m = len(models)
    return GmadStanding(
        models=tuple(models),
        scores=np.empty((m, m, 0)),
        aggressiveness_matrix=a,
        resistance_matrix=r,
        aggressiveness=_rank(models, a, [], mode, 0.95, "a successful attack"),
        resistance=_rank(models, r, [], mode, 0.95, "a resisted attack"),
        n_judgements=np.zeros(m, np.int64),
        n_persons=0,
    )


def _rank(
    models: Sequence[str],
    matrix: FloatArray,
    drawn: Sequence[FloatArray],
    mode: Form,
    interval: float,
    what: str,
    n_persons: int = 0,
) -> GlobalRank:
    """The leaderboard of a matrix (M, M), with replicates of it in blocks (b, M, M)."""
    strength = _strength(matrix)
    found = connections(strength)
    score = global_scores(strength, found.component, form=mode)
    blocks = [global_scores(_strength(block), found.component, form=mode, start=score) for block in drawn]
    replicates = np.concatenate(blocks) if blocks else np.empty((0, len(models)))
    if len(replicates):
        replicates = score + _widening(n_persons) * (replicates - replicates.mean(axis=0))
    low, high = percentile_intervals(replicates, interval)
    best, worst = rank_ranges(low, high, found.component)
    return GlobalRank(
        score=score,
        low=low,
        high=high,
        rank=ranks_within(score, found.component),
        rank_best=best,
        rank_worst=worst,
        component=found.component,
        replicates=replicates,
        notes=(*notes_on(models, found, what), *((_ONE_PERSON,) if n_persons == 1 else ())),
    )


def _widening(n_persons: int) -> float:
    """What the spread of the replicates is multiplied by, so that intervals from few people cover what they say.

    Drawing n people again varies by (n - 1) / n of what drawing n new ones does, and a normal quantile takes that
    variance for known: the corrections of Student's interval (docs/decisions/0007-gmad-intervals.md).
    """
    student = stdtrit(n_persons - 1, 0.975) / ndtri(0.975)
    return float(student * np.sqrt(n_persons / (n_persons - 1)))


def _strength(matrix: FloatArray) -> FloatArray:
    """C (..., M, M): what speaks for the row's model; nothing where nothing was judged, or where an attack failed."""
    strength = np.maximum(np.nan_to_num(matrix), 0.0)
    diagonal = np.arange(matrix.shape[-1])
    strength[..., diagonal, diagonal] = 0.0
    return strength


def _replicates(
    who: IntArray,
    cell: IntArray,
    value: FloatArray,
    shape: tuple[int, ...],
    p: FloatArray,
    replicates: int,
    seed: int,
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Blocks of a and r, each (b, M, M), of judgements in which whole people are drawn with replacement."""
    if not replicates:
        return
    used, at = np.unique(cell, return_inverse=True)
    n_persons = int(who.max()) + 1
    sums, numbers = (_by_person(who, at, weights, n_persons) for weights in (value, np.ones(value.size)))
    if numbers.nnz > DENSE * np.prod(numbers.shape):
        sums, numbers = sums.toarray(), numbers.toarray()
    times = np.random.default_rng(seed).multinomial(n_persons, np.full(n_persons, 1 / n_persons), size=replicates)
    size = max(1, BLOCK_BYTES // (8 * int(np.prod(shape))))
    for start in range(0, replicates, size):
        drawn = times[start : start + size].astype(np.float64)
        s = np.full((len(drawn), int(np.prod(shape))), np.nan)
        s[:, used] = _divided(drawn @ sums, drawn @ numbers)
        s = s.reshape(-1, *shape)
        yield aggressiveness(s, p), resistance(s, p)


def _by_person(who: IntArray, at: IntArray, weights: FloatArray, n_persons: int) -> Any:
    """(persons, cells) sums of the weights, sparse."""
    return coo_array((weights, (who, at)), shape=(n_persons, int(at.max()) + 1)).tocsr()


def _judged(s: FloatArray, p: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Scores and weights (..., M, M, K), both zero where nothing was judged; p is the defender's."""
    judged = ~np.isnan(s)
    return np.where(judged, s, 0.0), judged * p


def _divided(total: FloatArray, weight: FloatArray) -> FloatArray:
    """total / weight, NaN where the weight is zero."""
    return np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)


def _cells(
    attacker: ArrayLike, defender: ArrayLike, level: ArrayLike, score: ArrayLike, n_models: int, n_levels: int
) -> tuple[IntArray, FloatArray]:
    """(n,) number of the cell, (attacker M + defender) K + level - 1, and (n,) score of each judgement, checked."""
    i, j, k = (np.asarray(column, dtype=np.int64) for column in (attacker, defender, level))
    value = np.asarray(score, dtype=np.float64)
    if not i.shape == j.shape == k.shape == value.shape or i.ndim != 1:
        raise RankingError(
            f"judgement columns differ in shape: attacker {i.shape}, defender {j.shape}, level {k.shape}, "
            f"score {value.shape}"
        )
    if not i.size:
        raise RankingError("there are no judgements to rank: collect at least one")
    for name, column, least, most in (
        ("attacker", i, 0, n_models - 1),
        ("defender", j, 0, n_models - 1),
        ("level", k, 1, n_levels),
        ("score", value, -FULL, FULL),
    ):
        wrong = ~((column >= least) & (column <= most))
        if wrong.any():
            at = int(np.argmax(wrong))
            raise RankingError(f"judgement {at + 1}: {name} is {column[at]:g}; it lies between {least:g} and {most:g}")
    if (i == j).any():
        raise RankingError(f"judgement {int(np.argmax(i == j)) + 1}: model {i[i == j][0]} attacks itself")
    return (i * n_models + j) * n_levels + k - 1, value


def _level_counts(counts: ArrayLike, n_models: int) -> FloatArray:
    p = np.asarray(counts, dtype=np.float64)
    if n_models < 2:
        raise RankingError(f"a ranking needs at least two models, {n_models} given")
    if p.ndim != 2 or p.shape[0] != n_models or not p.shape[1]:
        raise RankingError(f"level counts have shape {p.shape}; they need one row for each of {n_models} models")
    if not (np.isfinite(p) & (p >= 0)).all():
        raise RankingError("level counts must be finite and not negative")
    return p


def _square(matrix: ArrayLike, models: Sequence[str], what: str) -> FloatArray:
    values = np.array(matrix, dtype=np.float64)
    if len(models) < 2:
        raise RankingError(f"a ranking needs at least two models, {len(models)} given")
    if values.shape != (len(models), len(models)):
        raise RankingError(f"{what} has shape {values.shape}; {len(models)} models need a square table of them")
    np.fill_diagonal(values, np.nan)
    if np.isinf(values).any():
        i, j = np.argwhere(np.isinf(values))[0]
        raise RankingError(f'the {what} of "{models[i]}" and "{models[j]}" is infinite')
    return values
