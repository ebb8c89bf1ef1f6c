"""From the spec of a quality network to something that scores pixels. Imports torch: for workers and commands only.

A *rater* takes whole images of any one size. It runs as ONNX Runtime on a CPU, exported once with free height and width
and compared with eager torch at two sizes, or as eager torch (channels_last), or on a GPU.
"""

from pathlib import Path

import numpy as np
import torch

from models_zoo.adapters.load import (
    Classifier,
    TorchClassifier,
    fused,
    is_worth_exporting,
    through_onnxruntime,
    torch_module,
)
from models_zoo.adapters.onnx_file import OnnxClassifier
from models_zoo.adapters.prepare import Prepared
from models_zoo.adapters.spec import VersionRefused, VersionSpec
from models_zoo.adapters.weights import check_sha256
from models_zoo.architectures import architecture_card

ODD_SIZE = (83, 61)  # height and width beyond the least side, of images no network is made for


class TooSmall(ValueError):
    """The images are below the least side that the version takes."""


class RunFailed(ValueError):
    """A file from elsewhere failed on images of this size."""


class Rater:
    """pixels: uint8 (N, H, W, 3), upright RGB -> float32 (N,), the scores as the network gives them.

    `backend`: what computes it. `min_side`: least height and width in pixels, 1 where the file does not say.
    Calls raise TooSmall, and RunFailed where a file from elsewhere fails on such images.
    """

    def __init__(self, spec: VersionSpec, network: Classifier, *, min_side: int) -> None:
        self.spec = spec
        self.backend = network.backend
        self.min_side = min_side
        self._network = network

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[1:3]
        if min(height, width) < self.min_side:
            raise TooSmall(too_small(self.spec.label, self.min_side))
        if self.spec.kind == "torch":
            return scores_of(self._network(pixels), self.spec.label, len(pixels))
        try:
            given = self._network(pixels)
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise RunFailed(f'"{self.spec.label}" fails on images of {width} x {height}: {reason}') from error
        return scores_of(given, self.spec.label, len(pixels))


def too_small(label: str, min_side: int) -> str:
    """The reason that rows below the least side get, equal for all of them."""
    return f'smaller than the {min_side} x {min_side} pixels that "{label}" needs'


def load_rater(
    spec: VersionSpec,
    *,
    device: str = "cpu",
    cache_dir: Path | None = None,
    n_images: int | None = None,
    probe: np.ndarray | None = None,
) -> Rater:
    """The rater of a quality network.

    `device`, `cache_dir`, `n_images`: as `models_zoo.adapters.load.load`. `probe`: uint8 (n, H, W, 3), images as the
    network will see them, on which the export must agree with eager torch; noise if None. A second, odd size is
    always tried too.
    Raises VersionRefused when the spec's file or weights are not what the spec says.
    """
    if spec.kind == "onnx":
        check_sha256(Path(spec.weights or ""), spec.sha256)
        return Rater(spec, OnnxClassifier(Path(spec.weights or ""), spec.preprocessing), min_side=1)
    module, batch = torch_module(spec)
    prepared = Prepared(module, spec.preprocessing)
    if spec.kind == "export":
        return Rater(spec, TorchClassifier(prepared, device=device, batch=batch), min_side=1)
    prepared.eval()
    min_side = architecture_card(spec.architecture).min_side
    if torch.device(device).type != "cpu":
        return Rater(spec, TorchClassifier(prepared, device=device), min_side=min_side)
    probes = _probes(probe, min_side)
    if is_worth_exporting(prepared, n_images, probes[0]):
        accelerated = through_onnxruntime(spec, prepared, cache_dir, probes, any_size=True)
        if accelerated is not None:
            return Rater(spec, accelerated, min_side=min_side)
    return Rater(spec, TorchClassifier(fused(prepared)), min_side=min_side)


def scores_of(output: np.ndarray, label: str, n: int) -> np.ndarray:
    """float32 (n,) of an output (n,), (n, 1), or (n, 2) with the score first and its deviation second.

    Raises VersionRefused for any other shape.
    """
    if output.shape == (n,):
        return output.astype(np.float32, copy=False)
    if output.ndim == 2 and len(output) == n and output.shape[1] in {1, 2}:
        return output[:, 0].astype(np.float32)
    raise VersionRefused(
        f'"{label}" gives an output of shape {output.shape} for {n} images: a quality network gives ({n},), ({n}, 1), '
        f"or ({n}, 2) with the score first and its standard deviation second"
    )


def noise(n: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 (n, height, width, 3): smooth random images, each of another mean and contrast."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (n, -(-height // 8), -(-width // 8), 3)).repeat(8, 1).repeat(8, 2)
    fine = rng.normal(0, 1, (n, height, width, 3)) * np.linspace(2, 40, n).reshape(n, 1, 1, 1)
    return np.clip(coarse[:, :height, :width] + fine, 0, 255).astype(np.uint8)


def _probes(given: np.ndarray | None, min_side: int) -> list[np.ndarray]:
    """Images of two sizes, of the second another number."""
    first = given if given is not None and min(given.shape[1:3]) >= min_side else noise(2, min_side + 32, min_side + 64)
    return [first[:2], noise(3, min_side + ODD_SIZE[0], min_side + ODD_SIZE[1])]
