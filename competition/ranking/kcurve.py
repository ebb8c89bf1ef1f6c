"""What the labels bought: the ranking at smaller k, and MAD beside its control arm of random images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import spearmanr

from competition.ranking.matrices import FloatArray, IntArray, Mode, RankingError
from competition.ranking.perron import Standing, rank_judgements, ranks
from labeling.psychometrics.intervals import wilson
from labeling.psychometrics.ranks import rank_ranges

STEP = 5


@dataclass(frozen=True)
class KCurve:
    """The ranking from the first k labelled images of every duel.

    k      (s,) 5, 10, 15, ... and the full k last
    srcc   (s,) Spearman correlation of the scores with those at the full k; NaN where all scores are equal
    score  (s, m) Perron scores
    rank   (s, m) ranks, 1 = best
    images (s,) labelled images used
    """

    k: IntArray
    srcc: FloatArray
    score: FloatArray
    rank: IntArray
    images: IntArray


@dataclass(frozen=True)
class ControlArm:
    """Accuracy of each model on random images labelled with the same protocol.

    correct, images (m,) counts; accuracy (m,), NaN without images; low, high (m,) 95 % Wilson bounds; rank (m,)
    """

    correct: IntArray
    images: IntArray
    accuracy: FloatArray
    low: FloatArray
    high: FloatArray
    rank: IntArray


@dataclass(frozen=True)
class ArmComparison:
    """MAD beside its control arm.

    srcc                     Spearman correlation of the two orders of the models; NaN where one arm ties them all
    mad_images, control_images  labelled images (an image in two duels counts twice)
    mad_falsifying, control_falsifying  share of the labelled images on which at least one model is wrong
    mad_separated, control_separated    pairs of models whose 95 % intervals do not overlap
    pairs                    number of pairs of models
    """

    srcc: float
    mad_images: int
    control_images: int
    mad_falsifying: float
    control_falsifying: float
    mad_separated: int
    control_separated: int
    pairs: int


def k_curve(
    models: Sequence[str],
    i: ArrayLike,
    j: ArrayLike,
    position: ArrayLike,
    i_correct: ArrayLike,
    j_correct: ArrayLike,
    *,
    step: int = STEP,
    mode: Mode = "smoothed",
) -> KCurve:
    """Ranks with the first k labelled images of each duel, for k = step, 2 step, ... and all of them.

    position: (n,) any number that orders a duel's images as they were selected (rank of the exhibit, row number);
    the other arguments as in `rank_judgements`. Dropped exhibits are simply absent, so k counts labelled images.
    """
    if step < 1:
        raise RankingError(f"the step of the k-curve must be 1 or more, {step} given")
    i, j = np.asarray(i, dtype=np.int64), np.asarray(j, dtype=np.int64)
    right_i, right_j = np.asarray(i_correct), np.asarray(j_correct)
    place = _place_in_duel(np.minimum(i, j), np.maximum(i, j), np.asarray(position))
    full = int(place.max(initial=-1)) + 1
    steps = np.array([*range(step, full, step), full], dtype=np.int64)
    standings = [
        rank_judgements(models, i[kept], j[kept], right_i[kept], right_j[kept], replicates=0, mode=mode)
        for kept in (place < k for k in steps)
    ]
    score = np.stack([standing.score for standing in standings])
    return KCurve(
        k=steps,
        srcc=np.array([_spearman(row, score[-1]) for row in score]),
        score=score,
        rank=np.stack([standing.rank for standing in standings]),
        images=np.array([np.minimum(standings[-1].cases.images, k).sum() for k in steps]),
    )


def control_accuracy(correct: ArrayLike, labelled: ArrayLike | None = None, level: float = 0.95) -> ControlArm:
    """Accuracy on the control arm.

    correct: (r, m) whether each model is right on each random image; labelled: (r, m) which entries are known, all by
    default.
    """
    right = np.asarray(correct, dtype=np.bool_)
    known = np.ones_like(right) if labelled is None else np.asarray(labelled, dtype=np.bool_)
    if right.ndim != 2 or known.shape != right.shape:
        raise RankingError(f"correct and labelled must both be (images, models), got {right.shape} and {known.shape}")
    hits, images = (right & known).sum(axis=0), known.sum(axis=0)
    low, high = wilson(hits, images, level)
    accuracy = np.divide(hits, images, out=np.full(images.size, np.nan), where=images > 0)
    return ControlArm(hits, images, accuracy, low, high, ranks(np.nan_to_num(accuracy, nan=-1.0)))


def compare_arms(standing: Standing, control_correct: ArrayLike) -> ArmComparison:
    """Compares a MAD standing with its control arm, control_correct (r, m) as in `control_accuracy`."""
    right = np.asarray(control_correct, dtype=np.bool_)
    control = control_accuracy(right)
    both, one, none = standing.cases.totals()
    m = len(standing.models)
    return ArmComparison(
        srcc=_spearman(standing.score, control.accuracy),
        mad_images=both + one + none,
        control_images=len(right),
        mad_falsifying=(one + none) / (both + one + none),
        control_falsifying=float((~right).any(axis=1).mean()) if len(right) else float("nan"),
        mad_separated=_separated(standing.low, standing.high, standing.component),
        control_separated=_separated(control.low, control.high),
        pairs=m * (m - 1) // 2,
    )


def _place_in_duel(first: IntArray, second: IntArray, position: np.ndarray) -> IntArray:
    """(n,) 0, 1, 2, ... within each duel, in the order of `position`."""
    order = np.lexsort((position, second, first))
    starts = np.ones(order.size, dtype=np.bool_)
    starts[1:] = (np.diff(first[order]) != 0) | (np.diff(second[order]) != 0)
    begin = np.maximum.accumulate(np.where(starts, np.arange(order.size), 0))
    place = np.empty(order.size, dtype=np.int64)
    place[order] = np.arange(order.size) - begin
    return place


def _spearman(first: FloatArray, second: FloatArray) -> float:
    known = ~(np.isnan(first) | np.isnan(second))
    first, second = first[known], second[known]
    if first.size < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first, second).statistic)


def _separated(low: FloatArray, high: FloatArray, component: IntArray | None = None) -> int:
    best, _ = rank_ranges(low, high, component)
    return int((best - 1).sum())
