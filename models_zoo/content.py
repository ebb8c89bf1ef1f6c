"""What a file is, told from its content: names and upload headers prove nothing. Nothing is unpickled or executed here.

Format: what the bytes are. Suffix: what the stored file is called, whatever it was called before.
"""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from accounts.errors import DomainError
from models_zoo.adapters.compact import MAGIC as COMPACT_MAGIC
from models_zoo.adapters.compact import SUFFIX as COMPACT_SUFFIX
from models_zoo.models import VersionKind

LEGACY_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # how torch.save wrote before version 1.6
SAFETENSORS_HEADER_LIMIT = 100 * 2**20  # the format's own limit
UNPACKED_LIMIT = 64 * 2**30  # a checkpoint is stored, not compressed: more is a bomb
TEXT_PROBE = 64 * 2**10
ONNX_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}  # of onnx.ModelProto


@dataclass(frozen=True)
class Format:
    """``kinds``: the kinds of version that such a file can be."""

    name: str
    suffix: str
    kinds: tuple[VersionKind, ...]


SAFETENSORS = Format("safetensors file", ".safetensors", (VersionKind.TORCH, VersionKind.METRIC))
COMPACT = Format("compact weights file", COMPACT_SUFFIX, (VersionKind.TORCH,))
TORCH_ZIP = Format("torch checkpoint", ".pt", (VersionKind.TORCH,))
TORCH_LEGACY = Format("torch checkpoint (old layout)", ".pth", (VersionKind.TORCH,))
NUMPY = Format("NumPy array", ".npy", (VersionKind.PREDICTIONS,))
NUMPY_ARCHIVE = Format("NumPy archive", ".npz", (VersionKind.METRIC,))
EXPORTED = Format("torch.export program", ".pt2", (VersionKind.EXPORT,))
ONNX = Format("ONNX model", ".onnx", (VersionKind.ONNX,))
CSV = Format("text file, such as a CSV table", ".csv", (VersionKind.PREDICTIONS, VersionKind.METRIC))
PARQUET = Format("Parquet table", ".parquet", (VersionKind.PREDICTIONS,))

WANTED = {
    VersionKind.TORCH: "a .safetensors or .compact file or a state dict saved by torch.save",
    VersionKind.ONNX: "an .onnx file",
    VersionKind.EXPORT: "a .pt2 file saved by torch.export.save",
    VersionKind.PREDICTIONS: "a CSV or Parquet file with the columns path (or row), class and, if known, confidence; "
    "or path (or row) and score, or one score per row as .npy",
    VersionKind.METRIC: "the measure's parameters: .npz, libsvm text or, of LPIPS, .safetensors",
}


def format_require(path: Path, *, kind: VersionKind | str, name: str) -> Format:
    """The format of a file, which must be one that suits ``kind``.

    Args:
        path: the file.
        kind: what the version is said to be.
        name: what messages call the file.

    Raises:
        DomainError: for an empty, unknown or unsuitable file; the message says what it is and what is wanted.
    """
    wanted = WANTED[VersionKind(kind)]
    if path.stat().st_size == 0:
        raise DomainError(f'"{name}" is empty: give {wanted}.', field="file")
    found = format_identify(path)
    if isinstance(found, str):
        raise DomainError(f'"{name}" {found}: give {wanted}.', field="file")
    if kind not in found.kinds:
        fitting = VersionKind(found.kinds[0]).label
        raise DomainError(
            f'"{name}" is a {found.name}, not {wanted}: give such a file, or choose the kind "{fitting}".', field="file"
        )
    return found


def format_identify(path: Path) -> Format | str:
    """The format, or why it is none that is accepted, as the end of a sentence about the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(TEXT_PROBE)
        if head.startswith(b"PK\x03\x04"):
            return _identify_zip(path)
        if head.startswith(COMPACT_MAGIC):
            return COMPACT
        if head.startswith(LEGACY_TORCH):
            return TORCH_LEGACY
        if head.startswith(b"PAR1"):
            file.seek(max(0, size - 4))
            return PARQUET if size >= 12 and file.read(4) == b"PAR1" else "is a truncated Parquet file"
        if _is_safetensors(file, size):
            return SAFETENSORS
        if _is_pickle(head):
            return "is a plain pickle, which can run code when it is opened"
        if head.startswith(b"\x93NUMPY"):
            return NUMPY
        if head.startswith(b"\x89HDF"):
            return "is an HDF5 (Keras) file, which no adapter reads"
        if _is_onnx(file, size):
            return ONNX
    return CSV if _is_text(head, whole=size <= TEXT_PROBE) else "is of no known type, or damaged"


def _identify_zip(path: Path) -> Format | str:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "is a damaged or truncated zip archive"
    if sum(entry.file_size for entry in entries) > UNPACKED_LIMIT:
        return f"unpacks to more than {UNPACKED_LIMIT // 2**30} GiB"
    names = {entry.filename.split("/", 1)[-1] for entry in entries}
    if entries and all(entry.filename.endswith(".npy") for entry in entries):
        return NUMPY_ARCHIVE
    if "archive_format" in names or "serialized_exported_program.json" in {entry.filename for entry in entries}:
        return EXPORTED
    if "constants.pkl" in names:
        return "is a TorchScript archive, which can run code: save its state_dict() instead"
    if "data.pkl" in names:
        return TORCH_ZIP
    return "is a zip archive, but no torch checkpoint"


def _is_safetensors(file: IO[bytes], size: int) -> bool:
    """8 bytes of length, then a JSON object whose tensors lie within the file."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(size - 8, SAFETENSORS_HEADER_LIMIT):
        return False
    header = file.read(length)
    if not header.startswith(b"{"):
        return False
    try:
        tensors = [entry for name, entry in json.loads(header).items() if name != "__metadata__"]
        return all(entry["data_offsets"][1] <= size - 8 - length for entry in tensors)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return False


def _is_pickle(head: bytes) -> bool:
    binary = len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5
    return binary or head.startswith((b"(dp", b"(lp", b"ccopy_reg", b"cposix", b"cos\n"))


def _is_onnx(file: IO[bytes], size: int) -> bool:
    """The top level reads as an ``onnx.ModelProto``: an IR version, a graph, known fields, and ends where it should."""
    file.seek(0)
    seen: set[int] = set()
    while file.tell() < size:
        key = _varint(file)
        if key is None or key >> 3 not in ONNX_FIELDS:
            return False
        if key & 7 == 0:
            skipped = _varint(file)
        elif key & 7 == 2:
            skipped = _varint(file)
            if skipped is not None:
                file.seek(skipped, 1)
        else:
            return False
        if skipped is None:
            return False
        seen.add(key >> 3)
    return file.tell() == size and {1, 7} <= seen


def _varint(file: IO[bytes]) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None


def _is_text(head: bytes, *, whole: bool) -> bool:
    """UTF-8 without control characters; a character that the probe cut in two does not count."""
    if any(byte < 32 and byte not in b"\t\r\n" for byte in head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return not whole and error.start >= len(head) - 3
    return True
