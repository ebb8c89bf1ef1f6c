"""Measures of the optional package pyiqa behind the interface of the registry."""

import threading

import numpy as np
import torch

from models_zoo.metrics.registry import Arithmetic, MetricError, UnsuitableImage


def pyiqa_measure(name: str, *, higher_is_better: bool, needs_reference: bool) -> Arithmetic:
    """(image[, reference]) -> score; uint8 (H, W, 3).

    Raises MetricError where pyiqa has no such measure, cannot fetch its weights, or describes it otherwise.
    """
    import pyiqa

    try:
        metric = pyiqa.create_metric(name, device="cpu")
    except Exception as error:
        first = (str(error) or type(error).__name__).strip().splitlines()[0][:200]
        raise MetricError(f'pyiqa cannot make "{name}": {first}') from error
    for said, expected, found in (
        ("higher scores are better", higher_is_better, not metric.lower_better),
        ("it needs a reference", needs_reference, metric.metric_mode == "FR"),
    ):
        if expected != found:
            raise MetricError(f'pyiqa and this project differ on "{name}", whether {said}: install another release')
    alone = threading.Lock()  # nothing says that its measures may run on several threads at once

    def arithmetic(*images: np.ndarray) -> float:
        tensors = [torch.tensor(image).permute(2, 0, 1)[None].float() / 255 for image in images]
        with alone, torch.inference_mode():
            try:
                return float(metric(*tensors))
            except (RuntimeError, ValueError, AssertionError) as error:
                first = (str(error) or type(error).__name__).strip().splitlines()[0][:200]
                raise UnsuitableImage(f'pyiqa\'s "{name}" fails on this image: {first}') from error

    return arithmetic
