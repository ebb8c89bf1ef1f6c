"""Runs as a library, without database or web: from a notebook, a benchmark or a test.

>>> result = run_method("unique", config={"epochs": 2}, data=data, directory=Path("runs/1"))
>>> finetuned = run_method("finetune", config=None, inputs={"target": result.network("target")}, ...)
"""

import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from training.engine.checkpoints import CheckpointStore, require_same, rng_restore, rng_seed, rng_state
from training.engine.context import ARTIFACTS, OUTPUTS, REPORT, OnProgress, Progress, RunContext, run_recipe
from training.engine.devices import DeviceLost, Resources, device_words, open_accelerator, require_device
from training.engine.metrics import FILE as METRICS
from training.engine.metrics import read_metrics
from training.engine.needs import require_data, require_inputs, require_one_task
from training.engine.networks import InputNetwork, Output, inputs_digest, sync_folder
from training.engine.registry import Method, MethodConfig, method
from training.engine.samples import FILE as SAMPLES
from training.engine.samples import FOLDER as SAMPLES_FOLDER

if TYPE_CHECKING:
    from accelerate import Accelerator

    from training.engine.labels import LabelledData

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
RESULT = "result.json"
LOCK = ".lock"
LOCK_POLL_SECONDS = 0.2
Given = Mapping[str, InputNetwork | Sequence[InputNetwork]]


@dataclass(frozen=True)
class RunResult:
    """What a run gave. seconds: of computing, over all its starts."""

    directory: Path
    report: dict[str, Any]
    outputs: list[Output]
    seconds: float

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """All lines of the curves."""
        return read_metrics(self.directory).lines

    def networks(self, role: str) -> list[InputNetwork]:
        """The outputs of a role as inputs of another run."""
        return [output.network(self.directory) for output in self.outputs if output.role == role]

    def network(self, role: str) -> InputNetwork:
        """The output of a role that has one. Raises ValueError naming the roles."""
        found = self.networks(role)
        if len(found) != 1:
            roles = ", ".join(sorted({output.role for output in self.outputs})) or "none"
            raise ValueError(f'the run gave {len(found)} outputs "{role}", one is needed; its outputs: {roles}')
        return found[0]


def run_method(
    name: str,
    *,
    config: MethodConfig | Mapping[str, Any] | None,
    directory: Path,
    data: "LabelledData | None" = None,
    inputs: Given | None = None,
    seed: int = 0,
    device: str = "auto",
    resources: Resources | None = None,
    resume: bool = True,
    progress: OnProgress | None = None,
) -> RunResult:
    """Run a method, or go on with the run that the directory holds; a finished one gives its result at once.

    Args:
        config: the method's config, or values that differ from its default preset.
        directory: of this run alone: metrics, samples, checkpoints and outputs lie there.
        inputs: versions by role.
        device: as ``Resources.device``; "auto" leaves it to ``resources``.
        resume: False forgets what the directory holds.
        progress: called between steps; what it raises stops the run after a checkpoint was written.

    Raises:
        UnknownMethod, BadConfig, NotWhatIsNeeded, BadResources: before anything is computed.
        CheckpointError: the directory holds a run with another config, seed, input or data, or the disk is full.
        Diverged, LimitReached, DeviceLost: see ``training.engine.guards`` and ``devices``.
        What the recipe raises; ``failed_report`` has what it had reported.
    """
    chosen = method(name)
    configured = config if isinstance(config, MethodConfig) else chosen.configure(**(config or {}))
    given = _placed(inputs or {})
    _require_needs(chosen, given, data)
    wanted = resources or Resources()
    if device != "auto":
        wanted = replace(wanted, device=device)
    accelerator = open_accelerator(wanted)
    begun = {
        "method": name,
        "config": configured.model_dump(mode="json"),
        "seed": seed,
        "inputs": inputs_digest(given),
        "data": "" if data is None else data.digest,
        "processes": accelerator.num_processes,
    }
    directory.mkdir(parents=True, exist_ok=True)
    with _held(directory, accelerator, progress), _generators_kept():
        if accelerator.is_main_process and not resume:
            _forget(directory)
        accelerator.wait_for_everyone()
        finished = _finished(directory, begun)
        if finished is not None:
            return finished
        attempt = partial(_attempt, chosen, configured, directory, begun, given, data, progress)
        try:
            return attempt(accelerator, wanted)
        except DeviceLost as error:
            if wanted.on_device_loss != "cpu" or accelerator.num_processes > 1:
                raise
            logger.warning("%s The run goes on on the CPU.", error)
        wanted = wanted.on_cpu()
        return attempt(open_accelerator(wanted), wanted)


def _attempt(
    chosen: Method,
    config: MethodConfig,
    directory: Path,
    begun: dict[str, Any],
    inputs: Mapping[str, Sequence[InputNetwork]],
    data: "LabelledData | None",
    progress: OnProgress | None,
    accelerator: "Accelerator",
    resources: Resources,
) -> RunResult:
    """Run the recipe once, from its newest checkpoint on."""
    store = CheckpointStore(directory / CHECKPOINTS, begun, writes=accelerator.is_main_process)
    accelerator.wait_for_everyone()
    if store.newest is not None:
        require_device(before=store.newest.content["device"], now=accelerator.device, resources=resources)
    rng_seed(begun["seed"])
    run = RunContext(
        directory=directory,
        seed=begun["seed"],
        accelerator=accelerator,
        resources=resources,
        store=store,
        inputs=inputs,
        data=data,
        on_progress=progress,
    )
    logger.info("method %s runs on %s in %s", chosen.card.name, device_words(run.device), directory)
    report, outputs = run_recipe(chosen.recipe(), run, config)
    result = RunResult(directory, report, outputs, run.seconds)
    if accelerator.is_main_process:
        _write_result(result, begun)
        store.clear()
    accelerator.wait_for_everyone()
    return result if accelerator.is_main_process else _finished(directory, begun) or result


def failed_report(directory: Path) -> dict[str, Any]:
    """What a run had reported when its recipe raised; empty where it did not."""
    try:
        kept: dict[str, Any] = json.loads((directory / REPORT).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return kept


def _placed(inputs: Given) -> dict[str, list[InputNetwork]]:
    """The inputs, each knowing its role and number; roles without versions are left out."""
    lists = {role: [given] if isinstance(given, InputNetwork) else list(given) for role, given in inputs.items()}
    return {
        role: [replace(network, role=role, number=number) for number, network in enumerate(networks)]
        for role, networks in lists.items()
        if networks
    }


def _require_needs(chosen: Method, inputs: Mapping[str, Sequence[InputNetwork]], data: "LabelledData | None") -> None:
    tasks = {
        role: [(network.name, "quality" if network.spec.is_quality else "classification") for network in networks]
        for role, networks in inputs.items()
    }
    require_inputs(chosen.card, tasks)
    given = None if data is None else (data.name or "the labelled set", data.task, len(data))
    require_data(chosen.card, given)
    if given is not None:
        require_one_task(chosen.card, tasks, given)


@contextmanager
def _held(directory: Path, accelerator: "Accelerator", progress: OnProgress | None) -> Iterator[None]:
    """One run at a time in a directory; waits while another process holds it, obeying what ``progress`` raises."""
    if not accelerator.is_main_process:
        yield
        return
    with (directory / LOCK).open("w") as lock:
        while not _locked(lock.fileno()):
            if progress is not None:
                progress(Progress("waiting for another process that holds this run", 0, 0))
            time.sleep(LOCK_POLL_SECONDS)
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _generators_kept() -> Iterator[None]:
    """A run seeds the global generators; whoever called it gets them back."""
    cpu = torch.device("cpu")
    before = rng_state(cpu)
    try:
        yield
    finally:
        rng_restore(before, cpu)


def _forget(directory: Path) -> None:
    for folder in (CHECKPOINTS, OUTPUTS, SAMPLES_FOLDER, ARTIFACTS):
        shutil.rmtree(directory / folder, ignore_errors=True)
    for file in (METRICS, SAMPLES, RESULT, REPORT):
        (directory / file).unlink(missing_ok=True)


def _finished(directory: Path, begun: Mapping[str, Any]) -> RunResult | None:
    """The result that stands in the directory. Raises CheckpointError when it is another run's."""
    try:
        kept = json.loads((directory / RESULT).read_text())
    except (FileNotFoundError, ValueError):
        return None
    require_same(kept["begun"], json.loads(json.dumps(begun)))
    outputs = [Output(**entry) for entry in kept["outputs"]]
    return RunResult(directory, kept["report"], outputs, kept["seconds"])


def _write_result(result: RunResult, begun: Mapping[str, Any]) -> None:
    """Written last, so that a result stands for a finished run."""
    temporary = result.directory / f"{RESULT}.tmp"
    outputs = [output.to_dict() for output in result.outputs]
    kept = {"begun": begun, "report": result.report, "outputs": outputs, "seconds": round(result.seconds, 3)}
    with temporary.open("w") as file:
        json.dump(kept, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, result.directory / RESULT)
    sync_folder(result.directory)
