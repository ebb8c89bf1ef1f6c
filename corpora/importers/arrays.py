"""MNIST, SVHN and STL-10 as torchvision lays them out: each split is one array of small images in a file or two.

The images go straight into one packed array; a row's path is `<split>/<number in the split>.png`, the number being the
index that torchvision's data set gives the image. Fashion-MNIST and its kin come in MNIST's layout.
"""

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from corpora.files import write_npy, written_whole
from corpora.importers.base import Candidate, ImportRefused, ImportRequest, Listing

MOST_BYTES = 2**30  # of one file, unpacked
DIGITS = [str(digit) for digit in range(10)]
STL_CLASSES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
_IDX_IMAGES, _IDX_LABELS = 2051, 2049  # magic numbers of MNIST's files

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ArrayLayout:
    """title: in messages. folders: below the location, where the files may lie. read: (folder, split) -> pixels
    (n, H, W, 3) and labels (n,). class_names: by index, of the folder."""

    title: str
    folders: tuple[str, ...]
    first_file: str
    read: Callable[[Path, str], tuple[Pixels, Labels]]
    class_names: Callable[[Path], list[str]]


def list_arrays(layout: ArrayLayout, request: ImportRequest) -> Listing:
    """Every image of the chosen split(s). Raises ImportRefused when the files are not the data set's."""
    folder = _folder(layout, request.location)
    splits = ("train", "test") if request.options.split == "both" else (request.options.split,)
    found = []
    for split in splits:
        pixels, labels = layout.read(folder, split)
        if len(pixels) != len(labels):
            raise ImportRefused(f"{layout.title}, {split}: {len(pixels)} images, but {len(labels)} labels")
        found.append((split, pixels, labels))
        request.tick(sum(len(some) for _, some, _ in found), "images unpacked")
    names = layout.class_names(folder)
    low, high = min(int(labels.min()) for *_, labels in found), max(int(labels.max()) for *_, labels in found)
    if low < 0 or high >= len(names):
        raise ImportRefused(f"{layout.title}: labels go from {low} to {high}, but there are {len(names)} classes")
    shape = (sum(len(pixels) for _, pixels, _ in found), *found[0][1].shape[1:])
    with written_whole(request.pixels) as file:
        write_npy(file, shape, np.uint8, [pixels for _, pixels, _ in found])
    candidates = (
        Candidate(f"{split}/{number:05d}.png", label=str(int(label)))
        for split, _, labels in found
        for number, label in enumerate(labels)
    )
    return Listing(request.location, candidates, pixels=request.pixels, label_names=names)


def _folder(layout: ArrayLayout, location: Path) -> Path:
    if not location.is_dir():
        raise ImportRefused(f'"{location}" is no folder on the server: {layout.title} is read from its folder')
    for folder in (location / below for below in layout.folders):
        if any((folder / f"{layout.first_file.format(split=split)}{end}").is_file()
               for split in ("train", "test", "t10k") for end in ("", ".gz")):  # fmt: skip
            return folder
    wanted = layout.first_file.format(split="train")
    raise ImportRefused(f'"{location}" does not hold {layout.title}: expected files such as {wanted}')


def _content(file: Path) -> bytes:
    """Of the file, or of its .gz."""
    packed = file.with_name(f"{file.name}.gz")
    try:
        if file.is_file():
            with file.open("rb") as plain:
                content = plain.read(MOST_BYTES + 1)
        else:
            with gzip.open(packed) as unpacked:
                content = unpacked.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ImportRefused(f'the file "{file.name}" is missing: fetch the data set again') from None
    except (OSError, EOFError, zlib.error) as error:
        raise ImportRefused(f'"{file.name}" cannot be read: {error}') from error
    if len(content) > MOST_BYTES:
        raise ImportRefused(f'"{file.name}" is larger than {MOST_BYTES // 2**20:,} MiB: it is not what it should be')
    return content


def _mnist(folder: Path, split: str) -> tuple[Pixels, Labels]:
    name = {"train": "train", "test": "t10k"}[split]
    images, labels = f"{name}-images-idx3-ubyte", f"{name}-labels-idx1-ubyte"
    pixels = _idx(images, _content(folder / images), _IDX_IMAGES, 3)
    grey = pixels[..., None].repeat(3, axis=3)
    return grey, _idx(labels, _content(folder / labels), _IDX_LABELS, 1).astype(np.int64)


def _idx(name: str, content: bytes, magic: int, n_sides: int) -> Pixels:
    """An array of MNIST's format: magic number, sides, bytes; all numbers big-endian."""
    head = 4 * (1 + n_sides)
    numbers = np.frombuffer(content[:head], ">u4") if len(content) >= head else np.zeros(1, np.uint32)
    sides = [int(side) for side in numbers[1:]]
    if int(numbers[0]) != magic or len(content) != head + int(np.prod(sides, dtype=np.int64)) or not all(sides):
        raise ImportRefused(f'"{name}" is not a file of MNIST: {len(content):,} bytes do not fit its head')
    return np.frombuffer(content, np.uint8, offset=head).reshape(sides)


def _svhn(folder: Path, split: str) -> tuple[Pixels, Labels]:
    from scipy.io import loadmat

    name = f"{split}_32x32.mat"
    if not (folder / name).is_file():
        raise ImportRefused(f'the file "{name}" is missing: fetch the data set again')
    if (folder / name).stat().st_size > MOST_BYTES:
        raise ImportRefused(f'"{name}" is larger than {MOST_BYTES // 2**20:,} MiB: it is not what it should be')
    try:
        content: dict[str, Any] = loadmat(folder / name, variable_names=("X", "y"))
    except Exception as error:  # whatever a damaged file makes the parser raise
        raise ImportRefused(f'"{name}" is not a file of SVHN: {error}') from error
    x, y = content.get("X"), content.get("y")
    has_both = isinstance(x, np.ndarray) and isinstance(y, np.ndarray)
    if x is None or y is None or not has_both or x.dtype != np.uint8 or x.ndim != 4 or x.shape[:3] != (32, 32, 3):
        raise ImportRefused(f'"{name}" is not a file of SVHN: it has no images of 32 x 32 pixels in X')
    labels = y.reshape(-1).astype(np.int64)
    labels[labels == 10] = 0  # the digit 0 is class 10 there
    return np.ascontiguousarray(x.transpose(3, 0, 1, 2)), labels


def _stl10(folder: Path, split: str) -> tuple[Pixels, Labels]:
    images, labels = _content(folder / f"{split}_X.bin"), _content(folder / f"{split}_y.bin")
    size = 3 * 96 * 96
    if not images or len(images) % size:
        raise ImportRefused(f'"{split}_X.bin" is not a file of STL-10: {len(images):,} bytes are no multiple of {size}')
    planes = np.frombuffer(images, np.uint8).reshape(-1, 3, 96, 96)  # columns before rows
    return np.ascontiguousarray(planes.transpose(0, 3, 2, 1)), np.frombuffer(labels, np.uint8).astype(np.int64) - 1


def _stl10_names(folder: Path) -> list[str]:
    file = folder / "class_names.txt"
    if not file.is_file():
        return STL_CLASSES
    return [line.strip() for line in file.read_text("utf-8", "replace").splitlines() if line.strip()]


def _mnist_names(folder: Path) -> list[str]:
    return FASHION_CLASSES if "FashionMNIST" in folder.parts else DIGITS


FASHION_CLASSES = [
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
]  # fmt: skip
_MNIST_FOLDERS = (".", "raw", "MNIST/raw", "FashionMNIST/raw", "KMNIST/raw")
LAYOUTS = {
    "mnist": ArrayLayout("MNIST", _MNIST_FOLDERS, "{split}-images-idx3-ubyte", _mnist, _mnist_names),
    "svhn": ArrayLayout("SVHN", (".",), "{split}_32x32.mat", _svhn, lambda folder: DIGITS),
    "stl10": ArrayLayout("STL-10", (".", "stl10_binary"), "{split}_X.bin", _stl10, _stl10_names),
}
