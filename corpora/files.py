"""Files that are either whole or absent."""

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt


@contextmanager
def written_whole(target: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its name only when everything is on the disk; nothing stays behind otherwise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{uuid.uuid4().hex}.part")  # one writer each, in whatever process or thread
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def write_npy(file: IO[bytes], shape: tuple[int, ...], dtype: Any, blocks: Iterable[npt.NDArray[Any]]) -> None:
    """An .npy array from blocks along its first axis, by plain writes: a full disk is an OSError, not a crash."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for block in blocks:
        file.write(np.ascontiguousarray(block, dtype=dtype).data)


def save_npy(target: Path, array: npt.NDArray[Any]) -> None:
    with written_whole(target) as file:
        write_npy(file, array.shape, array.dtype, [array])


def load_npy(source: Path) -> npt.NDArray[Any]:
    """Memory-mapped, read only."""
    array: npt.NDArray[Any] = np.load(source, mmap_mode="r", allow_pickle=False)
    return array
