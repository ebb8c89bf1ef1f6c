"""NIQE: how far the statistics of an image's blocks are from those of good photographs.

Mittal, Soundararajan and Bovik, Making a "completely blind" image quality analyzer, IEEE SPL 20 (2013) 209. Blocks of
96 x 96 pixels give 36 features each (18 in each of two scales); a multivariate Gaussian of the image's blocks is
compared with one of pristine photographs (equation 10). No human ratings are involved.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models_zoo.metrics.naturalness import MAPS, contrast_sums, fit
from models_zoo.metrics.params import read_arrays, write_arrays
from models_zoo.metrics.planes import halve, luminance
from models_zoo.metrics.registry import UnsuitableImage, UnsuitableParams

BLOCK = 96
N_FEATURES = 36
SHARP = 0.75  # of the sharpest block: what a pristine block must exceed
_SPELLINGS = {
    "mean": ("mean", "mu_pris_param", "mu_prisparam"),
    "covariance": ("covariance", "cov_pris_param", "cov_prisparam"),
}


@dataclass(frozen=True)
class NiqeParams:
    """The Gaussian of pristine blocks. `mean`: (36,). `covariance`: (36, 36)."""

    mean: np.ndarray
    covariance: np.ndarray

    def __post_init__(self) -> None:
        if self.mean.shape != (N_FEATURES,) or self.covariance.shape != (N_FEATURES, N_FEATURES):
            raise UnsuitableParams(
                f"NIQE needs a mean of 36 and a covariance of 36 x 36 values: "
                f"these are {self.mean.shape}, {self.covariance.shape}"
            )
        if not np.allclose(self.covariance, self.covariance.T, rtol=1e-6, atol=1e-9):
            raise UnsuitableParams("NIQE's covariance must be symmetric")

    def score(self, features: np.ndarray) -> float:
        """features: (n_blocks, 36), n_blocks >= 2. Equation 10."""
        offset = self.mean - features.mean(axis=0)
        pooled = (self.covariance + np.cov(features, rowvar=False)) / 2
        return float(np.sqrt(offset @ np.linalg.pinv(pooled) @ offset))

    def save(self, path: Path) -> None:
        """Write the parameters as .npz."""
        write_arrays(path, {"mean": self.mean, "covariance": self.covariance})


def niqe_load(path: Path) -> NiqeParams:
    """Parameters from the .npz of `NiqeParams.save` or one with the published names. Raises UnsuitableParams."""
    arrays = read_arrays(path, _SPELLINGS)
    return NiqeParams(arrays["mean"].reshape(-1), arrays["covariance"])


def niqe_blocks(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (H, W, 3) -> features (n_blocks, 36) and sharpness (n_blocks,), blocks row by row.

    Sharpness is the mean local deviation. What does not fill a block is left out, below and on the right; so are
    blocks that lack positive or negative values (flat areas): they have no features.
    """
    down, across = image.shape[0] // BLOCK, image.shape[1] // BLOCK
    plane = luminance(image[: down * BLOCK, : across * BLOCK])
    fine, sharpness = contrast_sums(plane, BLOCK, BLOCK, True)
    coarse, _ = contrast_sums(halve(plane), BLOCK // 2, BLOCK // 2, True)
    features = np.concatenate([_features(fine, BLOCK**2), _features(coarse, BLOCK**2 // 4)], axis=1)
    defined = np.isfinite(features).all(axis=1)
    return features[defined], sharpness[defined]


def niqe_score(params: NiqeParams, image: np.ndarray) -> float:
    """0 = as the pristine photographs. Raises UnsuitableImage where fewer than two blocks have texture."""
    features, _ = niqe_blocks(image)
    if len(features) < 2:
        raise UnsuitableImage(
            f"NIQE compares blocks of {BLOCK} x {BLOCK} pixels: it needs two with texture, this image has "
            f"{len(features)}"
        )
    return params.score(features)


def niqe_fit(images: Iterable[np.ndarray], *, sharp: float = SHARP) -> NiqeParams:
    """The Gaussian of the sharp blocks of pristine photographs, uint8 (H, W, 3) each.

    A block counts when its sharpness exceeds `sharp` times that of its image's sharpest block. Raises
    UnsuitableParams when fewer than 37 blocks are left: a covariance of 36 features needs more than 36.
    """
    kept = [np.empty((0, N_FEATURES))]
    for image in images:
        features, sharpness = niqe_blocks(image)
        if len(features):
            kept.append(features[sharpness > sharp * sharpness.max()])
    pooled = np.concatenate(kept)
    if len(pooled) <= N_FEATURES:
        raise UnsuitableParams(
            f"NIQE needs more than {N_FEATURES} sharp blocks of {BLOCK} x {BLOCK} pixels: these photographs have "
            f"{len(pooled)}, give more or larger ones"
        )
    return NiqeParams(pooled.mean(axis=0), np.cov(pooled, rowvar=False))


def _features(sums: np.ndarray, n_values: int) -> np.ndarray:
    """(n_blocks, MAPS, 5) -> (n_blocks, 18): shape and scale of the coefficients, then four of each map of products."""
    fits = fit(sums, n_values)
    left, right = fits.left * fits.spread, fits.right * fits.spread
    own = np.stack([fits.shape[:, 0], (left[:, 0] + right[:, 0]) / 2], axis=1)
    products = np.stack([fits.shape, fits.mean, left, right], axis=2)[:, 1:]
    return np.concatenate([own, products.reshape(-1, 4 * (MAPS - 1))], axis=1)
