"""A method with every kind of setting, and runs of it with metrics, samples and a report, made without training."""

import json
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from accounts.models import User
from jobs.models import Job, JobState
from jobs.services import job_enqueue
from training.engine.metrics import FILE as METRICS
from training.engine.registry import Curve, InputSlot, MethodCard, MethodConfig
from training.engine.samples import Samples
from training.models import Edition, Run


class SketchConfig(MethodConfig):
    steps: int = Field(400, ge=1, le=100_000, title="Steps", description="Of each stage")
    rate: float = Field(1e-4, gt=0, lt=1, title="Learning rate", description="Of Adam, before the warm-up")
    widths: tuple[int, ...] = Field((16, 32), title="Widths", description="Channels of the layers, from the input on")
    loss: Literal["fidelity", "square"] = Field("fidelity", title="Loss")
    flip: bool = Field(True, title="Mirror images", description="Half of them, at random")
    cap: int | None = Field(None, ge=1, title="Cap", description="Of pairs per image; empty: no cap")


SKETCH = MethodCard(
    name="sketch",
    title="Sketch of a network",
    summary="Fits a small quality network to opinion scores, then fine-tunes all of it.",
    source="Nobody et al., arXiv:0000.00000, section 3",
    recipe="recipe:train",
    data="quality",
    inputs=(
        InputSlot("start", "Network to go on from", "It keeps its architecture", task="quality", required=False),
        InputSlot("variant", "Variants", task="quality", required=False, many=True),
    ),
    presets={"small": {}, "paper": {"steps": 30_000, "rate": 1e-5, "widths": (64, 128, 256), "flip": False}},
    curves=(
        Curve("Loss", "mean over the batch", (("loss", "train"), ("val_loss", "val"))),
        Curve("Agreement with people", "SRCC", (("val_srcc", "val"),)),
    ),
    ours=("The warm-up is linear.",),
)


def interval(value: float, width: float = 0.03) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width}


REPORT = {
    "device": "CPU, 1 thread",
    "steps": 400,
    "splits": {
        "val": {"srcc": interval(0.871), "plcc": interval(0.88), "rmse": interval(8.1, 0.5), "n": 120},
        "test": {"srcc": interval(0.853), "plcc": interval(0.861), "rmse": interval(8.6, 0.5), "n": 124},
    },
    "notes": ["val has one scale"],
}


def make_run(by: User, edition: Edition | None = None, *, state: JobState = JobState.RUNNING, **values: Any) -> Run:
    """A run as the service makes it, with a job in the given state."""
    config = SketchConfig(**values.pop("config", {})).model_dump(mode="json")
    run = Run.objects.create(
        name=values.pop("name", "Sketch of blur"), method="sketch", preset="small", config=config, edition=edition,
        created_by=by, **values,
    )  # fmt: skip
    job = job_enqueue(kind="training.run", title=f"Train: {run}", payload={"run": run.pk}, by=by, subject=run)
    Job.objects.filter(pk=job.pk).update(state=state, done=120, total=400, unit="steps", message="head")
    run.job = job
    run.save()
    run.directory.mkdir(parents=True)
    return run


def write_metrics(directory: Path, steps: int = 200, *, first: int = 0, stage: str = "head", every: int = 20) -> None:
    """A falling loss with a spike, and now and then an agreement."""
    rng = np.random.default_rng(first)
    with (directory / METRICS).open("a") as file:
        for step in range(first + 1, first + steps + 1):
            loss = 0.3 + 0.6 * math.exp(-step / 60) + 0.03 * float(rng.standard_normal())
            line = {"stage": stage, "step": step, "t": step * 0.1, "loss": loss + (step == 57), "lr": 1e-4 / step}
            if step % every == 0:
                line |= {"val_loss": loss + 0.05, "val_srcc": 0.9 - 0.5 * math.exp(-step / 80)}
            file.write(json.dumps(line) + "\n")


def write_samples(directory: Path) -> None:
    samples = Samples(directory)
    rng = np.random.default_rng(1)
    for step in (100, 200):
        pictures = [rng.integers(0, 255, (32, 48, 3), dtype=np.uint8) for _ in range(3)]
        samples.add("worst", pictures, {"caption": "worst of the batch", "stage": "head", "step": step, "t": 1.0})
