"""What a recipe gets: its inputs, its loop, and places to put what it finds.

Stage: one loop of a recipe, by name. A recipe is resumed by running it again from the top: loops that were finished
restore their end and yield nothing, the one that was broken off yields the steps that are left. What a recipe does
outside its loops is done again, so it has to follow from the seed, the inputs and the state at the end of the stages
before it; a smaller network that is cut out of a trained one between two stages, for instance.
"""

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch import nn

from models_zoo.adapters.compact import SUFFIX, Weight
from models_zoo.adapters.spec import Preprocessing
from training.engine.checkpoints import CheckpointError, CheckpointStore, rng_restore, rng_state
from training.engine.devices import Resources, watching
from training.engine.guards import (
    EarlyStop,
    LimitReached,
    Limits,
    RunLost,
    require_finite,
    require_finite_weights,
)
from training.engine.metrics import FILE as METRICS
from training.engine.metrics import JsonLines, as_json
from training.engine.networks import (
    InputNetwork,
    Output,
    Purpose,
    compact_content,
    plain,
    weights_of,
    write_arrays,
    write_content,
    write_weights,
)
from training.engine.samples import Samples, slug

if TYPE_CHECKING:
    from accelerate import Accelerator

    from training.engine.labels import LabelledData

logger = logging.getLogger(__name__)

OUTPUTS = "outputs"
REPORT = "report.json"  # of a run whose recipe raised
ARTIFACTS = "artifacts"


class StageError(RuntimeError):
    """A recipe uses its loops in a way that could not be resumed."""


class Stateful(Protocol):
    """What a stage keeps: a module, an optimiser, a schedule, an average, a replay buffer, ``Values``."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


class Values(dict[str, Any]):
    """A dict that can be part of a stage's state: counters, latches, a list of losses."""

    def state_dict(self) -> dict[str, Any]:
        return dict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.clear()
        self.update(state)


@dataclass(frozen=True)
class Progress:
    """Where a run is: ``done`` of ``total`` steps of a stage."""

    stage: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]


class RunContext:
    """Handed to the recipe. Under several processes each has its own; only the main one writes.

    Attributes:
        seed: of everything random; the global generators of Python, numpy and torch were seeded with it.
        directory: the run's own folder.
        device, accelerator: where it computes.
        data: the labelled set, None where the method needs none.
    """

    def __init__(
        self,
        *,
        directory: Path,
        seed: int,
        accelerator: "Accelerator",
        resources: Resources,
        store: CheckpointStore,
        inputs: Mapping[str, Sequence[InputNetwork]],
        data: "LabelledData | None" = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self.directory = directory
        self.seed = seed
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.data = data
        self._inputs = inputs
        self._resources = resources
        self._store = store
        self._on_progress = on_progress
        self._limits = Limits(resources.time_limit_seconds if self.is_main else None, resources.memory_limit_gb)
        self._facts: dict[str, Any] = {}
        self._outputs: dict[tuple[str, int], Output] = {}
        self._counts: dict[str, int] = {}
        self._stages: list[str] = []
        self._running: dict[str, Stateful] | None = None
        self._step = 0
        self._total = 0
        self._is_ending = False
        self._replayed = store.newest  # until the stage of this checkpoint begins, the past is done again
        self._seconds_before = 0.0
        self._started = self._saved_at = time.monotonic()
        self._open_streams()

    # What goes in

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return bool(self.accelerator.is_main_process)

    def input(self, role: str) -> InputNetwork:
        """The version of a role that takes one. Raises ValueError where there is none."""
        networks = self.inputs(role)
        if len(networks) != 1:
            raise ValueError(f'the run has {len(networks)} inputs "{role}": one is needed')
        return networks[0]

    def inputs(self, role: str) -> list[InputNetwork]:
        """The versions of a role, in order; none where it was left empty."""
        return list(self._inputs.get(role, ()))

    def rng(self, *key: int | str) -> np.random.Generator:
        """A generator that follows from the seed and the key alone, such as ``run.rng("crop", step)``."""
        numbers = [self.seed, *(_as_number(part) for part in key)]
        return np.random.default_rng(np.random.SeedSequence(numbers))

    def share(self, indices: np.ndarray) -> np.ndarray:
        """This process's part of a batch; all of it where there is one process."""
        return indices[self.accelerator.process_index :: self.accelerator.num_processes]

    # Computing

    def prepare(self, module: nn.Module, *others: Any) -> Any:
        """The module on the device, spread over the processes, with its optimisers and schedules: as many as given."""
        if self.device.type == "cuda":
            if not any(parameter.dim() == 5 for parameter in module.parameters()):  # video networks have another layout
                module = module.to(memory_format=torch.channels_last)
            if self._resources.compiled:
                module = torch.compile(module)  # type: ignore[assignment]
        return self.accelerator.prepare(module, *others)

    def autocast(self) -> AbstractContextManager[Any]:
        """Computes in the run's precision inside the block."""
        return self.accelerator.autocast()

    def backward(self, loss: torch.Tensor) -> None:
        """The gradients of a loss, scaled where the precision needs it."""
        self.accelerator.backward(loss)

    # The loop

    def steps(self, n: int, stage: str = "train", **state: Stateful) -> Iterator[int]:
        """THE loop: the numbers of the steps that are left of ``n``.

        Restores ``state`` and all generators when the run goes on from a checkpoint; a stage that was finished restores
        its end and yields nothing. Writes a checkpoint every ``checkpoint_seconds`` and at its end; between steps it
        obeys cancel and limits. To leave it early call ``stop`` and let the step end; never ``break``.

        Raises:
            StageError: a second loop of one name, or one inside or after another that was left with ``break``.
            CheckpointError: the state does not fit the checkpoint.
            Diverged, LimitReached: see ``training.engine.guards``.
        """
        self._require_over(f'stage "{stage}" begins')
        if stage in self._stages:
            raise StageError(f'there are two stages "{stage}": give each loop of a recipe a name of its own')
        for name, part in state.items():
            if not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict")):
                raise StageError(f'state "{name}" of stage "{stage}" is a {type(part).__name__}: it has no state_dict')
        self._stages.append(stage)
        self._step, self._total, self._is_ending = 0, n, False
        is_over = self._restore(stage, state)
        if is_over:
            return iter(())
        self._running = state
        return self._count(n)

    def stop(self) -> None:
        """End the stage in hand after this step."""
        if self._running is None:
            raise StageError("stop() ends a stage: call it inside a loop over run.steps")
        self._is_ending = True

    def check(self) -> None:
        """For long work inside a step: obeys cancel and limits, but nothing of the step is kept."""
        self._tell()
        self._limits.check(self._where())

    def early_stop(
        self,
        *,
        patience: int,
        mode: Literal["min", "max"] = "max",
        min_delta: float = 0.0,
        keep: nn.Module | None = None,
    ) -> EarlyStop:
        """Says when a metric no longer improves; part of a stage's state."""
        return EarlyStop(patience=patience, mode=mode, min_delta=min_delta, keep=keep)

    # What comes out

    @property
    def stage(self) -> str:
        """The stage in hand, or the last one; "" before the first."""
        return self._stages[-1] if self._stages else ""

    @property
    def seconds(self) -> float:
        """Of computing, over all starts of the run, without what was lost after a checkpoint."""
        return self._seconds_before + time.monotonic() - self._started

    def log(self, step: int, **metrics: float) -> None:
        """Add to the curves. Raises Diverged when a metric with "loss" in its name is not finite."""
        values = {name: float(value) for name, value in metrics.items()}
        for name, value in values.items():
            require_finite(name, value, stage=self.stage, step=step)
        if self._metrics is None or self._replayed is not None:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._metrics.append({"stage": self.stage, "step": step, "t": round(self.seconds, 3), **finite})

    def sample(
        self, name: str, image: np.ndarray | Sequence[np.ndarray], caption: str = "", step: int | None = None
    ) -> None:
        """Show pictures: uint8 (H, W, 3), (H, W, 1) or (H, W), one or a list of them side by side."""
        if self._samples is None or self._replayed is not None:
            return
        images = [image] if isinstance(image, np.ndarray) else list(image)
        at = self._step if step is None else step
        entry = {"caption": caption, "stage": self.stage, "step": at, "t": round(self.seconds, 3)}
        self._samples.add(name, images, entry)

    def report(self, **facts: Any) -> None:
        """Add to the report: JSON; a later fact of the same name replaces the earlier one."""
        self._facts.update(as_json(facts, "report"))

    def artifact(self, name: str) -> Path:
        """Where a recipe may keep a file of its own, such as an export; only the main process writes it."""
        folder = self.directory / ARTIFACTS
        folder.mkdir(exist_ok=True)
        return folder / Path(name).name

    def save(
        self,
        role: str,
        module: nn.Module,
        *,
        architecture: str,
        arch_kwargs: Mapping[str, Any] | None = None,
        preprocessing: Preprocessing | Mapping[str, Any],
        outputs: Literal["score", "logits"],
        label: str = "",
        facts: Mapping[str, Any] | None = None,
        arrays: Mapping[str, np.ndarray] | None = None,
        parents: Iterable[InputNetwork] = (),
        purpose: Purpose = "use",
        compact: Mapping[str, Weight] | None = None,
    ) -> Output:
        """Keep a network; it becomes a version when the run succeeded. Several of one role are numbered as they come.

        Args:
            facts: JSON that goes along with the version. Where "measured" (`robustness.measured`) leaves its "bytes"
                open, they become the size of the weights file.
            arrays: kept beside the weights, for a later run's ``InputNetwork.arrays``: masks, say.
            parents: inputs that it was made from; all of them when none are named.
            compact: weights by their sparse or quantised parts, which the file keeps in their place (a compact file,
                ``models_zoo.adapters.compact``); the network has what they make, to the bit.

        Raises:
            VersionRefused, UnknownArchitecture: the weights do not fit the architecture.
            ValueError: a weight is not what its parts make.
        """
        number = self._counts.get(role, 0)
        self._counts[role] = number + 1
        kwargs = dict(arch_kwargs or {})
        prepared = (
            preprocessing if isinstance(preprocessing, Preprocessing) else Preprocessing.from_dict(dict(preprocessing))
        )
        state = weights_of(module, architecture, kwargs)
        content = None if compact is None else compact_content(state, compact)
        sha256, file, arrays_file, said = (
            "",
            f"{OUTPUTS}/{slug(role)}-{number}{'.safetensors' if content is None else SUFFIX}",
            "",
            as_json(facts or {}, "facts"),
        )
        if arrays:
            arrays_file = f"{OUTPUTS}/{slug(role)}-{number}.arrays.safetensors"
        if self.is_main:
            (self.directory / OUTPUTS).mkdir(exist_ok=True)
            path = self.directory / file
            sha256 = write_weights(path, state) if content is None else write_content(path, content)
            if "measured" in said and said["measured"].get("bytes") is None:
                said["measured"]["bytes"] = path.stat().st_size
            if arrays:
                said["arrays_sha256"] = write_arrays(self.directory / arrays_file, arrays)
        output = Output(
            role=role,
            number=number,
            file=file,
            sha256=sha256,
            architecture=architecture,
            arch_kwargs=kwargs,
            preprocessing=as_json(asdict(prepared), "preprocessing"),
            outputs=outputs,
            label=label,
            purpose=purpose,
            facts=said,
            arrays_file=arrays_file,
            parents=[[parent.role, parent.number] for parent in parents],
        )
        self._outputs[role, number] = output
        return output

    def finish(self) -> tuple[dict[str, Any], list[Output]]:
        """The report and the outputs, in the order of roles and numbers. Called by the engine when the recipe is over.

        Raises:
            StageError: a loop was left with ``break``.
        """
        self._require_over("the recipe ends")
        return self._facts, [self._outputs[key] for key in sorted(self._outputs)]

    def keep_report(self) -> None:
        """Write down what was reported so far, for a run whose recipe raised. Called by the engine. Where that fails,
        on a full disk say, the log says so: what the recipe raised matters more."""
        if not self.is_main:
            return
        try:
            write_report(self.directory, self._facts)
        except OSError as error:
            logger.warning("the report of the failed run in %s was not kept: %s", self.directory, error)

    def close(self) -> None:
        for stream in (self._metrics, self._samples.lines if self._samples else None):
            if stream is not None:
                stream.close()

    # Inside

    def _open_streams(self) -> None:
        self._metrics = JsonLines(self.directory / METRICS) if self.is_main else None
        self._samples = Samples(self.directory) if self.is_main else None
        if self._replayed is None:
            self._cut(0, 0)
            return
        content = self._store.read(self._replayed)
        self._cut(content["metrics"], content["samples"])
        self._seconds_before = content["seconds"]

    def _cut(self, metrics: int, samples: int) -> None:
        if self._metrics is not None and self._samples is not None:
            self._metrics.cut(metrics)
            self._samples.cut(samples)

    def _require_over(self, what: str) -> None:
        if self._running is not None:
            raise StageError(
                f'{what}, but stage "{self.stage}" is not over: call run.stop() to end a loop early, not break, and '
                "put no loop over run.steps inside another"
            )

    def _restore(self, stage: str, state: Mapping[str, Stateful]) -> bool:
        """Put the stage's newest checkpoint back, if there is one; whether the stage is over."""
        point = self._store.of_stage(stage) if self._replayed is not None else None
        if point is None:
            return False
        content = self._store.read(point)
        _load(content["state"], self._whole(state), stage)
        rngs = content["rng"]
        rng_restore(rngs[self.accelerator.process_index], self.device)
        self._step = point.done
        if self._replayed is not None and point.number == self._replayed.number:
            self._catch_up(content)
        return point.kind == "final"

    def _catch_up(self, content: Mapping[str, Any]) -> None:
        """The newest checkpoint is reached: from here on things are new."""
        self._replayed = None
        self._facts.update(content["report"])
        self._outputs = {(entry["role"], entry["number"]): Output(**entry) for entry in content["outputs"]}
        self._counts = dict(content["counts"])

    def _count(self, n: int) -> Iterator[int]:
        self._between()
        while self._step < n and not self._is_ending:
            yield self._step
            self._step += 1
            if self._step < n and not self._is_ending:
                self._between()
        self._replayed = None
        self._save("final")
        self._running = None
        self._tell()

    def _between(self) -> None:
        """Between two steps: cancel, limits, and a checkpoint when it is time, or before it stops."""
        reason: BaseException | None = None
        try:
            self.check()
        except RunLost:
            raise
        except BaseException as error:
            reason = error
        is_due = time.monotonic() - self._saved_at >= self._resources.checkpoint_seconds
        is_due, must_stop = self._agreed(is_due, reason is not None)
        if self._step and (is_due or must_stop):
            self._save("step")
        if reason is not None:
            raise reason
        if must_stop:
            raise LimitReached(f"Another process of the run stopped at {self._where()}: its log says why.")

    def _agreed(self, is_due: bool, must_stop: bool) -> tuple[bool, bool]:
        """The same decision in every process."""
        if self.accelerator.num_processes == 1:
            return is_due, must_stop
        flags = torch.tensor([float(is_due and self.is_main), float(must_stop)], device=self.device)
        found = self.accelerator.reduce(flags, reduction="sum")
        return bool(found[0] > 0), bool(found[1] > 0)

    def _save(self, kind: Literal["step", "final"]) -> None:
        assert self._running is not None
        whole = self._whole(self._running)
        for name, part in whole.items():
            if isinstance(part, nn.Module):
                require_finite_weights(name, part, stage=self.stage, step=self._step - 1)
        rngs = [rng_state(self.device)]
        if self.accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            rngs = gather_object(rngs)
        if self._metrics is not None and self._samples is not None:
            self._store.write(
                kind,
                {
                    "stage": self.stage,
                    "done": self._step,
                    "device": str(self.device),
                    "state": {name: part.state_dict() for name, part in whole.items()},
                    "rng": rngs,
                    "metrics": self._metrics.mark(),
                    "samples": self._samples.lines.mark(),
                    "report": self._facts,
                    "outputs": [output.to_dict() for output in self._outputs.values()],
                    "counts": self._counts,
                    "seconds": self.seconds,
                },
            )
        self.accelerator.wait_for_everyone()
        self._saved_at = time.monotonic()

    def _whole(self, state: Mapping[str, Stateful]) -> dict[str, Stateful]:
        """The state with wrappers taken off, and what the precision itself keeps."""
        parts = {name: plain(part) if isinstance(part, nn.Module) else part for name, part in state.items()}
        scaler = getattr(self.accelerator, "scaler", None)
        return parts if scaler is None else {**parts, "_scaler": scaler}

    def _tell(self) -> None:
        if self._on_progress is not None and self.is_main:
            self._on_progress(Progress(self.stage, self._step, self._total))

    def _where(self) -> str:
        return f'step {self._step} of {self._total} of stage "{self.stage}"'


def run_recipe(
    recipe: Callable[[RunContext, Any], None], run: RunContext, config: Any
) -> tuple[dict[str, Any], list[Output]]:
    """Call a recipe; its report and outputs. What it raises leaves the report so far in the directory."""
    try:
        with watching(run.device):
            recipe(run, config)
        return run.finish()
    except Exception:
        run.keep_report()
        raise
    finally:
        run.close()


def write_report(directory: Path, report: Mapping[str, Any]) -> None:
    """Keep what a run reported before it failed; atomically."""
    temporary = directory / f"{REPORT}.tmp"
    temporary.write_text(json.dumps(report), encoding="utf-8")
    os.replace(temporary, directory / REPORT)


def _load(kept: Mapping[str, Any], parts: Mapping[str, Stateful], stage: str) -> None:
    if kept.keys() != parts.keys():
        raise CheckpointError(
            f'stage "{stage}" has the state {", ".join(parts) or "nothing"}, its checkpoint '
            f"{', '.join(kept) or 'nothing'}: the method or the precision was changed since; start a new run"
        )
    for name, part in parts.items():
        try:
            part.load_state_dict(kept[name])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f'"{name}" of stage "{stage}" does not fit its checkpoint ({error}): a recipe that is run again has to '
                "build the same objects from the seed, the inputs and the stages before"
            ) from error


def _as_number(part: int | str) -> int:
    if isinstance(part, str):
        return int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "big")
    return int(part)
