"""How well scores agree with labels, each measure with a bootstrap interval.

srcc: Spearman's rank correlation. krcc: Kendall's tau-b. plcc, rmse: Pearson's correlation and root mean square error
after the logistic of four parameters, as ITU-T J.149 and VQEG do it; a straight line stands in where no logistic can be
fitted, and the note says so. accuracy: share of right classes with its Wilson interval.

Labels of several scales are never pooled: a measure is taken inside each scale and averaged by the number of images.
The bootstrap draws images, or whole groups of the same content where groups are given; it keeps the logistic that was
fitted to all images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from labeling.psychometrics.intervals import wilson
from labeling.psychometrics.logistic import CalibrationError, fit_logistic

REPLICATES = 1_000
MEASURES = ("srcc", "plcc", "krcc", "rmse")
_LEAST = 3  # images of a scale: of two, every correlation is 1 or -1
_LEAST_GROUPS = 5  # below, a bootstrap over contents has next to nothing to draw from
_PAIRS_AT_ONCE = 4_000_000
_PAIRS_IN_ALL = 2e10  # beyond this many the bootstrap of Kendall's tau takes fewer replicates

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A value with its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float

    def plain(self) -> dict[str, float | None]:
        """JSON: None for NaN."""
        return {
            name: None if np.isnan(number) else float(number)
            for name, number in (("value", self.value), ("low", self.low), ("high", self.high))
        }


@dataclass(frozen=True)
class Agreement:
    """What scores and opinion scores have in common. n: images; groups: what the bootstrap drew."""

    srcc: Measured
    plcc: Measured
    krcc: Measured
    rmse: Measured
    n: int
    groups: int
    notes: tuple[str, ...] = ()
    replicates: dict[str, Floats] = field(default_factory=dict, repr=False)

    def plain(self) -> dict[str, Any]:
        """JSON."""
        measured = {name: getattr(self, name).plain() for name in MEASURES}
        return {**measured, "n": self.n, "groups": self.groups, "notes": list(self.notes)}


def agreement(
    scores: npt.ArrayLike,
    mos: npt.ArrayLike,
    *,
    scale: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Agreement:
    """All measures of quality.

    scores: (n,) higher = better; mos: (n,) on 0..100. scale: (n,) of each label, None for one. groups: (n,) contents,
    None: each image by itself. Images without a finite score are left out. Scales with fewer than three images, or with
    one score or one MOS, have no measure and are left out too; without any other, all measures are NaN.
    """
    x, y, scales, clusters = _known(scores, mos, scale, groups)
    parts = _parts(x, y, scales)
    if not parts:
        nothing = Measured(np.nan, np.nan, np.nan)
        note = f"{len(x)} images of one score or one MOS: there is nothing to correlate"
        return Agreement(nothing, nothing, nothing, nothing, len(x), len(np.unique(clusters)), (note,))
    drawn = _drawn(clusters, replicates, seed)
    found = [_measures(x[part], y[part], drawn[:, part]) for part in parts]
    weights = np.array([part.sum() for part in parts], np.float64)
    n_groups = len(np.unique(clusters))
    few = (f"only {n_groups} contents: the intervals say little",) if n_groups < _LEAST_GROUPS else ()
    notes = (*(note for _, note in found if note), *few)
    together = {name: _weighted([each[name] for each, _ in found], weights) for name in MEASURES}
    return Agreement(
        **{name: _interval(values) for name, values in together.items()},
        n=int(weights.sum()),
        groups=n_groups,
        notes=tuple(dict.fromkeys(notes)),
        replicates={name: values[1:] for name, values in together.items()},
    )


def change(before: Agreement, after: Agreement) -> dict[str, Measured]:
    """By measure, after - before of two models on the same images; both bootstraps drew the same images."""
    return {
        name: _interval(
            np.concatenate(
                [
                    [getattr(after, name).value - getattr(before, name).value],
                    *(
                        [after.replicates[name] - before.replicates[name]]
                        if after.replicates and before.replicates
                        else []
                    ),
                ]
            )
        )
        for name in MEASURES
    }


def srcc(scores: npt.ArrayLike, mos: npt.ArrayLike, *, scale: npt.ArrayLike | None = None) -> float:
    """Spearman's rank correlation alone, as `agreement` has it, without an interval; NaN where it is not defined."""
    x, y, scales, _ = _known(scores, mos, scale, None)
    parts = _parts(x, y, scales)
    if not parts:
        return float("nan")
    ones = [np.ones((1, part.sum())) for part in parts]
    found = [_pearson(_ranks(x[part], w), _ranks(y[part], w), w) for part, w in zip(parts, ones, strict=True)]
    return float(_weighted(found, np.array([part.sum() for part in parts], np.float64))[0])


def accuracy(right: npt.ArrayLike) -> Measured:
    """Share of right classes. right: (n,) truths."""
    hits = np.asarray(right, np.bool_)
    if not len(hits):
        return Measured(np.nan, np.nan, np.nan)
    low, high = wilson(hits.sum(), len(hits))
    return Measured(float(hits.mean()), float(low), float(high))


def _known(
    scores: npt.ArrayLike, mos: npt.ArrayLike, scale: npt.ArrayLike | None, groups: npt.ArrayLike | None
) -> tuple[Floats, Floats, npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Scores, MOS, scales and numbers of groups of the images that have both."""
    x, y = np.asarray(scores, np.float64), np.asarray(mos, np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    scales = np.zeros(len(x), np.int64) if scale is None else np.asarray(scale)
    clusters = np.arange(len(x)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    return x[known], y[known], scales[known], clusters[known]


def _parts(x: Floats, y: Floats, scales: npt.NDArray[Any]) -> list[npt.NDArray[np.bool_]]:
    """The images of each scale that can be correlated."""
    parts = [scales == each for each in np.unique(scales)]
    return [part for part in parts if part.sum() >= _LEAST and np.ptp(x[part]) > 0 and np.ptp(y[part]) > 0]


def _drawn(clusters: npt.NDArray[np.int64], replicates: int, seed: int) -> Floats:
    """(1 + replicates, n) how often each image counts: once in the first row, then as its cluster was drawn."""
    _, of = np.unique(clusters, return_inverse=True)
    n = int(of.max()) + 1
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=replicates).astype(np.float64)
    return np.concatenate([np.ones((1, len(of))), counts[:, of]])


def _measures(x: Floats, y: Floats, weights: Floats) -> tuple[dict[str, Floats], str]:
    """Each measure by row of the weights (R, n), and a note where no logistic could be fitted."""
    fitted, note = _after_logistic(x, y)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weights.sum(axis=1)
        rmse = np.sqrt(weights @ (fitted - y) ** 2 / total)
    found = {
        "srcc": _pearson(_ranks(x, weights), _ranks(y, weights), weights),
        "plcc": _pearson((x if note else fitted)[None], y[None], weights),  # a line keeps its direction
        "krcc": _kendall(x, y, weights),
        "rmse": rmse,
    }
    return found, note


def _after_logistic(x: Floats, y: Floats) -> tuple[Floats, str]:
    """(n,) scores on the scale of the MOS."""
    try:
        fit = fit_logistic(x, y)
    except CalibrationError:
        fit = None
    if fit is not None and fit.converged:
        return fit.apply(x), ""
    slope, intercept = np.polyfit((x - x.mean()) / x.std(), y, 1)
    return slope * (x - x.mean()) / x.std() + intercept, "PLCC and RMSE after a straight line: no logistic fits"


def _ranks(x: Floats, weights: Floats) -> Floats:
    """(R, n) mid-ranks of x when image i is there weights[r, i] times."""
    values, of = np.unique(x, return_inverse=True)
    order = np.argsort(of, kind="stable")
    first = np.searchsorted(of[order], np.arange(len(values)))
    per_value = np.add.reduceat(weights[:, order], first, axis=1)  # (R, different values)
    middle = np.cumsum(per_value, axis=1) - (per_value - 1) / 2
    return middle[:, of]


def _pearson(x: Floats, y: Floats, weights: Floats) -> Floats:
    """(R,) correlations of rows of x and y, (R, n) or (1, n), under weights (R, n); NaN where one does not vary."""
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weights.sum(axis=1, keepdims=True)
        dx = x - (weights * x).sum(axis=1, keepdims=True) / total
        dy = y - (weights * y).sum(axis=1, keepdims=True) / total
        spread = np.sqrt((weights * dx * dx).sum(axis=1) * (weights * dy * dy).sum(axis=1))
        return np.where(spread > 1e-12, (weights * dx * dy).sum(axis=1) / spread, np.nan)


def _kendall(x: Floats, y: Floats, weights: Floats) -> Floats:
    """(R,) tau-b under weights (R, n), from the signs of all pairs; copies of one image are ties.

    Of very many images only the first replicates are computed.
    """
    n = len(x)
    w = weights[: max(2, int(_PAIRS_IN_ALL / n**2))]
    both, of_x, of_y = np.zeros(len(w)), np.zeros(len(w)), np.zeros(len(w))
    step = max(1, _PAIRS_AT_ONCE // n)
    for start in range(0, n, step):
        sx = np.sign(x[start : start + step, None] - x[None])  # (step, n)
        sy = np.sign(y[start : start + step, None] - y[None])
        own = w[:, start : start + step]
        both += ((own @ (sx * sy)) * w).sum(axis=1)
        of_x += ((own @ np.abs(sx)) * w).sum(axis=1)
        of_y += ((own @ np.abs(sy)) * w).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        tau = both / np.sqrt(of_x * of_y)
    return np.concatenate([tau, np.full(len(weights) - len(w), np.nan)])


def _weighted(values: Sequence[Floats], weights: Floats) -> Floats:
    """(R,) mean over scales; a replicate in which a scale has no measure counts without it."""
    stacked = np.stack(values)  # (scales, R)
    there = np.isfinite(stacked)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.where(there, stacked, 0) * weights[:, None]).sum(axis=0) / (there * weights[:, None]).sum(axis=0)


def _interval(values: Floats) -> Measured:
    """The first of the values with the percentiles of the rest."""
    replicates = values[1:][np.isfinite(values[1:])]
    if not len(replicates):
        return Measured(float(values[0]), np.nan, np.nan)
    low, high = np.quantile(replicates, [0.025, 0.975])
    return Measured(float(values[0]), float(low), float(high))
