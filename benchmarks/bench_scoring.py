"""Scoring speed against the loop everyone uses, on real photographs where they are at hand.

    python -m benchmarks.bench_scoring [--images 300] [--data ../shared/data] [--wall] [--dry]

The usual loop: Pillow decodes, torchvision v1 transforms, a DataLoader, one pass per model, eager torch under no_grad.
Both sides are timed from their first finished batch on, alternating, in three thirds of the images; the ratio is the
median of the three.

The main table counts CPU seconds of one thread a side (DataLoader in the same process), because that is what a core
buys and what a busy machine hardly disturbs. `--wall` adds elapsed time on all cores, one DataLoader worker per core:
run it on a quiet machine only; the load is printed beside it.

Weights are random (batch-norm statistics and output bias fitted on a few images, so that predictions differ between
images): speed does not depend on the values, and small margins make equal predictions harder, not easier.
"""

import argparse
import io
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from benchmarks.report import markdown_table, write_section
from corpora.imaging.decode import decode_rgb
from models_zoo.adapters import Preprocessing, VersionSpec
from models_zoo.adapters import load as loading
from models_zoo.adapters.load import torch_module
from models_zoo.adapters.spec import IMAGENET_MEAN, IMAGENET_STD
from models_zoo.architectures import build
from models_zoo.engine.decode import fit
from models_zoo.engine.rows import FolderRows
from models_zoo.engine.run import score
from models_zoo.engine.scores import ScoreStore

CASES = {
    "one mobile-class model": ("mobilenet_v3_large",),
    "resnet50": ("resnet50",),
    "five models together": (
        "mobilenet_v3_large",
        "mobilenet_v2",
        "shufflenet_v2_x1_0",
        "efficientnet_b0",
        "resnet18",
    ),
}
TARGETS = {"one mobile-class model": 1.9, "resnet50": 2.0, "five models together": 2.2}
PREPROCESSING = Preprocessing.imagenet()
USUAL = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
)
BATCH = 32
PARTS = 3


@dataclass(frozen=True)
class Way:
    """How to time: the clock, DataLoader workers of the usual loop, threads of both."""

    clock: Callable[[], float]
    workers: int
    threads: int


@dataclass
class Timed:
    """Predictions of one side over some images: `classes` (models, images), and steady seconds per image."""

    classes: np.ndarray
    seconds: float


class Photographs(Dataset):
    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.files[index]) as image:
            return USUAL(image.convert("RGB"))


def usual_loop(files: list[Path], specs: list[VersionSpec], way: Way) -> Timed:
    torch.set_num_threads(way.threads)
    classes, seconds = [], 0.0
    for spec in specs:
        model, _ = torch_module(spec)
        parts, marks = [], []
        with torch.no_grad():
            for x in DataLoader(Photographs(files), batch_size=BATCH, num_workers=way.workers):
                parts.append(model(x).softmax(1).max(1).indices)
                marks.append(way.clock())
        classes.append(torch.cat(parts).numpy())
        seconds += (marks[-1] - marks[0]) / (len(files) - BATCH)
    return Timed(np.stack(classes), seconds)


def engine(files: list[Path], specs: list[VersionSpec], cache: Path, way: Way) -> Timed:
    def mark(done: int, _: int) -> None:
        marks.append((way.clock(), done))

    marks: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder) / str(index) for index in range(len(specs))]
        rows = FolderRows(Path("/"), [str(file) for file in files], digest="benchmark")
        score(rows, specs, folders, cache_dir=cache, threads=way.threads, progress=mark)
        classes = np.stack([np.array(ScoreStore.open(one).read()[0]) for one in folders])
    (first, done_first), (last, done_last) = marks[0], marks[-1]
    return Timed(classes, (last - first) * len(specs) / (done_last - done_first))


def random_version(name: str, folder: Path, sample: torch.Tensor) -> VersionSpec:
    """Random weights whose batch norms and output bias fit a sample, saved and pinned like anybody's."""
    torch.manual_seed(7)
    model = build(name)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
            module.train()
    with torch.no_grad():
        model(sample)
        logits = model.eval()(sample)
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        last.bias -= logits.mean(0)
        spread = logits.std(0).mean()
        last.weight /= spread
        last.bias /= spread
    file = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, file)
    return VersionSpec("torch", name, weights=str(file), preprocessing=PREPROCESSING, num_classes=1000)


def photographs(data: Path, count: int, folder: Path) -> tuple[list[Path], str]:
    """Real JPEGs where the optional data folder has them, else made ones; and the words that say which."""
    archive = data / "imagenet1000" / "images.tar"
    if archive.is_file():
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        return sorted(folder.rglob("*.jpg"))[:count], "photographs, 288 pixels on the shorter side"
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((384, 288), Image.BICUBIC)
        grain = np.clip(np.asarray(coarse) + rng.normal(0, 6, (288, 384, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(grain).save(folder / f"{index:04d}.jpg", quality=88)
    return sorted(folder.glob("*.jpg")), "made images (blurred colours and grain) of 384 x 288"


def decode_table(files: list[Path], repeats: int = 5) -> str:
    """Milliseconds per image on one thread; CPU time, the best of alternating repeats."""
    torch.set_num_threads(1)
    contents = [file.read_bytes() for file in files[:200]]

    def pillow(data: bytes) -> Image.Image:
        return Image.open(io.BytesIO(data)).convert("RGB")

    def torchvision_io(data: bytes) -> torch.Tensor:
        raw = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        return torchvision.io.decode_jpeg(raw, mode=torchvision.io.ImageReadMode.RGB)

    def torchvision_uint8(data: bytes) -> torch.Tensor:
        small = v2.functional.resize(torchvision_io(data), [256], antialias=True)
        return v2.functional.center_crop(small, [224])

    ways: dict[str, Callable[[bytes], object]] = {
        "decode: Pillow": pillow,
        "decode: torchvision.io": torchvision_io,
        "decode: simplejpeg": simplejpeg.decode_jpeg,
        "decode: decode_rgb (this project)": decode_rgb,
        "to 224: Pillow, v1 transforms, float tensor": lambda data: USUAL(pillow(data)),
        "to 224: torchvision.io, v2 uint8 resize": torchvision_uint8,
        "to 224: decode_rgb + resize_and_crop (this project)": lambda data: fit(decode_rgb(data), PREPROCESSING),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.process_time()
            for data in contents:
                way(data)
            best[name] = min(best[name], (time.process_time() - began) / len(contents))
    reference = {"decode": best["decode: Pillow"], "to 224": best["to 224: Pillow, v1 transforms, float tensor"]}
    rows = [
        (name, f"{seconds * 1e3:.2f}", f"{reference[name.split(':')[0]] / seconds:.2f}")
        for name, seconds in best.items()
    ]
    return markdown_table(("way", "CPU ms per image", "ratio"), rows)


def compare(files: list[Path], specs: list[VersionSpec], cache: Path, way: Way) -> list[tuple[Timed, Timed]]:
    """(usual loop, engine) on each part of the images, alternating who goes first."""
    engine(files[: 2 * BATCH], specs, cache, way)  # exports, which the engine keeps between runs
    pairs = []
    for index in range(PARTS):
        part = files[index::PARTS]
        if index % 2:
            ours = engine(part, specs, cache, way)
            pairs.append((usual_loop(part, specs, way), ours))
        else:
            pairs.append((usual_loop(part, specs, way), engine(part, specs, cache, way)))
    return pairs


def table_line(case: str, pairs: list[tuple[Timed, Timed]]) -> tuple[str, ...]:
    ratios = [usual.seconds / ours.seconds for usual, ours in pairs]
    usual_rate, our_rate = (statistics.median(1 / pair[side].seconds for pair in pairs) for side in (0, 1))
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    target = f"{TARGETS[case]:.1f}"
    return case, f"{usual_rate:.1f}", f"{our_rate:.1f}", f"{statistics.median(ratios):.2f}", spread, target


def differences(members: tuple[str, ...], files: list[Path], pairs: list[tuple[Timed, Timed]]) -> list[str]:
    """Model and image of every prediction that is not equal."""
    return [
        f"{members[model]} on {files[index::PARTS][row].name}"
        for index, (usual, ours) in enumerate(pairs)
        for model, row in zip(*np.nonzero(usual.classes != ours.classes), strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FALSIFY_SHARED_DATA", "../shared/data")))
    parser.add_argument("--wall", action="store_true", help="also elapsed time on all cores")
    parser.add_argument("--dry", action="store_true", help="print, and leave docs/benchmarks.md alone")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    loading._EXPORT_PAYS_OFF = 0  # as for a corpus of thousands: a part of the images here is a short job
    ways = {"CPU seconds of one thread": Way(time.process_time, workers=0, threads=1)}
    if arguments.wall:
        load = os.getloadavg()[0]
        ways[f"Elapsed time on {cores} cores, load {load:.1f} at the start"] = Way(time.perf_counter, cores, cores)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files, kind = photographs(arguments.data, arguments.images, folder)
        sample = torch.stack([Photographs(files)[index] for index in range(BATCH)])
        specs = {name: random_version(name, folder, sample) for case in CASES.values() for name in case}
        sections, differing, compared = [], [], 0
        for title, way in ways.items():
            lines = []
            for case, members in CASES.items():
                pairs = compare(files, [specs[name] for name in members], folder / "cache", way)
                lines.append(table_line(case, pairs))
                print(lines[-1], flush=True)
                compared += len(members) * len(files)
                differing += differences(members, files, pairs)
            header = ("case", "usual loop, images/s", "engine, images/s", "ratio", "range", "target")
            sections.append(f"{title}:\n\n{markdown_table(header, lines)}")
        decoding = decode_table(files)
    command = f"python -m benchmarks.bench_scoring --images {arguments.images}{' --wall' * arguments.wall}"
    text = "\n\n".join(
        [
            "## Scoring",
            f"`{command}`: {len(files)} {kind}; random weights; float32. The usual loop is Pillow, torchvision v1 "
            "transforms, a DataLoader and one eager pass per model. Timed from the first finished batch on: loading "
            "and the one-time ONNX export are not counted, and exports are used whatever the number of images.",
            *sections,
            f"Equal predictions: {compared - len(differing):,} of {compared:,}."
            + (f" They differ on: {'; '.join(differing)}." if differing else ""),
            "Decoding on one thread:",
            decoding,
        ]
    )
    print(text)
    if not arguments.dry:
        write_section("scoring", text)


if __name__ == "__main__":
    main()
