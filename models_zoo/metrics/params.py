"""Parameter files: NumPy archives of plain arrays, read without unpickling and under a size limit."""

import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models_zoo.metrics.registry import UnsuitableParams

SIZE_LIMIT = 64 * 2**20  # bytes, unpacked; the published files are below 1 MiB
# What zipfile and numpy raise on damaged, encrypted or unknown archives.
_DAMAGE = (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def read_arrays(path: Path, names: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """float64 arrays of an .npz file: each key of `names` under the first of its spellings that is there.

    Raises UnsuitableParams for a file that is no such archive, too large, lacks an array or has other than finite
    numbers in one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > SIZE_LIMIT:
            raise UnsuitableParams(f'"{path.name}" unpacks to {size:,} bytes: parameters have at most {SIZE_LIMIT:,}')
        with np.load(path, allow_pickle=False) as arrays:
            return {key: _array(arrays, spellings, path.name) for key, spellings in names.items()}
    except UnsuitableParams:
        raise
    except _DAMAGE as error:
        raise UnsuitableParams(f'"{path.name}" cannot be read as an .npz file: {error}') from error


def _array(arrays: Mapping[str, np.ndarray], spellings: Sequence[str], file: str) -> np.ndarray:
    name = next((spelling for spelling in spellings if spelling in arrays), None)
    if name is None:
        raise UnsuitableParams(f'"{file}" has no array "{spellings[0]}": it has {", ".join(sorted(arrays)) or "none"}')
    array = np.asarray(arrays[name])
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise UnsuitableParams(f'"{file}", array "{name}": every value must be a finite number')
    return array.astype(np.float64)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray | float]) -> None:
    """Write an .npz file, whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
        stored: dict[str, Any] = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
        np.savez_compressed(file, **stored)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
