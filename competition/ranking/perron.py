"""Ranking of a MAD competition from its verdicts or from its judgements.

`rank_from_verdicts` takes a table of verdicts by model name; `rank_judgements` takes arrays and, where the single
judgements are known, lets the intervals count the annotators' disagreement too. Both rank by the Perron vector of the
pairwise ratios (arXiv 2002.10648, section 2.2) with bootstrap intervals and rank ranges.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from competition.ranking.bootstrap import Duels, bootstrap_scores, centred, collect_duels, redrawn_verdicts
from competition.ranking.cases import Cases, count_cases
from competition.ranking.matrices import (
    BoolArray,
    FloatArray,
    IntArray,
    Mode,
    RankingError,
    accuracy_matrix,
    assemble,
    check_mode,
    components_of,
    count_matrices,
    duel_ratio,
    perron_vectors,
)
from labeling.psychometrics.ranks import percentile_intervals, rank_ranges

DEFAULT_REPLICATES = 1000


@dataclass(frozen=True)
class Place:
    """One line of a ranking.

    score      entry of the Perron vector; the scores of all models sum to one, higher = better
    low, high  95 % bootstrap interval of the score; NaN when no replicates were asked for
    rank       1 = best; equal scores share the better rank
    rank_best, rank_worst  ranks that the intervals allow
    n_images   labelled images of the model's duels; an image in two duels counts twice
    """

    model: str
    score: float
    low: float
    high: float
    rank: int
    rank_best: int
    rank_worst: int
    n_images: int


@dataclass(frozen=True)
class Ranking:
    """Places, best first."""

    places: tuple[Place, ...]

    def rows(self) -> list[dict[str, str | float | int]]:
        """One dictionary per place, best first, with the fields of Place as keys."""
        return [asdict(place) for place in self.places]


@dataclass(frozen=True)
class Standing:
    """Everything a MAD competition says, models in the order given.

    models      (m,) names
    correct     c (m, m): labelled images of duel {i, j} on which model i is right
    images      n (m, m): labelled images of duel {i, j}
    accuracy    a (m, m): c / n, NaN where the duel has no labelled image
    ratio       B (m, m): the matrix whose Perron vector is the score; off the diagonal, 0 marks a missing duel whose
                value is implied by the others (docs/decisions/0002-missing-duels.md)
    component   (m,) number of the group of models that labelled duels connect; ranks between groups mean nothing
    score, low, high, rank, rank_best, rank_worst, n_images  (m,), as in Place
    cases       case I/II/III counts of every duel with labelled images
    replicates  (R, m) bootstrap scores centred on the scores, for plots of the uncertainty
    """

    models: tuple[str, ...]
    correct: IntArray
    images: IntArray
    accuracy: FloatArray
    ratio: FloatArray
    component: IntArray
    score: FloatArray
    low: FloatArray
    high: FloatArray
    rank: IntArray
    rank_best: IntArray
    rank_worst: IntArray
    n_images: IntArray
    cases: Cases
    replicates: FloatArray

    @property
    def connected(self) -> bool:
        """Whether every model can be compared with every other through labelled duels."""
        return not self.component.any()

    def ranking(self) -> Ranking:
        """The standing as a table, best first; equal ranks in the order of the models."""
        columns = (self.score, self.low, self.high, self.rank, self.rank_best, self.rank_worst, self.n_images)
        values = [column.tolist() for column in columns]
        places = [Place(model, *line) for model, *line in zip(self.models, *values, strict=True)]
        return Ranking(tuple(sorted(places, key=lambda place: place.rank)))


def rank_from_verdicts(
    model_a: Sequence[str],
    model_b: Sequence[str],
    path: Sequence[str],
    a_correct: ArrayLike,
    b_correct: ArrayLike,
    *,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    mode: Mode = "smoothed",
) -> Ranking:
    """Ranks models from one verdict per row: image `path` of the duel of model_a and model_b, who was right on it.

    All arguments have one entry per row; a_correct and b_correct hold booleans or 0/1. The order of the rows, and of
    the two models within a row, changes nothing. replicates=0 gives scores without intervals.
    Raises RankingError on no rows, lengths that differ, other values than 0/1, a model against itself, or the same
    image twice in one duel.
    """
    columns = {"model_a": model_a, "model_b": model_b, "path": path, "a_correct": a_correct, "b_correct": b_correct}
    lengths = {name: len(np.atleast_1d(np.asarray(column))) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise RankingError(f"verdict columns differ in length: {lengths}")
    if not len(path):
        raise RankingError("there are no verdicts to rank: label at least one image")
    models = sorted({*model_a, *model_b})
    number = {model: position for position, model in enumerate(models)}
    i = np.array([number[model] for model in model_a], dtype=np.int64)
    j = np.array([number[model] for model in model_b], dtype=np.int64)
    _check_verdict_rows(model_a, model_b, path, i, j)
    return rank_judgements(models, i, j, a_correct, b_correct, replicates=replicates, seed=seed, mode=mode).ranking()


def rank_judgements(
    models: Sequence[str],
    i: ArrayLike,
    j: ArrayLike,
    i_correct: ArrayLike,
    j_correct: ArrayLike,
    answers: ArrayLike | None = None,
    *,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    mode: Mode = "smoothed",
    level: float = 0.95,
) -> Standing:
    """Ranks models from labelled exhibits, one per row.

    models     (m,) names, m >= 2; a model without labelled images is ranked too, with every rank possible
    i, j       (n,) numbers of the two duelling models, in either order
    i_correct, j_correct  (n,) the settled verdict: booleans or 0/1
    answers    (n, 4) how many judgements said: both right, only i, only j, neither ("cannot tell" is left out). With
               it the bootstrap draws annotators within images as well as images within duels; a row of zeros takes
               its verdict for certain. Without it, images alone are drawn.
    replicates bootstrap size; 0 gives NaN intervals and open rank ranges
    mode       "smoothed": (c + 1/2) / (n + 1) before dividing; "published": the plain ratio, an error on zeros

    Raises RankingError when an argument has the wrong shape or values, or the published ratio is undefined.
    """
    check_mode(mode)
    n_models = len(models)
    if n_models < 2:
        raise RankingError(f"a ranking needs at least two models, {n_models} given")
    if replicates < 0:
        raise RankingError(f"replicates must be 0 or more, {replicates} given")
    i, j, right_i, right_j, counts = _exhibits(i, j, i_correct, j_correct, answers, models)
    c, n = count_matrices(i, j, right_i, right_j, n_models)
    if mode == "published":
        _check_published(c, n, models)
    component = components_of(n)
    outcome = np.where(right_i, np.where(right_j, 0, 1), np.where(right_j, 2, 3))
    duels = collect_duels(i, j, outcome, redrawn_verdicts(counts, outcome), n_models)
    matrix = ratio_matrix(duels, component, mode)
    score = perron_vectors(matrix[None])[0]
    drawn = centred(bootstrap_scores(duels, component, replicates=replicates, seed=seed, mode=mode), score)
    low, high = percentile_intervals(drawn, level)
    best, worst = rank_ranges(low, high, component)
    return Standing(
        models=tuple(models),
        correct=c,
        images=n,
        accuracy=accuracy_matrix(c, n),
        ratio=matrix,
        component=component,
        score=score,
        low=low,
        high=high,
        rank=ranks(score),
        rank_best=best,
        rank_worst=worst,
        n_images=n.sum(axis=1),
        cases=count_cases(duels),
        replicates=drawn,
    )


def answer_counts(image: ArrayLike, says_i: ArrayLike, says_j: ArrayLike, n_images: int) -> IntArray:
    """(n_images, 4) answers of `rank_judgements` from single judgements, one per row.

    image: (k,) number of the judged image, 0..n_images-1; says_i, says_j: (k,) whether the person says the image
    contains what model i, model j predicted. Leave out the judgements that say "cannot tell".
    """
    kind = 2 * (1 - np.asarray(says_i, dtype=np.int64)) + 1 - np.asarray(says_j, dtype=np.int64)
    cells = np.asarray(image, dtype=np.int64) * 4 + kind
    return np.bincount(cells, minlength=4 * n_images).reshape(n_images, 4).astype(np.int64)


def ratio_matrix(duels: Duels, component: IntArray, mode: Mode = "smoothed") -> FloatArray:
    """B (m, m) of the verdicts counted in `duels`."""
    ratio = duel_ratio(duels.outcomes[:, 0] + duels.outcomes[:, 1], duels.outcomes[:, 0] + duels.outcomes[:, 2], mode)
    return assemble(ratio[None], duels.first, duels.second, component)[0]


def ranks(score: FloatArray) -> IntArray:
    """(m,) rank of each score, 1 = highest; scores equal to 9 digits share the better rank."""
    ordered = np.sort(score)[::-1]
    return 1 + (ordered[None, :] > score[:, None] * (1 + 1e-9)).sum(axis=1)


def _exhibits(
    i: ArrayLike,
    j: ArrayLike,
    i_correct: ArrayLike,
    j_correct: ArrayLike,
    answers: ArrayLike | None,
    models: Sequence[str],
) -> tuple[IntArray, IntArray, BoolArray, BoolArray, IntArray]:
    """Checked arrays of the exhibits, turned so that i < j in every row."""
    i, j = np.asarray(i, dtype=np.int64), np.asarray(j, dtype=np.int64)
    right_i, right_j = _booleans(i_correct, "i_correct"), _booleans(j_correct, "j_correct")
    if not i.shape == j.shape == right_i.shape == right_j.shape or i.ndim != 1:
        raise RankingError(
            f"exhibit columns differ in shape: i {i.shape}, j {j.shape}, i_correct {right_i.shape}, "
            f"j_correct {right_j.shape}"
        )
    if i.size == 0:
        raise RankingError("there are no verdicts to rank: label at least one image")
    for name, column in (("i", i), ("j", j)):
        if column.min() < 0 or column.max() >= len(models):
            raise RankingError(f"{name} holds model number {column.max()}, but there are {len(models)} models")
    if (i == j).any():
        raise RankingError(f'row {np.flatnonzero(i == j)[0]} is a duel of "{models[i[i == j][0]]}" with itself')
    counts = np.zeros((i.size, 4), dtype=np.int64) if answers is None else np.asarray(answers, dtype=np.int64)
    if counts.shape != (i.size, 4) or (counts < 0).any():
        raise RankingError(f"answers must hold counts of shape ({i.size}, 4), got shape {counts.shape}")
    swap = i > j
    counts = np.where(swap[:, None], counts[:, [0, 2, 1, 3]], counts)
    right_i, right_j = np.where(swap, right_j, right_i), np.where(swap, right_i, right_j)
    return np.minimum(i, j), np.maximum(i, j), right_i, right_j, counts


def _booleans(values: ArrayLike, name: str) -> BoolArray:
    array = np.asarray(values)
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        wrong = array[~np.isin(array, (0, 1))][0]
        raise RankingError(f'{name} holds "{wrong}": verdicts are true or false')
    return array.astype(np.bool_)


def _check_verdict_rows(
    model_a: Sequence[str], model_b: Sequence[str], path: Sequence[str], i: IntArray, j: IntArray
) -> None:
    seen: set[tuple[int, int, str]] = set()
    for row, key in enumerate(zip(np.minimum(i, j).tolist(), np.maximum(i, j).tolist(), path, strict=True)):
        if key[0] == key[1]:
            raise RankingError(f'row {row + 1}: model "{model_a[row]}" duels with itself')
        if key in seen:
            raise RankingError(
                f'row {row + 1}: image "{path[row]}" has a second verdict in the duel of "{model_a[row]}" and '
                f'"{model_b[row]}": keep one'
            )
        seen.add(key)


def _check_published(c: IntArray, n: IntArray, models: Sequence[str]) -> None:
    zeros = np.argwhere((n > 0) & (c == 0))
    if len(zeros):
        i, j = zeros[0]
        raise RankingError(
            f'model "{models[i]}" is right on none of the {n[i, j]} labelled images of its duel with "{models[j]}", so '
            f'the published ratio is undefined ({len(zeros)} such cases): use mode="smoothed"'
        )
