"""Measures of image quality that are formulas, not networks: cards that any process may list, builders for workers.

A *measure* rates one image (no reference) or compares it with its pristine *reference* (full reference). Every image
is uint8 RGB at its own size: nothing is resized before the measure's own definition begins. A *card* says what the
measure is, which way its scores point and what it needs.

    >>> from models_zoo.metrics import get, list_metrics
    >>> measure = get("psnr").build()
    >>> measure(image, reference)
    31.42

| measure | needs | better | range | on constant images |
|---|---|---|---|---|
| psnr, psnr_y | reference | higher | 0 to 100 dB, 100 = identical | defined |
| ssim, ssim_downsampled | reference, 11 x 11 pixels | higher | -1 to 1, 1 = identical | defined |
| ms_ssim | reference, 176 x 176 | higher | 0 to 1, 1 = identical | defined |
| gmsd | reference, 4 x 4 | lower | from 0 = identical, seldom above 0.35 | defined |
| brisque | parameters, 16 x 16 | lower | open; 0 best to 100 worst on photographs | refused |
| niqe | parameters, two textured blocks of 96 x 96 | lower | from 0; 3 good, 10 bad | refused |
| jpeg_quality | 16 x 16 | higher | from -245.9; 1 bad to 10 excellent on photographs | refused |
| blur_effect | 16 x 16 | lower | 0 sharp to 1 blurred | refused |
| noise_sigma | 3 x 3 | lower | from 0, grey levels | 0 |
| rms_contrast | | higher | 0 to 0.5 | 0 |
| colourfulness | | higher | from 0; about 110 extremely colourful | 0 for grey |

"Refused" means UnsuitableImage, which says why; a score is never NaN or infinite. Parameters of BRISQUE and NIQE are
fitted by `brisque.brisque_fit` and `niqe.niqe_fit` or read from published files (docs/formats.md). Arithmetic works in
rows or on 8-bit planes, so a measure needs little memory beside the image: at most 8 bytes a pixel, for GMSD.

Importing this package imports numpy and nothing heavier.
"""

from models_zoo.metrics import builtin, learned  # noqa: F401  (they fill the registry)
from models_zoo.metrics.registry import (
    Measure,
    MetricCard,
    MetricError,
    MissingPackage,
    UnknownMetric,
    UnsuitableImage,
    UnsuitableParams,
    get,
    list_metrics,
    register_metric,
)

__all__ = [
    "Measure",
    "MetricCard",
    "MetricError",
    "MissingPackage",
    "UnknownMetric",
    "UnsuitableImage",
    "UnsuitableParams",
    "get",
    "list_metrics",
    "register_metric",
]
