"""MNIST, SVHN and STL-10 in torchvision's layout, compared with what torchvision itself reads."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from scipy.io import savemat

from corpora.importers import IMPORTERS, ImportRefused
from corpora.importers.arrays import STL_CLASSES

N = {"train": 7, "test": 4}


@pytest.fixture
def request_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    from corpora.importers import ImportRequest, Options

    def make(location: Path, **options: Any) -> ImportRequest:
        work = tmp_path_factory.mktemp("work")
        return ImportRequest(location, work / "files", work / "pixels.npy", Options.from_dict(options))

    return make


def random_pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write_mnist(root: Path, name: str = "MNIST", *, packed: bool = False) -> None:
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for split, file in (("train", "train"), ("test", "t10k")):
        n = N[split]
        images = np.array([2051, n, 28, 28], ">u4").tobytes() + random_pixels(n, 28, 28, seed=n).tobytes()
        labels = np.array([2049, n], ">u4").tobytes() + (np.arange(n, dtype=np.uint8) % 10).tobytes()
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / f"{file}-{kind}-ubyte"
            if packed:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)


def write_svhn(root: Path) -> None:
    for split, n in N.items():
        labels = (np.arange(n) % 10 + 1)[:, None]
        savemat(root / f"{split}_32x32.mat", {"X": random_pixels(32, 32, 3, n, seed=n), "y": labels})


def write_stl10(root: Path) -> None:
    folder = root / "stl10_binary"
    folder.mkdir()
    for split, n in N.items():
        (folder / f"{split}_X.bin").write_bytes(random_pixels(n, 3, 96, 96, seed=n).tobytes())
        (folder / f"{split}_y.bin").write_bytes((np.arange(n, dtype=np.uint8) % 10 + 1).tobytes())
    (folder / "class_names.txt").write_text("\n".join(STL_CLASSES) + "\n")


def as_rgb(pictures: Any) -> np.ndarray:
    return np.stack([np.asarray(picture.convert("RGB")) for picture, _ in pictures])


WRITERS: dict[str, Callable[[Path], None]] = {"mnist": write_mnist, "svhn": write_svhn, "stl10": write_stl10}


@pytest.mark.parametrize("source", ["mnist", "svhn", "stl10"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_images_and_labels_are_those_of_torchvision(
    source: str, split: str, tmp_path: Path, request_for: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS[source](tmp_path)
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda *_: True)
    monkeypatch.setattr(torchvision.datasets.STL10, "_check_integrity", lambda _: True)
    known: Any = {
        "mnist": lambda: torchvision.datasets.MNIST(str(tmp_path), train=split == "train"),
        "svhn": lambda: torchvision.datasets.SVHN(str(tmp_path), split=split),
        "stl10": lambda: torchvision.datasets.STL10(str(tmp_path), split=split),
    }[source]()
    listing = IMPORTERS[source](request_for(tmp_path, split=split))
    candidates = list(listing.candidates)
    assert np.array_equal(np.load(listing.pixels), as_rgb(known))  # type: ignore[arg-type]
    assert [int(candidate.label or -1) for candidate in candidates] == [int(label) for _, label in known]
    assert candidates[1].path == f"{split}/00001.png"
    assert len(listing.label_names) == 10


def test_both_splits_and_packed_files(tmp_path: Path, request_for: Callable[..., Any]) -> None:
    write_mnist(tmp_path, "FashionMNIST", packed=True)
    listing = IMPORTERS["mnist"](request_for(tmp_path, split="both"))
    assert [candidate.path for candidate in listing.candidates][6:8] == ["train/00006.png", "test/00000.png"]
    assert np.load(listing.pixels).shape == (11, 28, 28, 3)  # type: ignore[arg-type]
    assert listing.label_names[9] == "ankle boot"


def spoiled(root: Path, source: str, how: str) -> None:
    WRITERS[source](root)
    file = {
        "mnist": root / "MNIST" / "raw" / "t10k-images-idx3-ubyte",
        "svhn": root / "test_32x32.mat",
        "stl10": root / "stl10_binary" / "test_X.bin",
    }[source]
    if how == "missing":
        file.unlink()
    elif how == "short":
        file.write_bytes(file.read_bytes()[:-5])
    else:
        file.write_bytes(b"not what it should be")


@pytest.mark.parametrize("source", ["mnist", "svhn", "stl10"])
@pytest.mark.parametrize("how", ["missing", "short", "other"])
def test_damaged_files_are_named(source: str, how: str, tmp_path: Path, request_for: Callable[..., Any]) -> None:
    spoiled(tmp_path, source, how)
    with pytest.raises(ImportRefused, match=r"t10k-images|test_32x32.mat|test_X.bin|is missing"):
        IMPORTERS[source](request_for(tmp_path))


@pytest.mark.parametrize("source", ["mnist", "svhn", "stl10"])
def test_other_folders_are_refused(source: str, tmp_path: Path, request_for: Callable[..., Any]) -> None:
    with pytest.raises(ImportRefused, match="does not hold"):
        IMPORTERS[source](request_for(tmp_path))
    with pytest.raises(ImportRefused, match="is no folder"):
        IMPORTERS[source](request_for(tmp_path / "nowhere"))


def test_labels_that_do_not_fit_are_refused(tmp_path: Path, request_for: Callable[..., Any]) -> None:
    write_stl10(tmp_path)
    labels = tmp_path / "stl10_binary" / "test_y.bin"
    labels.write_bytes(b"\0\1\2\3")
    with pytest.raises(ImportRefused, match="labels go from -1 to 2"):
        IMPORTERS["stl10"](request_for(tmp_path))
    labels.write_bytes(b"\1\2")
    with pytest.raises(ImportRefused, match="4 images, but 2 labels"):
        IMPORTERS["stl10"](request_for(tmp_path))


def test_a_damaged_gzip_stream_is_named(tmp_path: Path, request_for: Callable[..., Any]) -> None:
    WRITERS["mnist"](tmp_path)
    file = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    packed = bytearray(gzip.compress(file.read_bytes()))
    packed[10] = 0xFF  # a kind of block that there is not
    file.unlink()
    file.with_name(f"{file.name}.gz").write_bytes(packed)
    with pytest.raises(ImportRefused, match='"t10k-images-idx3-ubyte" cannot be read'):
        IMPORTERS["mnist"](request_for(tmp_path))
