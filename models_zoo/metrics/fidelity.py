"""Full-reference measures: image and reference are uint8 (H, W, 3) of one size."""

import numpy as np

PSNR_LIMIT = 100.0  # decibels; the ratio of identical images is infinite


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """10 log10(255^2 / MSE) over pixels and colours, at most PSNR_LIMIT."""
    difference = image.astype(np.int32) - reference
    error = float(np.mean(np.square(difference)))
    return min(10 * np.log10(255**2 / error), PSNR_LIMIT) if error else PSNR_LIMIT
