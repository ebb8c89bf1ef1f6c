"""The stream of a run's metrics: one JSON object a line, ``{"stage", "step", "t", name: value, ...}``.

A run that goes on from a checkpoint first cuts what was written after it, so that the curve is an undisturbed run's.
Importing this imports no torch.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FILE = "metrics.jsonl"


class JsonLines:
    """A file of JSON lines that is appended to; every line is handed to the system at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)

    def append(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")

    def mark(self) -> int:
        """The length in bytes, once all of it is on the disk."""
        os.fsync(self._file.fileno())
        return self.path.stat().st_size

    def cut(self, length: int) -> None:
        """Forget what was written after ``mark`` gave ``length``."""
        if self.path.stat().st_size > length:
            self._file.truncate(length)

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class Read:
    """lines: whole lines after the position asked for. position: where to go on. restarted: the file became shorter
    than that position (the run went on from a checkpoint), so these lines begin at its start: forget the earlier ones.
    """

    lines: list[dict[str, Any]]
    position: int
    restarted: bool = False


def read_lines(path: Path, after: int = 0) -> Read:
    """What was written after a position (bytes, from an earlier ``Read``). A line in mid writing waits for the next
    call, a damaged one is left out; a missing file is empty."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            restarted = after > size or not _is_line_start(file, after)
            start = 0 if restarted else after
            file.seek(start)
            content = file.read()
    except FileNotFoundError:
        return Read([], 0, restarted=after > 0)
    whole = content.rfind(b"\n") + 1
    lines = [entry for line in content[:whole].split(b"\n") if (entry := _parsed(line)) is not None]
    return Read(lines, start + whole, restarted)


def read_metrics(directory: Path, after: int = 0) -> Read:
    """``read_lines`` of the metrics of a run's directory."""
    return read_lines(directory / FILE, after)


def as_json(value: Any, where: str) -> Any:
    """The same as JSON: arrays become lists, what is not finite becomes null. Raises ValueError for anything else."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): as_json(entry, f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(entry, f"{where}[{index}]") for index, entry in enumerate(value)]
    raise ValueError(f"{where} is a {type(value).__name__}: give numbers, text, lists and dicts")


def _is_line_start(file: Any, position: int) -> bool:
    if position == 0:
        return True
    file.seek(position - 1)
    return bool(file.read(1) == b"\n")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
