"""ONNX files from others: opened from memory (so that no external data file is followed), checked, run on the CPU."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import shape_inference
from torch import nn

from models_zoo.adapters.prepare import Prepared, in_batches
from models_zoo.adapters.spec import Preprocessing, VersionRefused

_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_BYTES = "tensor(uint8)"


@dataclass(frozen=True)
class OnnxInput:
    """`layout`: NCHW or NHWC; `size`: fixed (H, W) or None; `batch`: fixed batch size or None."""

    name: str
    dtype: str
    layout: str
    channels: int
    size: tuple[int, int] | None
    batch: int | None


class OnnxClassifier:
    """scores: (N, C) float32, the file's first output. One thread, so that results do not depend on the machine's."""

    backend = f"onnxruntime {ort.__version__}"

    def __init__(self, path: Path, preprocessing: Preprocessing) -> None:
        self.name = path.name
        self._session = open_session(path.read_bytes(), self.name)
        self.input = _image_input(self._session, self.name)
        if self.input.channels != preprocessing.n_channels:
            raise VersionRefused(
                f'"{self.name}" takes {self.input.channels} channels, but the preprocessing gives '
                f"{preprocessing.n_channels} ({preprocessing.channels})"
            )
        self._prepare = Prepared(nn.Identity(), preprocessing).eval()
        self._output = self._session.get_outputs()[0].name

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return in_batches(self._run, pixels, self.input.batch)

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            x = self._prepare(torch.from_numpy(pixels)).numpy()
        if self.input.layout == "NHWC":
            x = x.transpose(0, 2, 3, 1)
        if self.input.dtype == _BYTES:
            x = np.clip(np.rint(x), 0, 255).astype(np.uint8)
        else:
            x = x.astype(_FLOATS[self.input.dtype], copy=False)
        scores = self._session.run([self._output], {self.input.name: np.ascontiguousarray(x)})[0]
        return np.asarray(scores, dtype=np.float32)


def open_session(content: bytes, name: str, *, any_size: bool = False) -> ort.InferenceSession:
    """A session on one CPU thread; `any_size`: memory is not planned for the first input's size.

    Raises VersionRefused when ONNX Runtime cannot open or run the file.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_mem_pattern = not any_size
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).splitlines()[0][:300]
        raise VersionRefused(
            f'"{name}" is not an ONNX file that ONNX Runtime can run (one file, no external data): {reason}'
        ) from error


def onnx_parameters(path: Path) -> int:
    """Values in floating-point initialisers."""
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE}
    initialisers = onnx.load(path, load_external_data=False).graph.initializer
    return sum(int(np.prod(tensor.dims)) for tensor in initialisers if tensor.data_type in floats)


def onnx_macs(path: Path, shape: tuple[int, ...]) -> int | None:
    """Multiply-accumulates of Conv, Gemm and MatMul for one input of this shape; None where a shape stays unknown."""
    model = onnx.load(path, load_external_data=False)
    for dim, side in zip(model.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = side
    try:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:
        return None
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        dims = value.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    counted = [_node_macs(node, shapes) for node in graph.node if node.op_type in {"Conv", "Gemm", "MatMul"}]
    return None if None in counted else sum(count for count in counted if count is not None)


def _node_macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int | None:
    """Output elements times the length of the sum behind each."""
    out, left, right = (shapes.get(name) for name in (node.output[0], node.input[0], node.input[1]))
    if out is None or left is None or right is None:
        return None
    if node.op_type == "Conv":
        length = int(np.prod(right[1:]))
    elif node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute):
        length = left[0]
    else:
        length = left[-1]
    return int(np.prod(out)) * length


def _image_input(session: ort.InferenceSession, name: str) -> OnnxInput:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise VersionRefused(f'"{name}" takes {len(inputs)} inputs, not one batch of images')
    found = inputs[0]
    sides = [side if isinstance(side, int) and side > 0 else None for side in found.shape]
    if len(sides) != 4:
        raise VersionRefused(f'"{name}" takes an input of shape {found.shape}, not a batch of images (N, C, H, W)')
    if found.type not in {*_FLOATS, _BYTES}:
        raise VersionRefused(f'"{name}" takes an input of type {found.type}: float or uint8 images are needed')
    layout = "NHWC" if sides[3] in {1, 3} and sides[1] not in {1, 3} else "NCHW"
    batch, channels, height, width = (
        (sides[i] for i in (0, 1, 2, 3)) if layout == "NCHW" else (sides[i] for i in (0, 3, 1, 2))
    )
    if channels not in {1, 3}:
        raise VersionRefused(f'"{name}" takes an input of shape {found.shape}: 1 or 3 channels are needed')
    size = (height, width) if height and width else None
    return OnnxInput(found.name, found.type, layout, channels, size, batch)
