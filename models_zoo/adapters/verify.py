"""The dry run that a version passes before it enters the zoo. Imports torch: for workers and commands only."""

import resource
import statistics
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models_zoo.adapters.load import Classifier, TorchClassifier, count_macs, one_thread, torch_module
from models_zoo.adapters.onnx_file import OnnxClassifier, onnx_macs, onnx_parameters
from models_zoo.adapters.prepare import Prepared
from models_zoo.adapters.spec import VersionRefused, VersionSpec, file_sha256
from models_zoo.adapters.weights import check_sha256

_IMAGES = 8
_REPEATS = 3
_DEFAULT_SIDE = 32  # for versions that see images whole, when the caller knows no size


@dataclass(frozen=True)
class VerificationReport:
    """What the dry run found; plain data for the model card.

    `macs`: multiply-accumulates for one image, None where not counted. `seconds_per_image`: eager, one CPU thread,
    batch of 8. `peak_bytes`: memory that a batch of 8 takes beyond the weights, None where not measured.
    `notes`: things a person should look at, though they are no reason to refuse.
    """

    n_classes: int
    input_shape: tuple[int, int, int]
    parameters: int
    macs: int | None
    seconds_per_image: float
    peak_bytes: int | None
    sha256: str | None
    fingerprint: str
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "input_shape": list(self.input_shape), "notes": list(self.notes)}


@dataclass(frozen=True)
class _Opened:
    """A version opened for inspection: how to run it, and the two counts that depend on its kind."""

    classifier: Classifier
    parameters: int
    macs: Callable[[], int | None]


def verify(spec: VersionSpec, *, n_classes: int | None = None, image_size: int | None = None) -> VerificationReport:
    """Load, run on eight images, look at what comes out.

    `n_classes`: size of the taxonomy it shall enter; None accepts any. `image_size`: side of the images for versions
    that take them whole.
    Raises VersionRefused when the file is not what the spec says, the output is not (N, classes), the number of classes
    is wrong, values are not finite, or logits and probabilities are confused.
    """
    side = spec.preprocessing.input_size or image_size or _DEFAULT_SIDE
    pixels = _test_images(side)
    with one_thread():
        opened = _open_onnx(spec, side) if spec.kind == "onnx" else _open_torch(spec, side)
        scores = _dry_run(spec, opened.classifier, pixels)
        _check_scores(spec, scores, n_classes)
        seconds = seconds_per_image(opened.classifier, pixels)
        peak = peak_bytes(opened.classifier, pixels)
        macs = opened.macs()
    return VerificationReport(
        n_classes=scores.shape[1],
        input_shape=(spec.preprocessing.n_channels, side, side),
        parameters=opened.parameters,
        macs=macs,
        seconds_per_image=seconds,
        peak_bytes=peak,
        sha256=file_sha256(Path(spec.weights)) if spec.weights else None,
        fingerprint=spec.fingerprint(),
        notes=_notes(spec, scores, macs),
    )


def _open_torch(spec: VersionSpec, side: int) -> _Opened:
    module, batch = torch_module(spec)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    x = torch.zeros(batch or 1, spec.preprocessing.n_channels, side, side)
    classifier = TorchClassifier(Prepared(module, spec.preprocessing), batch=batch)
    return _Opened(classifier, parameters, lambda: count_macs(module, x) // (batch or 1))


def _open_onnx(spec: VersionSpec, side: int) -> _Opened:
    path = Path(spec.weights or "")
    check_sha256(path, spec.sha256)
    classifier = OnnxClassifier(path, spec.preprocessing)
    found = classifier.input
    if found.size not in {None, (side, side)}:
        raise VersionRefused(
            f'"{path.name}" takes images of {found.size[1]} x {found.size[0]}, but the preprocessing gives '
            f"{side} x {side}: set crop to the file's size"
        )
    sides = (found.channels, side, side) if found.layout == "NCHW" else (side, side, found.channels)
    per_batch = found.batch or 1

    def macs() -> int | None:
        counted = onnx_macs(path, (per_batch, *sides))
        return None if counted is None else counted // per_batch

    return _Opened(classifier, onnx_parameters(path), macs)


def _dry_run(spec: VersionSpec, classifier: Classifier, pixels: np.ndarray) -> np.ndarray:
    try:
        scores = classifier(pixels)
    except VersionRefused:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise VersionRefused(
            f'"{spec.label}" fails on images of {pixels.shape[2]} x {pixels.shape[1]} with '
            f"{spec.preprocessing.n_channels} channels: {reason}"
        ) from error
    if scores.ndim != 2 or len(scores) != len(pixels):
        raise VersionRefused(
            f'"{spec.label}" gives an output of shape {scores.shape} for {len(pixels)} images: a classifier gives '
            f"({len(pixels)}, classes)"
        )
    return scores


def _check_scores(spec: VersionSpec, scores: np.ndarray, n_classes: int | None) -> None:
    for expected, whose in ((spec.num_classes, "the version says"), (n_classes, "the taxonomy has")):
        if expected is not None and scores.shape[1] != expected:
            raise VersionRefused(f'"{spec.label}" gives {scores.shape[1]} classes, but {whose} {expected}')
    if scores.shape[1] < 2:
        raise VersionRefused(f'"{spec.label}" gives {scores.shape[1]} score per image: at least 2 classes are needed')
    if not np.isfinite(scores).all():
        raise VersionRefused(
            f'"{spec.label}" gives values that are not finite (NaN or infinite) on ordinary images: the weights are '
            "damaged or the preprocessing's mean and std are wrong"
        )
    sums_to_one = (scores >= 0).all() and np.allclose(scores.sum(1), 1, atol=1e-3)
    if spec.outputs == "logits" and sums_to_one:
        raise VersionRefused(f'"{spec.label}" gives probabilities, not logits: set outputs to "probabilities"')
    if spec.outputs == "probabilities" and not sums_to_one:
        raise VersionRefused(f'"{spec.label}" gives values that are no probabilities: set outputs to "logits"')


def _notes(spec: VersionSpec, scores: np.ndarray, macs: int | None) -> tuple[str, ...]:
    notes = []
    if np.allclose(scores, scores[:1], rtol=1e-4, atol=1e-6):
        notes.append("gives the same scores to every test image: check the preprocessing and the weights")
    if spec.kind == "torch" and spec.weights is None:
        notes.append("has no weights file: it is freshly initialised and knows nothing")
    if macs is None:
        notes.append("multiply-accumulates were not counted: the file does not state the shapes inside")
    return tuple(notes)


def _test_images(side: int) -> np.ndarray:
    """Eight uint8 images: black, white, a ramp, and noise of growing contrast."""
    rng = np.random.default_rng(0)
    images = np.full((_IMAGES, side, side, 3), 128, np.uint8)
    images[0], images[1] = 0, 255
    images[2] = np.linspace(0, 255, side).astype(np.uint8)[None, :, None]
    for index in range(3, _IMAGES):
        reach = 25 * (index - 2)
        images[index] = 128 + rng.integers(-reach, reach, images[index].shape)
    return images


def seconds_per_image(classifier: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> float:
    """The median of a few runs over the images, for one image."""
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        classifier(pixels)
        times.append(time.perf_counter() - start)
    return statistics.median(times) / len(pixels)


def peak_bytes(classifier: Classifier, pixels: np.ndarray) -> int | None:
    """Memory that a run over the images takes beyond the weights; None where it cannot be measured."""
    if isinstance(classifier, TorchClassifier):
        return _peak_torch_bytes(classifier, pixels)
    return _peak_resident_bytes(classifier, pixels)


def _peak_torch_bytes(classifier: Classifier, pixels: np.ndarray) -> int:
    with _LiveBytes() as live:
        classifier(pixels)
    return live.peak


class _LiveBytes(TorchDispatchMode):
    """Follows every storage that an operator creates until it is freed; `peak` is the most that lived at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._live = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._follow(tensor.untyped_storage())
        return out

    def _follow(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        self._live += storage.nbytes()
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._forget, storage.nbytes())

    def _forget(self, size: int) -> None:
        self._live -= size


def _peak_resident_bytes(classifier: Classifier, pixels: np.ndarray) -> int | None:
    """Growth of the process's high-water mark; None where the system cannot reset it."""
    if sys.platform != "linux":
        return None
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[1])
        classifier(pixels)
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    high = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return max(high - before, 0)
