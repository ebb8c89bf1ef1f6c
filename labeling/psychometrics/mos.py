"""Quality of items from ratings: the mean opinion score, and two ways to take the people out of it.

Ratings come in long form, one per row: person, item, value. Persons see some of the items. Results are arrays in the
order of the sorted labels, which come with them.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from labeling.psychometrics.intervals import FloatArray, PsychometricsError

IntArray = NDArray[np.int64]
LikelihoodMode = Literal["restricted", "published"]

TOLERANCE = 1e-8
MAX_ITERATIONS = 10_000
# A person whose residuals vanish would get infinite weight and the likelihood no maximum: nobody is taken to be more
# precise than this share of the spread of all ratings.
LEAST_INCONSISTENCY = 0.05
# Bias alone nearly explains fewer ratings than this: such a person's inconsistency is that of all ratings together.
FEWEST_RATINGS = 5


@dataclass(frozen=True)
class Scores:
    """Quality of the items.

    items      (k,) sorted labels
    quality    (k,) on the scale of the ratings
    error      (k,) standard error; NaN with one rating
    low, high  (k,) 95 % interval; NaN with one rating
    ratings    (k,) ratings of the item
    """

    items: NDArray
    quality: FloatArray
    error: FloatArray
    low: FloatArray
    high: FloatArray
    ratings: IntArray


@dataclass(frozen=True)
class People:
    """What the ratings say about the persons.

    persons        (p,) sorted labels
    bias           (p,) how far the person rates above the others; ratings-weighted mean zero
    inconsistency  (p,) standard deviation of what neither quality nor bias explains
    ratings        (p,) ratings the person gave
    """

    persons: NDArray
    bias: FloatArray
    inconsistency: FloatArray
    ratings: IntArray


def mean_opinion_scores(item: ArrayLike, value: ArrayLike, level: float = 0.95) -> Scores:
    """Mean of each item with its t(n-1) interval from its own ratings (ITU-T P.910, BT.500)."""
    labels, items = np.unique(np.asarray(item), return_inverse=True)
    values = _values(value, items.shape)
    return _scores(labels, items, values, level)


def bias_removed_scores(
    person: ArrayLike, item: ArrayLike, value: ArrayLike, level: float = 0.95
) -> tuple[Scores, People]:
    """Mean opinion scores after each person's mean deviation from the item means is taken off, iterated to the end.

    ITU-T P.913 section 12.4 does one pass; with sparse designs the item means themselves move with the persons who saw
    them, hence the iteration (least squares of value = quality + bias).
    """
    labels, items, names, people, values = _long(person, item, value)
    bias = np.zeros(names.size)
    for _ in range(MAX_ITERATIONS):
        quality = _mean(values - bias[people], items, labels.size)
        following = _centred(_mean(values - quality[items], people, names.size), people)
        moved, bias = np.abs(following - bias).max(), following
        if moved < TOLERANCE:
            break
    unbiased = values - bias[people]
    scores = _scores(labels, items, unbiased, level)
    residual = unbiased - scores.quality[items]
    spread = np.sqrt(_mean(residual**2, people, names.size))
    return scores, People(names, bias, spread, np.bincount(people))


def maximum_likelihood_scores(
    person: ArrayLike, item: ArrayLike, value: ArrayLike, level: float = 0.95, *, mode: LikelihoodMode = "restricted"
) -> tuple[Scores, People]:
    """Quality, bias and inconsistency by maximum likelihood of value = quality_j + bias_i + inconsistency_i * noise.

    ITU-T P.910 Annex E (Li et al. 2020, "A simple model for subject behavior in subjective experiments"): alternate
    quality (weights 1 / inconsistency^2), bias and inconsistency until the quality vector moves less than 1e-8.

    mode "published" takes a person's mean squared residual for the squared inconsistency. With few persons per item
    that runs away: whoever happens to be nearest to the means gets more weight, hence smaller residuals, and so on.
    "restricted" divides by the degrees of freedom left to the person's residuals (1 - own share of the item's weight,
    less the bias) instead of by their number, which is restricted maximum likelihood and does not run away. Both take
    the inconsistencies for known when they state an interval, which is therefore a little short.
    """
    labels, items, names, people, values = _long(person, item, value)
    if mode not in get_args(LikelihoodMode):
        raise PsychometricsError(f'unknown mode "{mode}": use {" or ".join(map(repr, get_args(LikelihoodMode)))}')
    floor = LEAST_INCONSISTENCY * (values.std() or 1.0)
    count = np.bincount(people)
    few = count < FEWEST_RATINGS
    weight = np.ones(values.size)
    total = np.bincount(items, weight)
    quality = _mean(values, items, labels.size)
    for _ in range(MAX_ITERATIONS):
        bias = _centred(_mean(values - quality[items], people, names.size), people)
        squares = (values - quality[items] - bias[people]) ** 2
        freedom = np.ones(values.size)
        if mode == "restricted":
            freedom = (1 - weight / total[items]) * (1 - 1 / count[people])
        variance = np.bincount(people, squares) / np.maximum(np.bincount(people, freedom), 1.0)
        variance[few] = squares.sum() / max(freedom.sum(), 1.0)
        inconsistency = np.maximum(np.sqrt(variance), floor)
        weight = 1 / inconsistency[people] ** 2
        total = np.bincount(items, weight)
        following = np.bincount(items, weight * (values - bias[people])) / total
        moved, quality = np.linalg.norm(following - quality), following
        if moved < TOLERANCE:
            break
    error = 1 / np.sqrt(total)
    half = ndtri((1 + level) / 2) * error
    scores = Scores(labels, quality, error, quality - half, quality + half, np.bincount(items))
    return scores, People(names, bias, inconsistency, count)


def _scores(labels: NDArray, items: IntArray, values: FloatArray, level: float) -> Scores:
    count = np.bincount(items)
    mean = _mean(values, items, labels.size)
    squares = np.bincount(items, (values - mean[items]) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(count > 1, np.sqrt(squares / (count - 1) / count), np.nan)
    half = stdtrit(np.maximum(count - 1, 1), (1 + level) / 2) * error
    return Scores(labels, mean, error, mean - half, mean + half, count)


def _mean(values: FloatArray, group: IntArray, n_groups: int) -> FloatArray:
    return np.bincount(group, values, n_groups) / np.bincount(group, minlength=n_groups)


def _centred(bias: FloatArray, people: IntArray) -> FloatArray:
    """Bias whose mean over the ratings is zero: the ratings keep their overall mean."""
    return bias - bias[people].mean()


def _long(
    person: ArrayLike, item: ArrayLike, value: ArrayLike
) -> tuple[NDArray, IntArray, NDArray, IntArray, FloatArray]:
    labels, items = np.unique(np.asarray(item), return_inverse=True)
    names, people = np.unique(np.asarray(person), return_inverse=True)
    if items.shape != people.shape:
        raise PsychometricsError(f"columns differ in shape: person {people.shape}, item {items.shape}")
    return labels, items, names, people, _values(value, items.shape)


def _values(value: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    values = np.asarray(value, dtype=np.float64)
    if values.shape != shape or values.ndim != 1:
        raise PsychometricsError(f"columns differ in shape: value {values.shape}, item {shape}")
    if not values.size:
        raise PsychometricsError("there are no ratings: collect at least one")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise PsychometricsError(f"rating {row} is {values[row]}: leave missing ratings out")
    return values
