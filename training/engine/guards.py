"""What stops a run: numbers that are none, limits of time and memory, early stop. Importing this imports no torch."""

import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

MEMORY_CHECK_SECONDS = 1.0


class Diverged(ValueError):
    """The training went out of hand: a loss or a weight is no finite number."""


class LimitReached(ValueError):
    """The run used up its time or memory. Its checkpoint was written: run again, it goes on from there."""


class RunLost(BaseException):
    """Another process holds the run now: nothing more may be written. Raised by a ``progress`` callback."""


def require_finite(name: str, value: float, *, stage: str, step: int) -> None:
    """Raise Diverged when a loss (a metric with "loss" in its name) is NaN or infinite."""
    if "loss" in name.lower() and not math.isfinite(value):
        raise Diverged(
            f'"{name}" is {value} at step {step} of stage "{stage}": the training diverged. Start a new run with a '
            "lower learning rate (or in fp32, if it computed in half precision), and look for zeros under a logarithm, "
            "a root or a division in the data."
        )


def require_finite_weights(name: str, module: "nn.Module", *, stage: str, step: int) -> None:
    """Raise Diverged when a parameter holds NaN or infinity, so that such weights never become a checkpoint."""
    for key, parameter in module.named_parameters():
        if not bool(parameter.detach().isfinite().all()):
            raise Diverged(
                f'weight "{key}" of "{name}" is not finite after step {step} of stage "{stage}": the training '
                "diverged. Start a new run with a lower learning rate, or log the loss at every step to see where."
            )


@dataclass
class Limits:
    """seconds: of this start, None for no limit. memory_gb: of this process's main memory, None for no limit."""

    seconds: float | None = None
    memory_gb: float | None = None
    _started: float = field(default_factory=time.monotonic)
    _looked: float = 0.0

    def check(self, words: str) -> None:
        """Raise LimitReached; ``words`` say where the run is, such as 'step 3 of 10 of stage "train"'."""
        now = time.monotonic()
        if self.seconds is not None and now - self._started >= self.seconds:
            raise LimitReached(
                f"The run reached its time limit of {self.seconds:g} s at {words}. Its checkpoint is written: press "
                "Retry to go on from there, or raise the limit."
            )
        if self.memory_gb is None or now - self._looked < MEMORY_CHECK_SECONDS:
            return
        self._looked = now
        used = resident_gb()
        if used > self.memory_gb:
            raise LimitReached(
                f"The run holds {used:.1f} GB of memory at {words}, more than its limit of {self.memory_gb:g} GB. Its "
                "checkpoint is written: press Retry to go on with a fresh process, choose a smaller batch, or raise "
                "the limit."
            )


def resident_gb() -> float:
    """Main memory that this process holds, in GiB; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


class EarlyStop:
    """Says when a metric no longer improves, and keeps the best weights; part of a stage's state::

        stop = run.early_stop(patience=5, mode="max", keep=network)
        for step in run.steps(n, network=network, optimiser=optimiser, stop=stop):
            ...
            if stop.update(step, srcc):
                run.stop()
        stop.restore()

    patience: evaluations without an improvement of more than ``min_delta`` after which ``update`` says True.
    """

    def __init__(
        self,
        *,
        patience: int,
        mode: Literal["min", "max"] = "max",
        min_delta: float = 0.0,
        keep: "nn.Module | None" = None,
    ) -> None:
        if patience < 1:
            raise ValueError(f"patience is {patience}: give at least 1 evaluation")
        self.patience = patience
        self.mode = mode
        self.min_delta = min_delta
        self.best: float | None = None
        self.best_step: int | None = None
        self._waited = 0
        self._module = keep
        self._weights: dict[str, Any] | None = None

    def update(self, step: int, value: float) -> bool:
        """Take an evaluation in; whether to stop. NaN never counts as an improvement."""
        gain = math.inf if self.best is None else (value - self.best) * (1 if self.mode == "max" else -1)
        if not math.isnan(value) and gain > self.min_delta:
            self.best, self.best_step, self._waited = value, step, 0
            if self._module is not None:
                self._weights = {key: tensor.detach().clone() for key, tensor in self._module.state_dict().items()}
            return False
        self._waited += 1
        return self._waited >= self.patience

    def restore(self) -> None:
        """Put the best weights back into the module; nothing without one, or before the first evaluation."""
        if self._module is not None and self._weights is not None:
            self._module.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "best_step": self.best_step,
            "waited": self._waited,
            "weights": self._weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_step, self._waited = state["best"], state["best_step"], state["waited"]
        self._weights = state["weights"]
