"""Quality of items from ratings: the mean opinion score, and two ways to take the people out of it.

Ratings come in long form, one per row: person, item, value. Persons see some of the items. Results are arrays in the
order of the sorted labels, which come with them.

Component: persons and items that ratings join. A person's bias is known only against those who saw the same items, so
that within each component the biases are centred on zero, and qualities of different components rest on the
assumption that their persons are alike on average; `note` says when that is so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.special import ndtri, stdtrit

from labeling.psychometrics.intervals import FloatArray, PsychometricsError

IntArray = NDArray[np.int64]
LikelihoodMode = Literal["restricted", "published"]

TOLERANCE = 1e-8
MAX_ITERATIONS = 2_000
# Least squares stop when the residual has shrunk by this share: beyond what double precision lets it.
LEAST_RESIDUAL = 1e-13
# A person whose residuals vanish would get infinite weight and the likelihood no maximum: nobody is taken to be more
# precise than this share of the spread of all ratings.
LEAST_INCONSISTENCY = 0.05
# Bias alone nearly explains fewer ratings than this: such a person's inconsistency is that of all ratings together.
FEWEST_RATINGS = 5
# BT.500 and P.910 ask for this many observers: with so many ratings an item the published likelihood is steady.
ENOUGH_RATINGS = 15


@dataclass(frozen=True)
class Scores:
    """Quality of the items.

    items      (k,) sorted labels
    quality    (k,) on the scale of the ratings
    error      (k,) standard error; NaN with one rating, or where nothing is left to tell noise from quality
    low, high  (k,) 95 % interval; NaN with the error
    ratings    (k,) ratings of the item
    note       in words what the figures cannot say, else empty
    """

    items: NDArray
    quality: FloatArray
    error: FloatArray
    low: FloatArray
    high: FloatArray
    ratings: IntArray
    note: str = ""


@dataclass(frozen=True)
class People:
    """What the ratings say about the persons.

    persons        (p,) sorted labels
    bias           (p,) how far the person rates above the others; ratings-weighted mean zero in each component
    inconsistency  (p,) standard deviation of what neither quality nor bias explains; NaN where every rating is needed
                   to estimate those
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
    return _scores(labels, items, values, level, _single_note(np.bincount(items)))


def bias_removed_scores(
    person: ArrayLike, item: ArrayLike, value: ArrayLike, level: float = 0.95
) -> tuple[Scores, People]:
    """Mean opinion scores after each person's mean deviation from the item means is taken off, iterated to the end.

    ITU-T P.913 section 12.4 does one pass; with sparse designs the item means themselves move with the persons who saw
    them, hence the iteration. It ends at the least squares of value = quality + bias, which conjugate gradients reach
    in few steps however thinly the persons overlap.
    """
    labels, names, design = _long(person, item, value)
    quality, bias = design.least_squares(np.ones(names.size), np.zeros(names.size))
    unbiased = design.values - bias[design.people]
    notes = [_single_note(design.per_item), design.note()]
    scores = _scores(labels, design.items, unbiased, level, "; ".join(filter(None, notes)))
    residual = unbiased - quality[design.items]
    spread = np.sqrt(np.bincount(design.people, residual**2) / design.per_person)
    return scores, People(names, bias, spread, design.per_person)


def maximum_likelihood_scores(
    person: ArrayLike,
    item: ArrayLike,
    value: ArrayLike,
    level: float = 0.95,
    *,
    mode: LikelihoodMode | None = None,
) -> tuple[Scores, People]:
    """Quality, bias and inconsistency by maximum likelihood of value = quality_j + bias_i + inconsistency_i * noise.

    ITU-T P.910 Annex E (Li et al. 2020, "A simple model for subject behavior in subjective experiments"): quality and
    bias given the inconsistencies (weights 1 / inconsistency^2), then the inconsistencies, in turn until the quality
    vector moves less than 1e-8.

    mode "published" takes a person's mean squared residual for the squared inconsistency. With few persons per item
    that runs away: whoever happens to be nearest to the means gets more weight, hence smaller residuals, and so on.
    "restricted" divides by the degrees of freedom left to the person's residuals (1 - own share of the item's weight,
    less the bias) instead of by their number, which is restricted maximum likelihood and does not run away. None, the
    default, is "published" from 15 ratings of the median item on, as many observers as the Recommendations ask for,
    and "restricted" below. Both take the inconsistencies for known when they state an interval, which is therefore a
    little short.
    """
    labels, names, design = _long(person, item, value)
    if mode is not None and mode not in get_args(LikelihoodMode):
        raise PsychometricsError(f'unknown mode "{mode}": use {" or ".join(map(repr, get_args(LikelihoodMode)))}')
    chosen = mode or likelihood_mode(design.per_item)
    quality, bias, inconsistency, error = _likelihood(design, chosen)
    half = ndtri((1 + level) / 2) * error
    notes = [design.note()]
    if np.isnan(inconsistency).all():
        notes.append("there are no more ratings than qualities and biases to estimate: noise cannot be told from them")
    note = "; ".join(filter(None, notes))
    scores = Scores(labels, quality, error, quality - half, quality + half, design.per_item, note)
    return scores, People(names, bias, inconsistency, design.per_person)


def likelihood_mode(ratings: ArrayLike) -> LikelihoodMode:
    """The mode that items with so many ratings, (k,), call for; see `maximum_likelihood_scores`."""
    return "published" if np.median(np.asarray(ratings)) >= ENOUGH_RATINGS else "restricted"


@dataclass(frozen=True)
class _Design:
    """Who rated what: codes and values of the n ratings, and what least squares need of them.

    count  (p, k) sparse, ratings of each person for each item; total (p, k) sparse, their sums
    group  (p,) component of each person, and n_groups of them
    """

    people: IntArray
    items: IntArray
    values: FloatArray
    per_person: IntArray
    per_item: IntArray
    count: csr_array
    total: csr_array
    group: IntArray
    n_groups: int

    def least_squares(self, weight: FloatArray, start: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Quality (k,) and bias (p,) that minimise the weighted squares of value - quality - bias.

        weight: (p,) of each person's ratings; start: (p,) bias to begin from. The quality is eliminated, which leaves
        a system in the biases that is singular only by the level of each component.
        """
        norm = self.count.T @ weight  # (k,)
        mean = (self.total.T @ weight) / norm
        diagonal = weight * self.per_person

        def system(bias: FloatArray) -> FloatArray:
            return diagonal * bias - weight * (self.count @ ((self.count.T @ (weight * bias)) / norm))

        goal = weight * (self.total.sum(axis=1) - self.count @ mean)
        bias = self._centred(_conjugate_gradients(system, goal, diagonal, start))
        quality = mean - (self.count.T @ (weight * bias)) / norm
        return quality, bias

    def _centred(self, bias: FloatArray) -> FloatArray:
        """Biases with ratings-weighted mean zero in each component: the ratings keep their mean."""
        size = np.bincount(self.group, self.per_person, self.n_groups)
        return bias - (np.bincount(self.group, self.per_person * bias, self.n_groups) / size)[self.group]

    @property
    def freedom(self) -> int:
        """Ratings left over once quality and bias are estimated."""
        return self.values.size - self.per_item.size - self.per_person.size + self.n_groups

    def note(self) -> str:
        if self.n_groups == 1:
            return ""
        return (
            f"the ratings fall into {self.n_groups} groups of persons and items without a rating in common: biases are "
            "known within a group only, and items of different groups compare as far as their raters are alike"
        )


def _likelihood(design: _Design, mode: LikelihoodMode) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Quality (k,), bias and inconsistency (p,), and standard error of the quality (k,)."""
    people, items, values = design.people, design.items, design.values
    spread = float(values.std()) or 1.0
    floor = LEAST_INCONSISTENCY * spread
    moved_least = max(TOLERANCE * min(1.0, spread), 1e-14 * float(np.abs(values).max()) * design.per_item.size**0.5)
    few = design.per_person < FEWEST_RATINGS
    weight = np.ones(design.per_person.size)
    quality, bias = design.least_squares(weight, np.zeros(weight.size))
    if design.freedom <= 0:
        unknown = np.full(weight.size, np.nan)
        return quality, bias, unknown, np.full(quality.size, np.nan)
    for _ in range(MAX_ITERATIONS):
        squares = np.bincount(people, (values - quality[items] - bias[people]) ** 2)
        freedom = design.per_person.astype(np.float64)
        if mode == "restricted":
            own_share = weight * (design.count @ (1 / (design.count.T @ weight)))
            freedom = (freedom - own_share) * (1 - 1 / design.per_person)
        variance = squares / np.maximum(freedom, 1.0)
        variance[few] = squares.sum() / max(freedom.sum(), 1.0)
        inconsistency = np.sqrt(variance)
        weight = (spread / np.maximum(inconsistency, floor)) ** 2
        following, bias = design.least_squares(weight, bias)
        moved, quality = np.linalg.norm(following - quality), following
        if moved < moved_least:
            break
    return quality, bias, inconsistency, spread / np.sqrt(design.count.T @ weight)


def _conjugate_gradients(
    system: Callable[[FloatArray], FloatArray], goal: FloatArray, diagonal: FloatArray, start: FloatArray
) -> FloatArray:
    """Solution of a positive semidefinite, consistent system, preconditioned with its diagonal."""
    found = start
    residual = goal - system(found)
    ready = residual / diagonal
    towards, size = ready, float(residual @ ready)
    least = LEAST_RESIDUAL**2 * max(float(goal @ (goal / diagonal)), size)
    for _ in range(2 * goal.size + 10):
        if size <= least:
            break
        curved = system(towards)
        bend = float(towards @ curved)
        if bend <= 0:  # nothing but rounding is left
            break
        found = found + size / bend * towards
        residual = residual - size / bend * curved
        ready = residual / diagonal
        before, size = size, float(residual @ ready)
        towards = ready + size / before * towards
    return found


def _scores(labels: NDArray, items: IntArray, values: FloatArray, level: float, note: str) -> Scores:
    count = np.bincount(items)
    mean = np.bincount(items, values) / count
    squares = np.bincount(items, (values - mean[items]) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(count > 1, np.sqrt(squares / (count - 1) / count), np.nan)
    half = stdtrit(np.maximum(count - 1, 1), (1 + level) / 2) * error
    return Scores(labels, mean, error, mean - half, mean + half, count, note)


def _single_note(count: IntArray) -> str:
    single = int((count == 1).sum())
    if not single:
        return ""
    return f"{single} of {count.size} items have a single rating: no standard error and no interval"


def _long(person: ArrayLike, item: ArrayLike, value: ArrayLike) -> tuple[NDArray, NDArray, _Design]:
    """Sorted labels of the items and of the persons, and the design."""
    labels, items = np.unique(np.asarray(item), return_inverse=True)
    names, people = np.unique(np.asarray(person), return_inverse=True)
    if items.shape != people.shape:
        raise PsychometricsError(f"columns differ in shape: person {people.shape}, item {items.shape}")
    values = _values(value, items.shape)
    shape = (names.size, labels.size)
    count = coo_array((np.ones(values.size), (people, items)), shape=shape).tocsr()
    total = coo_array((values, (people, items)), shape=shape).tocsr()
    graph = coo_array((np.ones(values.size), (people, names.size + items)), shape=(sum(shape), sum(shape)))
    n_groups, group = connected_components(graph.tocsr(), directed=False)
    design = _Design(
        people=people,
        items=items,
        values=values,
        per_person=np.bincount(people),
        per_item=np.bincount(items),
        count=count,
        total=total,
        group=group[: names.size],
        n_groups=int(n_groups),
    )
    return labels, names, design


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
