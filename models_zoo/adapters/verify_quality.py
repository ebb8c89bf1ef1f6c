"""The dry run that a quality version passes before it enters the zoo. Imports torch: for workers and commands only."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models_zoo.adapters.load import Classifier, TorchClassifier, count_macs, one_thread, torch_module
from models_zoo.adapters.measure import measure_of
from models_zoo.adapters.onnx_file import OnnxClassifier, onnx_macs, onnx_parameters
from models_zoo.adapters.prepare import Prepared
from models_zoo.adapters.rater import Rater, noise
from models_zoo.adapters.spec import QUALITY_SIZE, VersionRefused, VersionSpec
from models_zoo.adapters.verify import peak_bytes, seconds_per_image
from models_zoo.adapters.weights import check_sha256
from models_zoo.architectures import architecture_card
from models_zoo.metrics import MetricError

_SIZES = (QUALITY_SIZE, (512, 384), (129, 203))  # height and width
_LEAST_SIDES = (16, 32, 64, 128, 224)
_BATCH = 3
_TOLERANCE = 1e-3  # of the largest score; batches change the order of float32 sums, nothing else


@dataclass(frozen=True)
class QualityReport:
    """What the dry run found. Times and memory are of one image of `QUALITY_SIZE`, on one CPU thread, in eager torch.

    `parameters`, `macs`, `peak_bytes`: None where not counted, as of measures. `notes`: what a person should look at.
    """

    parameters: int | None
    macs: int | None
    seconds_per_image: float
    peak_bytes: int | None
    notes: tuple[str, ...] = ()


def verify_quality(spec: VersionSpec) -> QualityReport:
    """Load, run on images of several sizes, look at what comes out.

    Raises VersionRefused or MetricError when the file is not what the spec says, the output is not one score per image,
    a size fails, scores are not finite, or depend on chance or on the other images of a batch.
    """
    with one_thread():
        return _verify_measure(spec) if spec.kind == "metric" else _verify_network(spec)


def _verify_network(spec: VersionSpec) -> QualityReport:
    network, parameters, macs = _open(spec)
    rater = Rater(spec, network, min_side=_card_side(spec))
    scores = [_check_size(spec, rater, height, width) for height, width in _SIZES]
    one = noise(1, *QUALITY_SIZE)
    return QualityReport(
        parameters=parameters,
        macs=macs(),
        seconds_per_image=seconds_per_image(network, one),
        peak_bytes=peak_bytes(network, one),
        notes=_notes(spec, rater, np.concatenate(scores)),
    )


def _open(spec: VersionSpec) -> tuple[Classifier, int, Callable[[], int | None]]:
    """How to run it, how many parameters it has, and how to count its multiply-accumulates."""
    height, width = QUALITY_SIZE
    if spec.kind != "onnx":
        module, batch = torch_module(spec)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        x = torch.zeros(batch or 1, spec.preprocessing.n_channels, height, width)
        network = TorchClassifier(Prepared(module, spec.preprocessing).eval(), batch=batch)
        return network, parameters, lambda: count_macs(module, x) // (batch or 1)
    path = Path(spec.weights or "")
    check_sha256(path, spec.sha256)
    opened = OnnxClassifier(path, spec.preprocessing)
    if opened.input.size is not None:
        raise VersionRefused(
            f'"{path.name}" takes images of {opened.input.size[1]} x {opened.input.size[0]} alone, but a quality '
            "version sees images whole: export it with free height and width"
        )
    sides = (opened.input.channels, height, width)
    shape = sides if opened.input.layout == "NCHW" else (height, width, opened.input.channels)
    return opened, onnx_parameters(path), lambda: onnx_macs(path, (1, *shape))


def _check_size(spec: VersionSpec, rater: Rater, height: int, width: int) -> np.ndarray:
    """(n,) scores of images of one size, after every check on them."""
    images = noise(_BATCH, height, width)
    size = f"{width} x {height}"
    try:
        scores = rater(images)
        alone = np.concatenate([rater(images[index : index + 1]) for index in range(_BATCH)])
        again = rater(images)
    except VersionRefused:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise VersionRefused(
            f'"{spec.label}" fails on images of {size}, but a quality version must take images of any size: {reason}'
        ) from error
    if not np.isfinite(scores).all():
        raise VersionRefused(
            f'"{spec.label}" gives scores that are not finite (NaN or infinite) on ordinary images of {size}: the '
            "weights are damaged or the preprocessing's mean and std are wrong"
        )
    if not np.array_equal(scores, again):
        raise VersionRefused(
            f'"{spec.label}" gives the same image of {size} another score each time: it has to be deterministic '
            "(export it in evaluation mode, without dropout or random crops)"
        )
    worst = float(np.abs(scores - alone).max())
    if worst > _TOLERANCE * max(float(np.abs(scores).max()), 1e-6):
        raise VersionRefused(
            f'"{spec.label}" gives an image of {size} another score alone than among others (off by {worst:g}): export '
            "it in evaluation mode, so that batch norm uses its stored statistics"
        )
    return scores


def _card_side(spec: VersionSpec) -> int:
    return architecture_card(spec.architecture).min_side if spec.kind == "torch" else 1


def _notes(spec: VersionSpec, rater: Rater, scores: np.ndarray) -> tuple[str, ...]:
    notes = []
    if spec.kind != "torch" and (least := _least_side(rater)) > _LEAST_SIDES[0]:
        notes.append(f"fails on test images of less than {least} px a side: such images get no score")
    if np.ptp(scores) <= 1e-6 * max(float(np.abs(scores).max()), 1.0):
        notes.append("gives the same score to every test image: check the preprocessing and the weights")
    if spec.kind == "torch" and spec.weights is None:
        notes.append("has no weights file: it is freshly initialised and knows nothing")
    return tuple(notes)


def _least_side(rater: Rater) -> int:
    """The least of some usual sides that works."""
    for side in _LEAST_SIDES:
        try:
            if np.isfinite(rater(noise(1, side, side))).all():
                return side
        except ValueError:
            continue
    return min(min(size) for size in _SIZES)


def _verify_measure(spec: VersionSpec) -> QualityReport:
    card, measure = measure_of(spec)
    images = noise(2, *QUALITY_SIZE)
    references = noise(2, *QUALITY_SIZE, seed=1) if card.needs_reference else [None, None]
    try:
        first = [measure(image, reference) for image, reference in zip(images, references, strict=True)]
        again = [measure(image, reference) for image, reference in zip(images, references, strict=True)]
    except MetricError as error:
        raise VersionRefused(f'the measure "{card.name}" fails on ordinary images: {error}') from error
    if first != again:
        raise VersionRefused(f'the measure "{card.name}" gives the same image another score each time')

    def scored(pixels: np.ndarray) -> np.ndarray:
        return np.array([measure(image, references[0]) for image in pixels])

    return QualityReport(
        parameters=None,
        macs=None,
        seconds_per_image=seconds_per_image(scored, images[:1]),
        peak_bytes=None,
    )
