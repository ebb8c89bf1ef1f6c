"""CIFAR-10 and CIFAR-100 as torchvision lays them out: the Python batches or the binary version, in a folder or a tar.

The images go straight into one packed array; a row's path is `<split>/<number in the split>.png`, the number being the
index that torchvision's data set gives the image. Labels are the fine ones.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from corpora.files import write_npy, written_whole
from corpora.importers.archive import entries_of
from corpora.importers.base import Candidate, ImportRefused, ImportRequest, Listing
from corpora.importers.pickled import NotPlainData, read_plain

_PIXELS = 3 * 32 * 32
_FILE_BYTES = 400 * 2**20


@dataclass(frozen=True)
class _Layout:
    """One way in which the data comes. train, test, names: file names; label_bytes: of the binary version."""

    title: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    labels: str = ""
    name_list: str = ""
    label_bytes: int = 0


_TEN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEN_BINARY = tuple(name + ".bin" for name in _TEN)
LAYOUTS = (
    _Layout("CIFAR-10, binary", _TEN_BINARY, ("test_batch.bin",), "batches.meta.txt", label_bytes=1),
    _Layout("CIFAR-100, binary", ("train.bin",), ("test.bin",), "fine_label_names.txt", label_bytes=2),
    _Layout("CIFAR-10", _TEN, ("test_batch",), "batches.meta", "labels", "label_names"),
    _Layout("CIFAR-100", ("train",), ("test",), "meta", "fine_labels", "fine_label_names"),
)  # fmt: skip


def list_cifar(request: ImportRequest) -> Listing:
    """Every image of the chosen split(s). Raises ImportRefused when the files are not CIFAR's."""
    files = _files(request.location)
    layout = _layout(request.location, files)
    splits = ("train", "test") if request.options.split == "both" else (request.options.split,)
    labels: list[tuple[str, list[int]]] = []
    names = _class_names(layout, files)

    def blocks() -> Iterator[npt.NDArray[np.uint8]]:
        for split in splits:
            of_split: list[int] = []
            labels.append((split, of_split))
            for name in getattr(layout, split):
                pixels, some = _batch(layout, name, files)
                of_split.extend(some)
                request.tick(sum(len(many) for _, many in labels), "images unpacked")
                yield pixels

    _write_pixels(request.pixels, list(blocks()))
    _check_labels(labels, names)
    candidates = (
        Candidate(f"{split}/{number:05d}.png", label=str(label))
        for split, of_split in labels
        for number, label in enumerate(of_split)
    )
    return Listing(request.location, candidates, pixels=request.pixels, label_names=names)


def _files(location: Path) -> dict[str, Any]:
    """File name -> how to get its content, for a folder (or the one folder inside it) or a tar of it."""
    if location.is_file():
        return _files_of_tar(location)
    if not location.is_dir():
        raise ImportRefused(f'"{location}" is neither a folder nor a file on the server: check the path')
    inner = [folder for folder in sorted(location.iterdir()) if folder.is_dir() and folder.name.startswith("cifar")]
    folders = [location, *inner]
    wanted = {name for layout in LAYOUTS for name in (*layout.train, *layout.test, layout.names)}
    for folder in folders:
        found = {path.name: path for path in folder.iterdir() if path.name in wanted and path.is_file()}
        if found:
            return found
    return {}


def _files_of_tar(archive: Path) -> dict[str, Any]:
    wanted = {name for layout in LAYOUTS for name in (*layout.train, *layout.test, layout.names)}
    found: dict[str, Any] = {}
    with entries_of(archive) as entries:
        for entry in entries:
            name = entry.name.rpartition("/")[2]
            if name in wanted and entry.problem is None and entry.size <= _FILE_BYTES:
                try:
                    with entry.open() as file:
                        found[name] = file.read(_FILE_BYTES)
                except (EOFError, tarfile.TarError) as error:
                    raise ImportRefused(f'"{archive.name}" is damaged: {error}') from error
    return found


def _content(files: dict[str, Any], name: str) -> bytes:
    if name not in files:
        raise ImportRefused(f'the file "{name}" is missing: fetch the data set again')
    source = files[name]
    if isinstance(source, bytes):
        return source
    if source.stat().st_size > _FILE_BYTES:
        raise ImportRefused(f'"{name}" is larger than any file of CIFAR')
    return bytes(source.read_bytes())


def _layout(location: Path, files: dict[str, Any]) -> _Layout:
    for layout in LAYOUTS:
        if any(name in files for name in (*layout.train, *layout.test)):
            return layout
    raise ImportRefused(
        f'"{location}" does not hold CIFAR: expected files such as data_batch_1 (Python version) or data_batch_1.bin '
        "(binary version)"
    )


def _read(name: str, content: bytes) -> dict[str, Any]:
    """A Python batch with its keys as text."""
    try:
        value = read_plain(content)
    except NotPlainData as error:
        raise ImportRefused(
            f'"{name}" is not a CIFAR batch: {error}. Nothing in it was run. CIFAR\'s binary version works as well'
        ) from error
    if not isinstance(value, dict):
        raise ImportRefused(f'"{name}" is not a CIFAR batch: it holds no table')
    return {_word(key): item for key, item in value.items()}


def _batch(layout: _Layout, name: str, files: dict[str, Any]) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """(n, 32, 32, 3) pixels and n labels."""
    content = _content(files, name)
    if layout.label_bytes:
        return _binary_batch(layout, name, content)
    batch = _read(name, content)
    pixels, labels = batch.get("data"), batch.get(layout.labels)
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise ImportRefused(f'"{name}" is not a CIFAR batch: it has no images of {_PIXELS} bytes')
    if not isinstance(labels, list) or len(labels) != len(pixels):
        raise ImportRefused(f'"{name}" is not a CIFAR batch: it does not have one label an image')
    return _upright(pixels), [int(label) for label in labels]


def _binary_batch(layout: _Layout, name: str, content: bytes) -> tuple[npt.NDArray[np.uint8], list[int]]:
    record = layout.label_bytes + _PIXELS
    if not content or len(content) % record:
        raise ImportRefused(f'"{name}" is not {layout.title}: {len(content):,} bytes are no multiple of {record}')
    table = np.frombuffer(content, np.uint8).reshape(-1, record)
    return _upright(table[:, layout.label_bytes :]), table[:, layout.label_bytes - 1].tolist()


def _upright(planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(n, 3072) red, green and blue planes -> (n, 32, 32, 3)."""
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _class_names(layout: _Layout, files: dict[str, Any]) -> list[str]:
    """The class names by index; empty where the file of names is absent."""
    if layout.names not in files:
        return []
    content = _content(files, layout.names)
    if layout.label_bytes:
        return [line.strip() for line in content.decode("utf-8", "replace").splitlines() if line.strip()]
    names = _read(layout.names, content).get(layout.name_list, [])
    return [_word(name) for name in names]


def _check_labels(labels: list[tuple[str, list[int]]], names: list[str]) -> None:
    largest = max((label for _, of_split in labels for label in of_split), default=-1)
    if names and largest >= len(names):
        raise ImportRefused(
            f"a label is {largest}, but there are {len(names)} class names: the files do not belong together"
        )


def _write_pixels(target: Path, blocks: list[npt.NDArray[np.uint8]]) -> None:
    shape = (sum(len(block) for block in blocks), 32, 32, 3)
    with written_whole(target) as file:
        write_npy(file, shape, np.uint8, blocks)


def _word(text: Any) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
