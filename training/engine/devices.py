"""Where a run computes, and in what precision. Importing this imports no torch."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16"]
OnLoss = Literal["fail", "cpu"]
_MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
_BROKEN = (
    "cuda error",
    "cudnn_status",
    "cublas_status",
    "device-side assert",
    "nccl error",
    "nvml",
    "no nvidia driver",
)


class BadResources(ValueError):
    """A device, precision or limit that cannot be had. ``field`` names it."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class DeviceLost(ValueError):
    """The GPU that the run computed on does not answer any more."""


@dataclass(frozen=True)
class Resources:
    """Where and how long a run may compute; changing them never changes which run it is.

    device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1". precision: "auto" is bfloat16 or float16 on a
    GPU by its capability, float32 elsewhere. compiled: ``torch.compile`` on a GPU. on_device_loss: when a GPU
    disappears, fail with a message, or go on on the CPU from the last checkpoint. time_limit_seconds: of one start.
    """

    device: str = "auto"
    precision: Precision = "auto"
    compiled: bool = False
    on_device_loss: OnLoss = "fail"
    time_limit_seconds: float | None = None
    memory_limit_gb: float | None = None
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        kind, _, index = self.device.partition(":")
        if kind not in {"auto", "cpu", "cuda"} or (":" in self.device and not (kind == "cuda" and index.isdecimal())):
            raise BadResources(
                f'There is no device "{self.device}": choose auto, cpu, cuda, or one GPU such as cuda:1.',
                field="device",
            )
        for name, choices in (("precision", get_args(Precision)), ("on_device_loss", get_args(OnLoss))):
            if getattr(self, name) not in choices:
                raise BadResources(f"{name} is {getattr(self, name)!r}: choose {', '.join(choices)}", field=name)
        for name in ("time_limit_seconds", "memory_limit_gb", "checkpoint_seconds"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and value >= 0):
                raise BadResources(f"{name} is {value!r}: give a number of 0 or more, or nothing", field=name)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raises BadResources for unknown names and bad values."""
        known = [entry.name for entry in fields(cls)]
        for name in values:
            if name not in known:
                raise BadResources(f'There is no option "{name}" of a run: choose from {", ".join(known)}.', field=name)
        return cls(**values)

    def changed(self) -> dict[str, Any]:
        """What differs from the defaults, as JSON."""
        default = asdict(type(self)())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    def on_cpu(self) -> Self:
        return replace(self, device="cpu", precision="fp32", compiled=False)


def open_accelerator(resources: Resources) -> "Accelerator":
    """The accelerator on the device that was asked for; under ``accelerate launch`` each process has its own.

    Raises BadResources when there is no such device, or it lacks the precision.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        _require_gpu(resources.device, n_gpus)
    except BadResources as error:
        if resources.on_device_loss == "fail":
            raise
        logger.warning("%s The run computes on the CPU.", error)
        resources = resources.on_cpu()
    if not torch.distributed.is_initialized():  # another run of this process may have had another device
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    if ":" in resources.device:
        torch.cuda.set_device(int(resources.device.partition(":")[2]))
    on_cpu = not n_gpus or resources.device == "cpu"
    return Accelerator(
        cpu=on_cpu,
        mixed_precision=_MIXED[_precision(resources.precision, on_gpu=not on_cpu)],
        step_scheduler_with_optimizer=False,  # a recipe steps its schedules itself, once a step
    )


def _require_gpu(device: str, n_gpus: int) -> None:
    index = int(device.partition(":")[2] or 0) if device.startswith("cuda") else -1
    if index >= n_gpus:
        there = f"it has {', '.join(f'cuda:{number}' for number in range(n_gpus))}" if n_gpus else "it has no GPU"
        raise BadResources(f'This machine has no device "{device}", {there}: choose auto or cpu.', field="device")


def _precision(asked: str, *, on_gpu: bool) -> str:
    import torch

    if not on_gpu:
        if asked == "fp16":
            raise BadResources(
                "fp16 needs a GPU: on the CPU choose fp32 (or auto), or bf16 to try it.", field="precision"
            )
        return "fp32" if asked == "auto" else asked
    has_bf16 = torch.cuda.get_device_capability() >= (8, 0)
    if asked == "bf16" and not has_bf16:
        raise BadResources(
            "This GPU does not compute bf16 (Ampere and later do): choose fp16 or auto.", field="precision"
        )
    return ("bf16" if has_bf16 else "fp16") if asked == "auto" else asked


def require_device(*, before: str, now: "torch.device", resources: Resources) -> None:
    """A run that computed on a GPU goes on on the CPU only where that was asked for. Raises DeviceLost."""
    is_gone = before.startswith("cuda") and now.type != "cuda" and resources.device != "cpu"
    if is_gone and resources.on_device_loss == "fail":
        raise DeviceLost(
            f"The run computed on {before} before, and there is no GPU now. Bring it back and press Retry; or choose "
            'the device "cpu", or set on_device_loss to "cpu", to go on without it.'
        )


def device_words(device: "torch.device") -> str:
    """What messages and reports call the device."""
    if device.type != "cuda":
        return "the CPU"
    import torch

    return f"{torch.cuda.get_device_name(device)} ({device})"


def is_device_loss(error: BaseException) -> bool:
    """Whether an error of a run on a GPU means that the GPU is gone or broken, not that memory ran out."""
    words = f"{type(error).__name__}: {error}".lower()
    return isinstance(error, RuntimeError) and "out of memory" not in words and any(word in words for word in _BROKEN)


@contextmanager
def watching(device: "torch.device") -> Iterator[None]:
    """Turn the errors of a lost GPU into DeviceLost."""
    try:
        yield
    except RuntimeError as error:
        if device.type != "cuda" or not is_device_loss(error):
            raise
        raise DeviceLost(
            f"The GPU {device} does not answer any more ({str(error).strip().splitlines()[0][:200]}). Look at "
            'nvidia-smi, restart the worker and press Retry; or set on_device_loss to "cpu" to go on without it.'
        ) from error
