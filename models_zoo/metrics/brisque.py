"""BRISQUE: 36 natural-scene statistics in two scales, rated by a support vector regression.

Mittal, Moorthy and Bovik, No-reference image quality assessment in the spatial domain, IEEE TIP 21 (2012) 4695. The
features are those of the released software: grey values of 0 to 255, zeros beyond the border, a second scale of half
the size. Scores follow the scale that the regression was fitted to; the published one predicts the DMOS of the LIVE
database, 0 (best) to 100, and may go beyond.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models_zoo.metrics.libsvm import read_libsvm
from models_zoo.metrics.naturalness import contrast_sums, fit
from models_zoo.metrics.params import read_arrays, write_arrays
from models_zoo.metrics.planes import halve, luminance
from models_zoo.metrics.registry import UnsuitableImage, UnsuitableParams

N_FEATURES = 36


@dataclass(frozen=True)
class BrisqueParams:
    """score(f) = coefficients . exp(-gamma |support - (f * scale + offset)|^2) + intercept

    `support`: (n, 36). `coefficients`: (n,). `scale`, `offset`: (36,), they take the training features to -1..1.
    """

    support: np.ndarray
    coefficients: np.ndarray
    intercept: float
    gamma: float
    scale: np.ndarray
    offset: np.ndarray

    def __post_init__(self) -> None:
        n = self.coefficients.size
        shapes = {"support": (n, N_FEATURES), "coefficients": (n,), "scale": (N_FEATURES,), "offset": (N_FEATURES,)}
        for name, shape in shapes.items():
            found = getattr(self, name).shape
            if found != shape:
                raise UnsuitableParams(f'BRISQUE parameters: "{name}" has the shape {found}, not {shape}')
        if not n or self.gamma <= 0:
            raise UnsuitableParams("BRISQUE parameters need at least one support vector and a gamma above 0")

    def score(self, features: np.ndarray) -> float:
        """features: (36,)"""
        distances = np.square(self.support - (features * self.scale + self.offset)).sum(axis=1)
        return float(self.coefficients @ np.exp(-self.gamma * distances) + self.intercept)

    def save(self, path: Path) -> None:
        """Write the parameters as .npz."""
        write_arrays(path, {name: getattr(self, name) for name in self.__dataclass_fields__})


def brisque_load(path: Path) -> BrisqueParams:
    """Parameters from the .npz of `BrisqueParams.save`, or from libsvm text: a file of ranges followed by a model.

    Raises UnsuitableParams for anything else.
    """
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"
    if not is_archive:
        machine = read_libsvm(path, n_features=N_FEATURES)
        return BrisqueParams(
            machine.support, machine.coefficients, machine.intercept, machine.gamma, machine.scale, machine.offset
        )
    arrays = read_arrays(path, {name: [name] for name in BrisqueParams.__dataclass_fields__})
    intercept, gamma = (float(arrays[name].reshape(-1)[0]) for name in ("intercept", "gamma"))
    return BrisqueParams(arrays["support"], arrays["coefficients"], intercept, gamma, arrays["scale"], arrays["offset"])


def brisque_features(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> float64 (36,). Raises UnsuitableImage for an image without texture."""
    fine = luminance(image)
    if fine.min() == fine.max():
        raise UnsuitableImage("the image is constant: BRISQUE describes texture, and it has none")
    features = np.concatenate([_features(fine), _features(halve(fine))])
    if not np.isfinite(features).all():
        raise UnsuitableImage("the image has too little texture for BRISQUE: some statistic has no values")
    return features


def brisque_fit(
    features: np.ndarray | Sequence[np.ndarray],
    mos: np.ndarray | Sequence[float],
    *,
    mos_range: tuple[float, float],
    cost: float = 1024.0,
    gamma: float = 0.05,
    epsilon: float = 0.1,
) -> BrisqueParams:
    """Fit the regression to rated images, with the published cost and kernel width.

    features: (n, 36). mos: (n,), higher = better. mos_range: the ends of the rating scale. The fitted target is
    100 (high - mos) / (high - low), so that whatever the scale was, 0 is the best image and 100 the worst, as in the
    published model. `epsilon`: width of the tube without loss, on that scale.
    Raises UnsuitableParams for other shapes, values that are not finite or ratings outside the range.
    """
    from sklearn.svm import SVR

    x, y = np.asarray(features, np.float64), np.asarray(mos, np.float64)
    low, high = mos_range
    if x.ndim != 2 or x.shape[1] != N_FEATURES or y.shape != (len(x),) or len(x) < 2:
        raise UnsuitableParams(f"BRISQUE needs features (n, 36) and n ratings, n > 1: these are {x.shape}, {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UnsuitableParams("features and ratings must be finite: leave out images without score")
    if not low < high or y.min() < low or y.max() > high:
        raise UnsuitableParams(f"ratings from {y.min():g} to {y.max():g} do not fit the scale {low:g} to {high:g}")
    least, span = x.min(axis=0), np.ptp(x, axis=0)
    scale = np.divide(2, span, out=np.zeros_like(span), where=span > 0)
    offset = np.where(span > 0, -1 - least * scale, 0.0)
    machine = SVR(C=cost, gamma=gamma, epsilon=epsilon).fit(x * scale + offset, 100 * (high - y) / (high - low))
    return BrisqueParams(
        machine.support_vectors_, machine.dual_coef_[0], float(machine.intercept_[0]), gamma, scale, offset
    )


def _features(plane: np.ndarray) -> np.ndarray:
    """(H, W) -> (18,)"""
    height, width = plane.shape
    sums, _ = contrast_sums(plane, height, width, False)
    fits = fit(sums[0], plane.size)
    pairs = np.stack([fits.shape, fits.mean, fits.left**2, fits.right**2], axis=1)[1:]
    return np.concatenate([[fits.shape_ggd[0], fits.power[0]], pairs.ravel()])
