"""How far people agree: Krippendorff's alpha, percent agreement, and both per pair of persons.

Judgements come in long form, one per row: person, item, value; a person sees some of the items and judges each at most
once (leave repeats out). Items judged by one person carry no information about agreement and are ignored.

Source: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011. All three levels are computed from sums per
item, without the coincidence matrix: the nominal disagreement of an item is n^2 - sum of n_c^2; the interval one is
2 (n sum of a^2 - (sum of a)^2); the ordinal metric is the interval metric of the values' mid-ranks. Only the ordinal
metric moves with the items drawn; what an item adds to the other two is fixed, so that a replicate is a weighted sum.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csr_array

from labeling.psychometrics.intervals import FloatArray, PsychometricsError

IntArray = NDArray[np.int64]
Level = Literal["nominal", "ordinal", "interval"]

BLOCK_ENTRIES = 1 << 21
ROUNDING = 1e-14


@dataclass(frozen=True)
class Agreement:
    """Agreement of all persons.

    alpha      1 = perfect, 0 = chance, below 0 = systematic disagreement; NaN when every value is the same
    low, high  95 % interval, items drawn with replacement; NaN without replicates
    percent    share of equal answers among all pairs of answers to one item, items weighted by their pairs
    persons, items, values  how many took part; items and values count only items with two or more judgements
    note       in words what is odd about the figures, else empty
    """

    alpha: float
    low: float
    high: float
    percent: float
    persons: int
    items: int
    values: int
    note: str


@dataclass(frozen=True)
class PairAgreement:
    """Agreement of two persons over the items both judged; every array has one entry per pair with common items.

    first, second  labels of the persons; items: common items; percent: share of equal answers; alpha: of the two
    """

    first: NDArray
    second: NDArray
    items: IntArray
    percent: FloatArray
    alpha: FloatArray


def krippendorff(
    person: ArrayLike,
    item: ArrayLike,
    value: ArrayLike,
    *,
    level: Level = "nominal",
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Agreement:
    """Alpha with its bootstrap interval, and percent agreement.

    value: (n,) numbers, or any labels for the nominal level.
    Raises PsychometricsError when a person judges an item twice or ordered values are no numbers.
    """
    people, items, codes, scale = _coded(person, item, value, level)
    table = _table(items, codes, len(scale))
    table = table[np.flatnonzero(table.sum(axis=1) > 1)]
    if not table.shape[0]:
        nan = float("nan")
        note = "no item has two judgements: agreement cannot be measured"
        return Agreement(nan, nan, nan, nan, len(np.unique(people)), 0, 0, note)
    n_items = table.shape[0]
    alpha = float(_alphas(table, scale, level, np.ones((1, n_items)))[0])
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK_ENTRIES // max(table.shape))
    drawn = [
        _alphas(table, scale, level, _drawn_items(rng, n_items, min(block, replicates - start)))
        for start in range(0, replicates, block)
    ]
    low, high = _interval(np.concatenate([np.empty(0), *drawn]), confidence)
    return Agreement(
        alpha=alpha,
        low=low,
        high=high,
        percent=_percent(table),
        persons=len(np.unique(people)),
        items=n_items,
        values=int(table.sum()),
        note=_note(alpha, n_items),
    )


def pair_agreement(person: ArrayLike, item: ArrayLike, value: ArrayLike, *, level: Level = "nominal") -> PairAgreement:
    """Percent agreement and alpha of every two persons with common items."""
    people, items, codes, scale = _coded(person, item, value, level)
    names = np.unique(np.asarray(person))
    own = [dict(zip(items[people == p].tolist(), codes[people == p].tolist(), strict=True)) for p in range(names.size)]
    rows = []
    for a, b in combinations(range(names.size), 2):
        common = sorted(own[a].keys() & own[b].keys())
        if common:
            one, other = (np.array([own[p][item] for item in common]) for p in (a, b))
            rows.append((a, b, *_two_person_agreement(one, other, scale, level)))
    if not rows:
        empty = np.empty(0)
        return PairAgreement(names[:0], names[:0], np.empty(0, dtype=np.int64), empty, empty)
    first, second, count, percent, alpha = (np.array(column) for column in zip(*rows, strict=True))
    return PairAgreement(names[first], names[second], count, percent, alpha)


def _two_person_agreement(
    first: IntArray, second: IntArray, scale: FloatArray, level: Level
) -> tuple[int, float, float]:
    each = np.arange(first.size)
    table = _table(np.concatenate([each, each]), np.concatenate([first, second]), len(scale))
    alpha = _alphas(table, scale, level, np.ones((1, table.shape[0])))[0]
    return first.size, float((first == second).mean()), float(alpha)


def _coded(
    person: ArrayLike, item: ArrayLike, value: ArrayLike, level: Level
) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """Person, item and value of each judgement as numbers 0, 1, ..., and the scale (v,) of the values in order."""
    if level not in get_args(Level):
        raise PsychometricsError(f'unknown level "{level}": use {", ".join(get_args(Level))}')
    values = np.asarray(value)
    labels, people = np.unique(np.asarray(person), return_inverse=True)
    item_labels, items = np.unique(np.asarray(item), return_inverse=True)
    if not people.shape == items.shape == values.shape or values.ndim != 1:
        raise PsychometricsError(
            f"columns differ in shape: person {people.shape}, item {items.shape}, value {values.shape}"
        )
    if not values.size:
        raise PsychometricsError("there are no judgements: collect at least two of one item")
    cells, count = np.unique(people * (items.max() + 1) + items, return_counts=True)
    if count.max() > 1:
        who, what = divmod(int(cells[count.argmax()]), int(items.max()) + 1)
        raise PsychometricsError(
            f'person "{labels[who]}" judged item "{item_labels[what]}" {count.max()} times: leave repeats out'
        )
    if level != "nominal" and not (np.issubdtype(values.dtype, np.number) and np.isfinite(values).all()):
        raise PsychometricsError(f"{level} alpha needs finite numbers, got values of type {values.dtype}")
    scale, codes = np.unique(values, return_inverse=True)
    numbers = scale.astype(np.float64) if level != "nominal" else np.arange(scale.size, dtype=np.float64)
    return people, items, codes, numbers


def _table(item: IntArray, code: IntArray, n_values: int) -> csr_array:
    """(items, v) sparse: how often each item got each value."""
    shape = (int(item.max()) + 1, n_values)
    return coo_array((np.ones(item.size), (item, code)), shape=shape).tocsr()


def _drawn_items(rng: np.random.Generator, n_items: int, replicates: int) -> FloatArray:
    """(replicates, items) how often each item is drawn when as many are drawn with replacement."""
    drawn = rng.integers(0, n_items, size=(replicates, n_items)) + n_items * np.arange(replicates)[:, None]
    return np.bincount(drawn.ravel(), minlength=replicates * n_items).reshape(replicates, n_items).astype(np.float64)


def _alphas(table: csr_array, scale: FloatArray, level: Level, weight: FloatArray) -> FloatArray:
    """(R,) alpha when item u counts weight[r, u] times; table (u, v), weight (R, u)."""
    judged = table.sum(axis=1)  # (u,)
    total = weight @ judged  # (R,)
    if level == "interval":
        centred = scale - (table.sum(axis=0) @ scale) / judged.sum()
        first, second = table @ centred, table @ centred**2  # (u,)
        observed = weight @ (2 * (judged * second - first**2) / (judged - 1))
        expected = 2 * (total * (weight @ second) - (weight @ first) ** 2)
        varied = expected > ROUNDING * (total * np.abs(centred).max()) ** 2
        return _ratio(observed, expected, total, varied)
    marginal = weight @ table  # (R, v)
    varied = (marginal > 0).sum(axis=1) > 1
    if level == "nominal":
        observed = weight @ ((judged**2 - (table**2).sum(axis=1)) / (judged - 1))
        return _ratio(observed, total**2 - (marginal**2).sum(axis=1), total, varied)
    ranks = np.cumsum(marginal, axis=1) - marginal / 2  # mid-ranks
    ranks -= (ranks * marginal).sum(axis=1, keepdims=True) / total[:, None]
    first, second = ranks @ table.T, ranks**2 @ table.T  # (R, u)
    observed = (weight * 2 * (judged * second - first**2) / (judged - 1)).sum(axis=1)
    return _ratio(observed, 2 * total * (marginal * ranks**2).sum(axis=1), total, varied)


def _ratio(observed: FloatArray, expected: FloatArray, total: FloatArray, varied: NDArray[np.bool_]) -> FloatArray:
    alpha = np.full(observed.shape, np.nan)
    alpha[varied] = 1 - (total[varied] - 1) * observed[varied] / expected[varied]
    return alpha


def _percent(table: csr_array) -> float:
    judged = table.sum(axis=1)
    equal = (table**2).sum() - judged.sum()
    return float(equal / (judged * (judged - 1)).sum())


def _note(alpha: float, n_items: int) -> str:
    if np.isnan(alpha):
        return "every judgement is the same: alpha is undefined without variation"
    if n_items == 1:
        return "only one item has two judgements: the interval, over items, says nothing"
    return ""


def _interval(alphas: FloatArray, confidence: float) -> tuple[float, float]:
    defined = alphas[~np.isnan(alphas)]
    if not defined.size:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
