"""From a spec to something that scores pixels. Imports torch: for workers and commands only.

Three ways to run a torch module:

* ONNX Runtime on the CPU, exported once, cached by a hash of weights and architecture, and accepted only after its
  outputs were compared with eager torch;
* eager torch on the CPU, channels_last and convolution + batch norm fused: the fallback, and the choice for small jobs;
* eager torch on a GPU, channels_last, in bfloat16 where the hardware has it and a probe changes no prediction.
"""

import hashlib
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
import torch
from torch import nn
from torch.fx.experimental import optimization

from models_zoo.adapters.exported import exported_module
from models_zoo.adapters.onnx_file import OnnxClassifier, open_session
from models_zoo.adapters.prepare import Prepared, in_batches
from models_zoo.adapters.spec import VersionRefused, VersionSpec
from models_zoo.adapters.weights import check_sha256, load_into, read_state_dict
from models_zoo.architectures import UnknownArchitecture, build

logger = logging.getLogger(__name__)

PROBE_IMAGES = 8
_SCORE_TOLERANCE = 1e-3  # of the largest score: ten times what reordered float32 sums were seen to cost
_EXPORT_PAYS_OFF = 100_000_000_000  # multiply-accumulates: about five seconds of eager torch on one core
_SAME_CLASS = 0.99  # share of probe images whose class must not change under bfloat16


class Classifier(Protocol):
    """pixels: uint8 (N, H, W, 3), upright RGB -> float32 (N, n_classes), logits or probabilities as the spec says.

    `backend`: what computes it, with its version; scores of different backends may differ in the last digits.
    """

    backend: str

    def __call__(self, pixels: np.ndarray) -> np.ndarray: ...


class TorchClassifier:
    """Eager torch on any device. `autocast` computes convolutions and matrix products in bfloat16."""

    def __init__(
        self,
        module: nn.Module,
        *,
        device: str = "cpu",
        autocast: bool = False,
        compiled: bool = False,
        batch: int | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.autocast = autocast
        self._batch = batch
        self._run: Callable[..., Any] = module.to(self.device).to(memory_format=torch.channels_last)
        if compiled:
            self._run = torch.compile(self._run)
        precision = " bfloat16" if autocast else ""
        self.backend = f"torch {torch.__version__} {self.device.type}{precision}{' compiled' if compiled else ''}"

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return in_batches(self._scores, pixels, self._batch)

    def _scores(self, pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            scores = _only_tensor(self._run(torch.from_numpy(pixels).to(self.device, non_blocking=True)))
        return scores.float().cpu().numpy()


class OrtClassifier:
    """A torch module as ONNX Runtime runs it, on one thread per call."""

    backend = f"onnxruntime {ort.__version__}"

    def __init__(self, content: bytes, name: str, *, any_size: bool = False) -> None:
        self._session = open_session(content, name, any_size=any_size)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return self._session.run(None, {"pixels": pixels})[0]


def load(
    spec: VersionSpec,
    *,
    device: str = "cpu",
    cache_dir: Path | None = None,
    n_images: int | None = None,
    compiled: bool = False,
    probe: np.ndarray | None = None,
) -> Classifier:
    """The classifier of a version.

    `device`: "cpu" or a torch device. `cache_dir`: where ONNX Runtime exports are kept. `n_images`: how many images
    will be scored, None for many: a small job is not worth the seconds of an export. `compiled`: torch.compile on a
    GPU. `probe`: uint8 (n, H, W, 3), images on which faster ways must agree with plain float32; noise if None.
    Raises VersionRefused when the spec's file or weights are not what the spec says.
    """
    if spec.kind == "onnx":
        check_sha256(Path(spec.weights or ""), spec.sha256)
        return OnnxClassifier(Path(spec.weights or ""), spec.preprocessing)
    module, batch = torch_module(spec)
    prepared = Prepared(module, spec.preprocessing)
    if spec.kind == "torch":
        prepared.eval()
    if torch.device(device).type != "cpu":
        return _on_gpu(prepared, device, compiled, batch, _probe(spec, probe))
    if spec.kind == "torch" and is_worth_exporting(prepared, n_images, _probe(spec, probe)):
        accelerated = through_onnxruntime(spec, prepared, cache_dir, [_probe(spec, probe)], any_size=False)
        if accelerated is not None:
            return accelerated
    return TorchClassifier(fused(prepared) if spec.kind == "torch" else prepared, batch=batch)


def torch_module(spec: VersionSpec) -> tuple[nn.Module, int | None]:
    """The bare network (normalised NCHW in) of kinds "torch" and "export", and its batch size where that is fixed.

    Raises VersionRefused.
    """
    path = Path(spec.weights) if spec.weights else None
    if path is not None:
        check_sha256(path, spec.sha256)
    if spec.kind == "export":
        return exported_module(Path(spec.weights or ""))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed)
            module = build(spec.architecture, **spec.arch_kwargs)
    except UnknownArchitecture as error:
        raise VersionRefused(str(error)) from error
    if path is not None:
        load_into(module, read_state_dict(path), architecture=spec.architecture, weights=path.name)
    return module.eval().requires_grad_(False), None


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread inside the block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def same_classes(reference: np.ndarray, scores: np.ndarray) -> float:
    """Share of rows with the same argmax; (n, C) both."""
    return float((reference.argmax(1) == scores.argmax(1)).mean())


def supports_bfloat16(device: str) -> bool:
    """Whether the device computes bfloat16 in hardware (NVIDIA Ampere and later); never assumed of a CPU."""
    kind = torch.device(device).type
    return kind == "cuda" and torch.cuda.get_device_capability(torch.device(device)) >= (8, 0)


def _on_gpu(prepared: nn.Module, device: str, compiled: bool, batch: int | None, probe: np.ndarray) -> TorchClassifier:
    plain = TorchClassifier(prepared, device=device, batch=batch)
    chosen = plain
    if supports_bfloat16(device):
        half = TorchClassifier(prepared, device=device, autocast=True, batch=batch)
        if same_classes(plain(probe), half(probe)) >= _SAME_CLASS:
            chosen = half
    if not compiled:
        return chosen
    return TorchClassifier(prepared, device=device, autocast=chosen.autocast, compiled=True, batch=batch)


def count_macs(module: nn.Module, x: torch.Tensor) -> int:
    """Multiply-accumulates of convolutions, matrix products and attention: half of what the FLOP counter sees."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops() // 2


def is_worth_exporting(prepared: nn.Module, n_images: int | None, probe: np.ndarray) -> bool:
    """Decided from counts, never from a clock, so that a resumed job decides alike."""
    return n_images is None or n_images * _layer_macs(prepared, torch.from_numpy(probe[:1])) >= _EXPORT_PAYS_OFF


def _layer_macs(module: nn.Module, x: torch.Tensor) -> int:
    """Multiply-accumulates of convolution and linear layers alone: enough for a decision, without the seconds that the
    FLOP counter takes to import."""
    total = 0

    def add(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal total
        weight = layer.weight
        total += output.numel() * (weight.numel() // len(weight))  # type: ignore[arg-type, operator]

    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    with torch.inference_mode():
        module(x)
    for hook in hooks:
        hook.remove()
    return total


def through_onnxruntime(
    spec: VersionSpec, prepared: nn.Module, cache_dir: Path | None, probes: Sequence[np.ndarray], *, any_size: bool
) -> OrtClassifier | None:
    """The cached or fresh export, None when it cannot be made or disagrees with eager torch on one of the probes.

    `any_size`: height and width stay free, as the number of images does.
    """
    cached = cache_dir / f"{_export_key(spec, probes[0], any_size)}.onnx" if cache_dir else None
    try:
        content = cached.read_bytes() if cached and cached.exists() else _export(prepared, probes[0], any_size)
        classifier = OrtClassifier(content, spec.label, any_size=any_size)
        found = [classifier(probe) for probe in probes]
    except Exception as error:
        logger.warning("%s runs in eager torch, its export failed: %s", spec.label, error)
        return None
    for scores, probe in zip(found, probes, strict=True):
        with torch.inference_mode():
            reference = _only_tensor(prepared(torch.from_numpy(probe))).numpy()
        worst = float(np.abs(scores - reference).max())
        if not worst <= _SCORE_TOLERANCE * max(float(np.abs(reference).max()), 1e-6):
            logger.warning("%s runs in eager torch, its export is off by %g", spec.label, worst)
            return None
    if cached is not None and not cached.exists():
        _keep(cached, content)
    return classifier


def _export(prepared: nn.Module, probe: np.ndarray, any_size: bool) -> bytes:
    """ONNX bytes with a free batch size. The tracing exporter takes a tenth of the time of the graph-capturing one."""
    free = {0: "n", 1: "height", 2: "width"} if any_size else {0: "n"}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(folder) / "export.onnx"
        torch.onnx.export(
            prepared,
            (torch.from_numpy(probe[:2]),),
            file,
            dynamo=False,
            opset_version=17,
            input_names=["pixels"],
            output_names=["scores"],
            dynamic_axes={"pixels": free, "scores": {0: "n"}},
        )
        return file.read_bytes()


def _export_key(spec: VersionSpec, probe: np.ndarray, any_size: bool) -> str:
    parts = [spec.fingerprint(), None if any_size else probe.shape[1:], torch.__version__, ort.__version__]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _keep(target: Path, content: bytes) -> None:
    """Write atomically; a full disk only costs the cache."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".tmp", delete=False) as file:
            file.write(content)
        os.replace(file.name, target)
    except OSError as error:
        Path(file.name).unlink(missing_ok=True)
        logger.warning("the export %s was not kept: %s", target.name, error)


def fused(prepared: nn.Module) -> nn.Module:
    """Batch norms folded into convolutions where the module can be traced, else the module itself."""
    try:
        return optimization.fuse(prepared)
    except Exception as error:
        logger.info("convolutions and batch norms stay apart: %s", error)
        return prepared


def _probe(spec: VersionSpec, given: np.ndarray | None) -> np.ndarray:
    if given is not None:
        return given
    side = spec.preprocessing.input_size or 32
    return np.random.default_rng(0).integers(0, 256, (PROBE_IMAGES, side, side, 3), dtype=np.uint8)


def _only_tensor(output: Any) -> torch.Tensor:
    """The network's scores; the first of several outputs."""
    first = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(first, torch.Tensor):
        raise VersionRefused(f"the network gives a {type(first).__name__}, not a tensor of scores")
    return first
