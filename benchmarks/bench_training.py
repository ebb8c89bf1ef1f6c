"""What the parts of the learning loop cost, on whatever device there is; ten minutes on a GPU, fewer on two cores.

    python -m benchmarks.bench_training [--device auto] [--images 48] [--dry]

* V pruned variants and their target over the same images: each in turn as a user's loop has it (decode, one image at a
  time, eager), this engine one version at a time, this engine with one decode for all, and their weights stacked under
  ``torch.func``. Ensembles of them cost nothing beyond: their columns are mixed.
* Steps of the method "unique" on this device: full precision against what ``auto`` chooses, and compiled on a GPU.
* What a checkpoint costs: a run that writes one after every step against one that writes none.

Weights are random, pictures are photographs that ship inside installed packages; ratios are from turns of one process.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch.func import functional_call, stack_module_state, vmap
from torchvision import transforms

from benchmarks.report import markdown_table, write_section
from corpora.photographs import package_photographs
from models_zoo.adapters import Preprocessing, VersionSpec
from models_zoo.adapters.load import torch_module
from models_zoo.adapters.spec import IMAGENET_MEAN, IMAGENET_STD, LONG_SIDE
from models_zoo.architectures import build
from models_zoo.engine.quality import score_quality
from models_zoo.engine.rows import FolderRows
from models_zoo.engine.scores import ScoreStore
from training.engine.devices import Resources
from training.engine.labels import SCHEMA, LabelledData
from training.engine.local import run_method

RGB = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD, long_side=LONG_SIDE)
VARIANTS = 8
SIDE = 192
TURNS = 3
STEPS, WARM_STEPS = 24, 8
TOLERANCE = 1e-3  # of the largest score, between the ways
CPU_CASES = {"unique_small": {"crop": 160, "batch": 16}, "unique_squeezenet": {"crop": 160, "batch": 16}}
GPU_CASES = {"unique_resnet18": {"crop": 384, "batch": 32}, "unique_resnet34": {"crop": 384, "batch": 64}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto", help="as a run has it: auto, cpu, cuda, cuda:1")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        pictures = Path(scratch) / "pictures"
        names = cut(pictures, options.images)
        passes = ensembles(pictures, names, Path(scratch), device)
        steps = training(pictures, names, Path(scratch), device)
        saving = checkpoints(pictures, names, Path(scratch))
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU, one thread per network"
    text = (
        "## The learning loop: passes, steps, checkpoints\n\n"
        f"`python -m benchmarks.bench_training --device {device}`\n\n"
        f"{name}. {passes}\n\n{steps}\n\n{saving}\n"
    )
    if options.dry:
        print(text)
    else:
        write_section("training" if device == "cpu" else "training-gpu", text)


def cut(folder: Path, n: int) -> list[str]:
    """Squares of the photographs, as JPEG files."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(each.pixels).convert("RGB") for each in package_photographs()]
    names = []
    for number in range(n):
        photograph = photographs[number % len(photographs)]
        left, top = (int(rng.integers(0, side - SIDE + 1)) for side in photograph.size)
        names.append(f"{number:03d}.jpg")
        photograph.crop((left, top, left + SIDE, top + SIDE)).save(
            folder / names[-1], quality=int(rng.integers(10, 95))
        )
    return names


def ensembles(pictures: Path, names: list[str], scratch: Path, device: str) -> str:
    """A target and its variants over the same images, four ways, seconds of the least of some turns."""
    specs = [variant(scratch, number) for number in range(VARIANTS + 1)]
    rows = FolderRows(pictures, names, digest="benchmark")

    def store(number: int) -> Path:
        return Path(tempfile.mkdtemp(dir=scratch)) / str(number)

    def together() -> np.ndarray:
        folders = [store(number) for number in range(len(specs))]
        score_quality(rows, specs, folders, device=device, cache_dir=scratch / "exports")
        return np.stack([ScoreStore.open(folder).read()[0] for folder in folders])

    def one_by_one() -> np.ndarray:
        found = []
        for number, spec in enumerate(specs):
            folder = store(number)
            score_quality(rows, [spec], [folder], device=device, cache_dir=scratch / "exports")
            found.append(ScoreStore.open(folder).read()[0])
        return np.stack(found)

    networks = [torch_module(spec)[0].to(device) for spec in specs]
    prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])

    def usual() -> np.ndarray:
        with torch.no_grad():
            return np.array([[float(network(prepare(opened(pictures / name))[None].to(device))[0, 0]) for name in names]
                             for network in networks])  # fmt: skip

    parameters, buffers = stack_module_state(networks)
    skeleton = build("unique_squeezenet").to("meta")

    def stacked() -> np.ndarray:
        batch = torch.stack([prepare(opened(pictures / name)) for name in names]).to(device)

        def call(parameters: Any, buffers: Any, x: torch.Tensor) -> torch.Tensor:
            return functional_call(skeleton, (parameters, buffers), (x,))

        with torch.no_grad():
            parts = [vmap(call, (0, 0, None))(parameters, buffers, part) for part in batch.split(8)]
        return torch.cat(parts, dim=1)[:, :, 0].cpu().numpy()

    ways = {
        "user's loop: one image, one network at a time": usual,
        "weights stacked (`torch.func`), batches of 8": stacked,
        "this engine, one version at a time": one_by_one,
        "**this engine, one decode for all**": together,
    }
    truth = usual()
    together()  # exports are cached before anything is timed
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            found, spent = timed(way, device)
            seconds[name].append(spent)
            limit = (TOLERANCE if device == "cpu" else 20 * TOLERANCE) * np.abs(truth).max()
            assert np.abs(found - truth).max() < limit, f"{name} gives other scores"
    slowest = seconds["user's loop: one image, one network at a time"]
    lines = [
        [name, f"{1000 * min(spent) / len(names):.1f}", f"{statistics.median(np.divide(slowest, spent)):.2f}"]
        for name, spent in seconds.items()
    ]
    return (
        f"A target and {VARIANTS} variants (SqueezeNet, half of the weights zero) over {len(names)} pictures of "
        f"{SIDE} x {SIDE}; the same scores every way, loading included:\n\n"
        + markdown_table(["way", "ms per image, all networks", "ratio to the loop"], lines)
        + f"\n\nAn ensemble of them costs no pass: {VARIANTS + 1} passes an image whatever their number."
    )


def variant(scratch: Path, number: int) -> VersionSpec:
    """A version whose smaller half of weights is zero."""
    torch.manual_seed(number)
    network = build("unique_squeezenet")
    with torch.no_grad():
        for parameter in network.parameters():
            if number and parameter.ndim > 1:
                parameter[parameter.abs() < parameter.abs().median()] = 0
    file = scratch / f"variant-{number}.pt"
    torch.save(network.state_dict(), file)
    return VersionSpec(
        kind="torch", architecture="unique_squeezenet", weights=str(file), preprocessing=RGB, outputs="score"
    )


def opened(file: Path) -> Image.Image:
    with Image.open(file) as picture:
        return picture.convert("RGB")


def timed(way: Callable[[], Any], device: str) -> tuple[Any, float]:
    """What it gives, and the wall seconds it took."""
    started = time.perf_counter()
    found = way()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return found, time.perf_counter() - started


def labels(pictures: Path, names: list[str]) -> LabelledData:
    """Made-up ratings; their values do not change what a step costs."""
    rng = np.random.default_rng(0)
    n = len(names)
    splits = ["val"] * 8 + ["test"] * 8 + ["train"] * (n - 16)
    columns = {
        "corpus": [1] * n, "row": list(range(n)), "path": names, "source": ["corpus:1"] * n, "origin": ["base"] * n,
        "scale": [1] * n, "mos": rng.uniform(0, 100, n), "std": rng.uniform(5, 20, n), "n": [5] * n,
        "label": [None] * n, "group": [f"g{number}" for number in range(n)], "split": splits,
    }  # fmt: skip
    return LabelledData(pa.table(columns, schema=SCHEMA), {1: FolderRows(pictures, names, digest="benchmark")})


def training(pictures: Path, names: list[str], scratch: Path, device: str) -> str:
    """Milliseconds a step, in turns: full precision, and what auto chooses."""
    data = labels(pictures, names)
    on_gpu = device.startswith("cuda")
    plain = Resources(device=device, precision="fp32")
    kinds = {"fp32": plain}
    if on_gpu:
        kinds |= {
            "auto": replace(plain, precision="auto"),
            "auto, compiled": replace(plain, precision="auto", compiled=True),
        }
    lines = []
    for architecture, sizes in (GPU_CASES if on_gpu else CPU_CASES).items():
        spent: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(TURNS):
            for name, resources in kinds.items():
                spent[name].append(step_seconds(data, scratch, architecture, sizes, resources))
        for name, seconds in spent.items():
            rate = sizes["batch"] / min(seconds)
            ratio = statistics.median(np.divide(spent["fp32"], seconds))
            lines.append([f"{architecture}, {name}", f"{1000 * min(seconds):.1f}", f"{rate:.0f}", f"{ratio:.2f}"])
    header = ["network, precision", "ms per step", "crops/s", "ratio to fp32"]
    return 'Steps of the method "unique", crops drawn and normalised on the way:\n\n' + markdown_table(header, lines)


def step_seconds(
    data: LabelledData, scratch: Path, architecture: str, sizes: dict[str, int], resources: Resources
) -> float:
    """Median seconds from one logged step to the next, the first ones left out."""
    per_epoch = -(-len(data.rows("train")) // sizes["batch"])
    epochs = -(-STEPS // per_epoch)
    config = {**sizes, "architecture": architecture, "epochs": epochs, "evaluate_every": 10_000}
    if sizes["crop"] > SIDE:
        config["resize"] = sizes["crop"]
    found = run_method(
        "unique", config=config, directory=Path(tempfile.mkdtemp(dir=scratch)), data=data, resources=resources
    )
    times = [line["t"] for line in found.metrics if "loss" in line]
    return float(np.median(np.diff(times[WARM_STEPS:])))


def checkpoints(pictures: Path, names: list[str], scratch: Path) -> str:
    """What it costs to be able to go on."""
    data = labels(pictures, names)
    sizes = CPU_CASES["unique_small"]
    never = Resources(device="cpu", checkpoint_seconds=1e9)
    always = replace(never, checkpoint_seconds=0.0)
    pairs = [
        tuple(step_seconds(data, scratch, "unique_small", sizes, resources) for resources in (never, always))
        for _ in range(TURNS)
    ]
    cost = statistics.median(after - before for before, after in pairs)
    every = Resources().checkpoint_seconds
    return (
        f"A checkpoint of unique_small (weights, optimiser, generators; written, synced and renamed) takes "
        f"{1000 * cost:.0f} ms: every {every:.0f} s, as runs have it, that is {100 * cost / every:.2f} % of the time."
    )


if __name__ == "__main__":
    main()
