"""Measures of image quality that are formulas, not networks: cards that any process may list, builders for workers.

A *measure* rates one image (no reference) or compares it with its pristine *reference* (full reference). Every image
is uint8 RGB at its own size: nothing is resized before the measure's own definition begins. A *card* says what the
measure is, which way its scores point and what it needs.

    >>> from models_zoo.metrics import get, list_metrics
    >>> measure = get("psnr").build()
    >>> measure(image, reference)
    31.42

Importing this package imports numpy and nothing heavier.
"""

from models_zoo.metrics import builtin  # noqa: F401  (it fills the registry)
from models_zoo.metrics.registry import (
    Measure,
    MetricCard,
    MetricError,
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
    "UnknownMetric",
    "UnsuitableImage",
    "UnsuitableParams",
    "get",
    "list_metrics",
    "register_metric",
]
