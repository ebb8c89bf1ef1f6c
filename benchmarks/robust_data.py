"""Labelled images for robust training: scikit-learn's digits, and CIFAR-10 from the data folder's archives."""

import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpora.imaging.decode import decode_rgb
from models_zoo.engine.rows import PackedRows
from training.engine.labels import SCHEMA, LabelledData

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FALSIFY_SHARED_DATA", ROOT.parent / "shared" / "data"))
CLASSES = 10


def digits_data(*, train: int | None = None, val: int = 200, test: int = 400, seed: int = 0) -> LabelledData:
    """The 1,797 digits of 8 x 8 pixels, grey as RGB; train: all that are left where None."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = np.round(found.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(seed).permutation(len(pixels))
    held, rest = order[: val + test], order[val + test :][:train]
    chosen = np.concatenate([held, rest])
    splits = ["val"] * val + ["test"] * test + ["train"] * len(rest)
    return data_of(np.repeat(pixels[chosen, :, :, None], 3, axis=3), found.target[chosen], splits, name="digits")


def cifar_data(*, train: int = 10_000, val: int = 500, test: int = 1_000, folder: Path | None = None) -> LabelledData:
    """The first images of each class of the CIFAR-10 archives (JPEG): train and validation of the training images, test
    of the test images, as many of each class. Raises FileNotFoundError where there are no archives."""
    place = (folder or DATA) / "cifar10"
    known, known_labels = _read(place / "train_images_20k.tar", (train + val) // CLASSES)
    held, held_labels = _read(place / "test_images.tar", test // CLASSES)
    of_class = _places(known_labels)
    splits = [*np.where(of_class < val // CLASSES, "val", "train").tolist(), *["test"] * len(held)]
    labels = np.concatenate([known_labels, held_labels])
    return data_of(np.concatenate([known, held]), labels, splits, name="CIFAR-10")


def data_of(pixels: npt.NDArray[np.uint8], labels: npt.NDArray[Any], splits: list[str], *, name: str) -> LabelledData:
    """pixels: uint8 (n, H, W, 3); labels: (n,) classes; splits: of each image."""
    n = len(pixels)
    columns: dict[str, Any] = {
        "corpus": [1] * n, "row": list(range(n)), "path": [f"{at}.png" for at in range(n)], "source": ["corpus:1"] * n,
        "origin": ["base"] * n, "scale": [0] * n, "mos": [None] * n, "std": [None] * n, "n": [None] * n,
        "label": [int(label) for label in labels], "group": [str(at) for at in range(n)], "split": splits,
    }  # fmt: skip
    return LabelledData(pa.table(columns, schema=SCHEMA), {1: PackedRows(pixels, digest=name)}, name=name)


def _read(archive: Path, per_class: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The first images of each class, class after class, in the order of their names."""
    with tarfile.open(archive) as tar:
        files = sorted((member for member in tar if member.isfile()), key=lambda member: member.name)
        names = sorted({member.name.split("/")[-2] for member in files})
        pixels, labels = [], []
        for label, name in enumerate(names):
            own = [member for member in files if member.name.split("/")[-2] == name][:per_class]
            for member in own:
                file = tar.extractfile(member)
                assert file is not None
                pixels.append(decode_rgb(file.read()))
                labels.append(label)
    return np.stack(pixels), np.array(labels)


def _places(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Of each image, how many of its class come before it."""
    places = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        places[own] = np.arange(len(own))
    return places
