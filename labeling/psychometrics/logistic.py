"""The logistic of four parameters from a quality model's scores to opinion scores, fitted by least squares:

    y = (b1 - b2) / (1 + exp(-(x - b3) / |b4|)) + b2

It is what correlations are taken after (ITU-T J.149; VQEG) and the common scale of gMAD (CVPR 2016). Scores are
oriented before: higher = better.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.special import expit

from labeling.psychometrics.intervals import FloatArray, PsychometricsError

SCALE = (0.0, 100.0)
LEAST_RATINGS = 5  # one more than there are parameters
_SPREAD_LOST = 0.5  # a fit that keeps fewer of the different scores apart is a step, not a scale
_STRAIGHTEST = 1e-6  # 1/b4 in standard deviations of the scores: a straight line to twelve digits
_FURTHEST = 600.0  # widths from the middle, where exponentials still are numbers
_FLATTEST = 1e-3  # a fit whose ends lie closer than this share of the range of the MOS says nothing


class CalibrationError(PsychometricsError):
    """Ratings that no scale can be fitted to; the message names the model and the way out."""


@dataclass(frozen=True)
class Logistic:
    """A fitted logistic.

    b1, b2     ends of the scale; b1 > b2 where higher scores are better
    b3, b4     middle and slope, in units of the raw score
    converged  whether the fit may be used; `message` says why not
    rmse       root mean square error over the rated images, in units of the MOS
    explained  share of the variance of the MOS that the fit explains
    n          rated images
    """

    b1: float
    b2: float
    b3: float
    b4: float
    converged: bool
    rmse: float
    explained: float
    n: int
    message: str

    def apply(self, x: npt.ArrayLike) -> FloatArray:
        """Calibrated scores, any shape."""
        return _logistic(np.asarray(x, dtype=np.float64), (self.b1, self.b2, self.b3, self.b4))


def fit_logistic(x: npt.ArrayLike, mos: npt.ArrayLike, *, model: str = "") -> Logistic:
    """The logistic from scores to MOS, the better of the fits that start at b4 = 0.5 and b4 = std(x).

    x: (n,) oriented scores of the rated images, NaN = not scored and left out; mos: (n,) their MOS on 0..100.
    A fit that does not converge, falls, is flat or is a step comes back with `converged` False and a message in words.
    model: its name, for messages. Raises CalibrationError where there is nothing to fit: too few images, equal scores
    or MOS, infinite numbers, MOS outside of 0..100.
    """
    named = model_named(model)
    scores, ratings = _rated(x, mos, named)
    fits = [_fit(scores, ratings, slope) for slope in (0.5, float(scores.std()))]
    (b1, b2, b3, b4), _, success = min(fits, key=lambda fit: fit[1])  # of equal fits the first
    residual = ratings - _logistic(scores, (b1, b2, b3, b4))
    message = _trouble(scores, ratings, (b1, b2, b3, b4), success, named)
    return Logistic(
        b1=b1,
        b2=b2,
        b3=b3,
        b4=b4,
        converged=not message,
        rmse=float(np.sqrt(np.mean(residual**2))),
        explained=float(1 - np.sum(residual**2) / np.sum((ratings - ratings.mean()) ** 2)),
        n=scores.size,
        message=message,
    )


def model_named(model: str) -> str:
    """What messages call a model that may have no name."""
    return f'model "{model}"' if model else "the model"


def _logistic(x: FloatArray, b: tuple[float, float, float, float]) -> FloatArray:
    """Measured from the nearer end: an end far away, as a nearly exponential fit has it, costs no digits then."""
    b1, b2, b3, b4 = b
    with np.errstate(over="ignore"):  # far from the middle the ratio may overflow: the end of the scale
        place = (x - b3) / abs(b4)
    return np.where(place > 0, b1 - (b1 - b2) * expit(-place), b2 + (b1 - b2) * expit(place))


def _rated(x: npt.ArrayLike, mos: npt.ArrayLike, model: str) -> tuple[FloatArray, FloatArray]:
    """Scores and MOS of the rated images that the model has scored, checked."""
    scores, ratings = np.asarray(x, np.float64), np.asarray(mos, np.float64)
    if scores.ndim != 1 or scores.shape != ratings.shape:
        raise CalibrationError(f"{model}: {scores.size} scores and {ratings.size} MOS; there is one of each per image")
    infinite = int(np.isinf(scores).sum())
    if infinite:
        raise CalibrationError(f"{model} has {infinite:,} infinite scores on the rated images: leave them empty (NaN)")
    outside = ~((ratings >= SCALE[0]) & (ratings <= SCALE[1]))
    if outside.any():
        raise CalibrationError(
            f"the MOS of rated image {np.argmax(outside)} is {ratings[np.argmax(outside)]:g}; MOS lie between "
            f"{SCALE[0]:g} and {SCALE[1]:g}: give the range of their scale"
        )
    scored = ~np.isnan(scores)
    scores, ratings = scores[scored], ratings[scored]
    if scores.size < LEAST_RATINGS:
        raise CalibrationError(
            f"{model} has scored {scores.size} rated images; a logistic of four parameters needs at least "
            f"{LEAST_RATINGS}: rate more images, or calibrate by quantiles"
        )
    for what, values in (("score", scores), ("MOS", ratings)):
        if values.min() == values.max():
            raise CalibrationError(
                f"{model}: all {values.size} rated images have the same {what}, {values[0]:g}; nothing can be fitted"
            )
    return scores, ratings


def _fit(x: FloatArray, y: FloatArray, b4: float) -> tuple[tuple[float, float, float, float], float, bool]:
    """(b1 .. b4), the sum of squares, and whether the search converged, from b3 = mean x and b4.

    For given b3 and b4 the best b1 and b2 are a line's, so that the search is over two numbers only (variable
    projection; Kaufman 1975): 1/b4 and -b3/b4, on standardised scores. A relation that is nearly straight or
    exponential, which a logistic meets only far out, takes tens of steps so instead of thousands.
    """
    mean, spread = float(x.mean()), float(x.std())
    scaled, centred = (x - mean) / spread, y - y.mean()

    def rise(q: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, float]:
        place = np.clip(q[0] * scaled + q[1], -_FURTHEST, _FURTHEST)
        up, down = expit(place), expit(-place)
        off = up - up.mean() if q[1] < 0 else down.mean() - down  # the one of more digits
        size = float(off @ off)
        return up, down, off, float(off @ centred) / size if size > 0 else 0.0

    def residual(q: FloatArray) -> FloatArray:
        _, _, off, height = rise(q)
        return height * off - centred

    def jacobian(q: FloatArray) -> FloatArray:
        up, down, off, height = rise(q)
        steep = height * up * down
        change = np.column_stack([scaled * steep, steep])
        change -= change.mean(axis=0)
        return change - np.outer(off, off @ change) / max(float(off @ off), np.finfo(np.float64).tiny)

    found = least_squares(
        residual, [spread / b4, 0.0], jac=jacobian, method="lm", ftol=1e-12, xtol=1e-12, gtol=1e-12, max_nfev=500
    )
    steepness, offset = (found.x * np.copysign(1.0, found.x[0])).tolist()  # turned round it is the same curve
    steepness = max(steepness, _STRAIGHTEST)
    up, down, _, height = rise(np.array([steepness, offset]))
    b1, b2 = float(y.mean() + height * down.mean()), float(y.mean() - height * up.mean())
    b3, slope = mean - spread * offset / steepness, spread / steepness
    return (b1, b2, b3, slope), 2 * float(found.cost), bool(found.success)


def _trouble(x: FloatArray, y: FloatArray, b: tuple[float, float, float, float], success: bool, model: str) -> str:
    """Why a fit may not be used, in words; empty where it may."""
    if b[0] < b[1]:
        return (
            f"the fit of {model} falls: images it finds better have lower MOS. If its lower scores are better, say "
            "so; otherwise leave it out, or calibrate by quantiles"
        )
    if not success or not np.isfinite(b).all():
        return f"the fit of {model} does not converge: rate more images, or calibrate by quantiles"
    mapped = _logistic(np.unique(x), b)
    if np.ptp(mapped) < _FLATTEST * np.ptp(y):
        return (
            f"the fit of {model} is flat: its scores say nothing about the MOS; leave it out, or calibrate by quantiles"
        )
    if len(np.unique(mapped)) < _SPREAD_LOST * len(mapped):
        return (
            f"the fit of {model} is a step that maps {len(mapped)} different scores to {len(np.unique(mapped))}: rate "
            "more images, or calibrate by quantiles"
        )
    return ""
