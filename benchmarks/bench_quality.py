"""Quality scoring of images of many sizes: whole images, in buckets of one size, against one image at a time.

    python -m benchmarks.bench_quality [--images 64] [--data ../shared/data] [--dry]

Three ways over the same files, CPU seconds of one thread each, because that is what a core buys and what a busy machine
hardly disturbs:

* the usual loop: Pillow decodes, ToTensor and Normalize, one image at a time through each model in turn, eager torch
  under no_grad;
* this engine with batches of one image: what ONNX Runtime and one decode for all models give;
* this engine as it is: images of one size share a batch.

Loading is left out: each way is timed over all images and over eight of them, and the difference counts. Weights are
random; speed does not depend on their values. Without the data folder, the photographs inside scikit-image and
scikit-learn are cut into several shapes.
"""

import argparse
import io
import statistics
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
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

RGB = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD, long_side=LONG_SIDE)
GREY = Preprocessing(channels="grey", long_side=LONG_SIDE)
NETWORKS = {"unique_small": RGB, "unique_resnet18": RGB, "cnniqa": GREY}
SHORT_SIDES = {"96 px": 96, "288 px": 288}
CASES = {**{name: (name,) for name in NETWORKS}, "all three": tuple(NETWORKS)}
TURNS = 3  # the ways take turns; milliseconds are the least, ratios the median of those inside a turn
WARM = 8  # images whose time, with loading, is taken off
TOLERANCE = 1e-3  # of the largest score, between the usual loop and this engine

Way = Callable[[list[str]], list[np.ndarray]]
Sizes = Counter[tuple[int, int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        specs = {name: _spec(name, Path(scratch)) for name in NETWORKS}
        for label, side in SHORT_SIDES.items():
            folder = Path(scratch) / str(side)
            names, sizes = _pictures(options.data, folder, options.images, side)
            for case, members in CASES.items():
                rows.append([f"{label}, {case}", *_measured(folder, names, [specs[name] for name in members])])
                print(rows[-1], flush=True)
    text = _section(rows, options.images, sizes)
    if options.dry:
        print(text)
    else:
        write_section("quality", text)


def _section(rows: list[list[str]], n: int, sizes: Sizes) -> str:
    header = ["Shorter side, networks", "Usual loop", "Batches of one", "Buckets", "Usual / buckets", "One / buckets"]
    common = ", ".join(f"{width} x {height} ({count})" for (width, height), count in sizes.most_common(3))
    return (
        "## Quality scoring: images of many sizes\n\n"
        f"`python -m benchmarks.bench_quality --images {n}`: {n} photographs of {len(sizes)} sizes, the most frequent "
        f"{common}. CPU milliseconds an image of one thread, loading left out: the least of {TURNS} turns; ratios are "
        f"the median of those inside a turn. All ways give the same scores, to {TOLERANCE:g} of the largest.\n\n"
        f"{markdown_table(header, rows)}\n\n"
        "On a CPU small images gain from sharing a batch, while a photograph fills the caches alone: photographs run "
        "one by one, on as many threads as there are cores. On a device up to 64 images of one size run together.\n"
    )


def _measured(folder: Path, names: list[str], specs: list[VersionSpec]) -> list[str]:
    """Milliseconds an image of the three ways, and the two ratios."""
    with tempfile.TemporaryDirectory() as cache:
        ways = [
            _usual(folder, specs),
            _ours(folder, specs, Path(cache), largest_batch=1),
            _ours(folder, specs, Path(cache), largest_batch=64),
        ]
        found = [way(names) for way in ways]  # fills the cache of exports, warms the disk
        for scores in zip(*found, strict=True):
            _require_equal(*scores)
        turns = [[_seconds(way, names) * 1e3 for way in ways] for _ in range(TURNS)]
    return [
        *(f"{min(times):.1f}" for times in zip(*turns, strict=True)),
        f"{statistics.median(turn[0] / turn[2] for turn in turns):.2f}",
        f"{statistics.median(turn[1] / turn[2] for turn in turns):.2f}",
    ]


def _require_equal(first: np.ndarray, *others: np.ndarray) -> None:
    for other in others:
        worst = float(np.abs(first - other).max() / np.abs(first).max())
        if not worst <= TOLERANCE:
            raise SystemExit(f"the ways disagree by {worst:g} of the largest score")


def _seconds(way: Way, names: list[str]) -> float:
    """CPU seconds an image, loading left out."""
    few, many = (_clocked(way, names[:n]) for n in (WARM, len(names)))
    return (many - few) / (len(names) - WARM)


def _clocked(way: Way, names: list[str]) -> float:
    started = time.process_time()
    way(names)
    return time.process_time() - started


def _ours(folder: Path, specs: list[VersionSpec], cache: Path, *, largest_batch: int) -> Way:
    def way(names: list[str]) -> list[np.ndarray]:
        with tempfile.TemporaryDirectory() as scratch:
            stores = [Path(scratch) / str(number) for number in range(len(specs))]
            rows = FolderRows(folder, names, digest="benchmark")
            score_quality(rows, specs, stores, threads=1, cache_dir=cache, largest_batch=largest_batch)
            return [np.array(ScoreStore.open(store).read()[0]) for store in stores]

    return way


def _usual(folder: Path, specs: list[VersionSpec]) -> Way:
    modules = [torch_module(spec)[0] for spec in specs]
    colour = transforms.Compose([transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    grey = transforms.Compose([transforms.Grayscale(), transforms.ToTensor()])

    def way(names: list[str]) -> list[np.ndarray]:
        found = []
        for spec, module in zip(specs, modules, strict=True):
            prepare = grey if spec.preprocessing.channels == "grey" else colour
            with torch.no_grad():
                scores = [module(prepare(Image.open(folder / name).convert("RGB"))[None])[0] for name in names]
            found.append(np.array([float(score.reshape(-1)[0]) for score in scores], np.float32))
        return found

    return way


def _spec(name: str, folder: Path) -> VersionSpec:
    torch.manual_seed(0)
    file = folder / f"{name}.pt"
    torch.save(build(name).state_dict(), file)
    return VersionSpec(
        kind="torch", architecture=name, weights=str(file), preprocessing=NETWORKS[name], outputs="score"
    )


def _pictures(data: Path, folder: Path, n: int, short_side: int) -> tuple[list[str], Sizes]:
    """n JPEG files whose shorter side is given; their names, and how many there are of each size."""
    folder.mkdir()
    names, sizes = [], Sizes()
    for number, picture in zip(range(n), _sources(data), strict=False):
        scale = short_side / min(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        names.append(f"{number:04d}.jpg")
        picture.resize(size, Image.Resampling.BICUBIC).save(folder / names[-1], quality=92)
        sizes[size] += 1
    return names, sizes


def _sources(data: Path) -> Iterator[Image.Image]:
    """Photographs of many shapes."""
    archive = data / "imagenet1000" / "images.tar"
    if archive.exists():
        with tarfile.open(archive) as files:
            for member in files:
                content = files.extractfile(member) if member.isfile() else None
                if content is not None:
                    yield Image.open(io.BytesIO(content.read())).convert("RGB")
        return
    photographs = [Image.fromarray(photograph.pixels).convert("RGB") for photograph in package_photographs()]
    for down in range(3, 200):
        for picture in photographs:
            unit = min(picture.width // 4, picture.height // down)
            if unit >= 8:
                yield picture.crop((0, 0, 4 * unit, down * unit))


if __name__ == "__main__":
    main()
