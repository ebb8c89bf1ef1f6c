"""Checkpoints: everything a run needs to go on as if nothing had happened.

A file is written under a temporary name, synchronised, and renamed to ``<number>-<kind>-<stage>-<digest>.pt``; the
digest in the name tells a damaged file. Kind "step": within a stage; kind "final": a stage's end, kept until the run
ends, because a recipe that is run again passes its finished stages. Of all files the last two are kept besides. Files
hold tensors and plain containers only and are read without unpickling code (``weights_only``).
"""

import errno
import hashlib
import logging
import os
import random
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from training.engine.networks import sync_folder
from training.engine.samples import slug

logger = logging.getLogger(__name__)

FORMAT = 1
KEPT = 2
HEAD = ("stage", "done", "begun", "device")  # what is known of a checkpoint without reading all of it
_NAME = re.compile(r"^(\d{6})-(step|final)-.*-([0-9a-f]{16})\.pt$")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class CheckpointError(ValueError):
    """A checkpoint cannot be written, or belongs to another run; the message says what to do."""


@dataclass(frozen=True)
class Point:
    """A checkpoint on the disk."""

    number: int
    kind: Literal["step", "final"]
    file: Path
    content: dict[str, Any]

    @property
    def stage(self) -> str:
        return str(self.content["stage"])

    @property
    def done(self) -> int:
        return int(self.content["done"])


class CheckpointStore:
    """The checkpoints of one run's directory.

    begun: what the run is (method, config, seed, inputs, data); a checkpoint of another one is refused. writes: whether
    this process may change the folder.
    Raises CheckpointError, naming the field that differs.
    """

    def __init__(self, folder: Path, begun: Mapping[str, Any], *, writes: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.begun = dict(begun)
        self._points = _usable(folder)
        if writes:
            _tidy(folder, {point.file for point in self._points})
        for point in self._points:
            require_same(point.content["begun"], self.begun)
        self._next = 1 + max((point.number for point in self._points), default=0)

    @property
    def newest(self) -> Point | None:
        """Where the run goes on."""
        return self._points[-1] if self._points else None

    def of_stage(self, stage: str) -> Point | None:
        """Where a stage goes on: its end, or its newest step."""
        return next((point for point in reversed(self._points) if point.stage == stage), None)

    def write(self, kind: Literal["step", "final"], content: Mapping[str, Any]) -> None:
        """Keep ``content`` and forget what is no longer needed.

        Raises:
            CheckpointError: the disk is full, or a value is no tensor, array, number, text, list or dict. The
                checkpoints before it stay.
        """
        whole = packed({"format": FORMAT, "begun": self.begun, **content}, "checkpoint")
        file = _write(self.folder, self._next, kind, str(content["stage"]), whole, self.newest)
        self._points.append(Point(self._next, kind, file, {key: whole[key] for key in HEAD}))
        self._next += 1
        for point in [point for point in self._points[:-KEPT] if point.kind == "step"]:
            point.file.unlink(missing_ok=True)
            self._points.remove(point)

    def read(self, point: Point) -> dict[str, Any]:
        """The content of a checkpoint. Raises CheckpointError when it cannot be read."""
        try:
            loaded = torch.load(point.file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise CheckpointError(f"checkpoint {point.file.name} cannot be read: {error}") from error
        content: dict[str, Any] = unpacked(loaded)
        return content

    def clear(self) -> None:
        """Forget all of them: the run is over."""
        for file in self.folder.glob("*.pt"):
            file.unlink(missing_ok=True)
        self._points = []


def require_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise CheckpointError when a run is not the one that its directory holds, naming the first field that differs."""
    for key in ("method", "seed", "inputs", "data", "processes"):
        if before.get(key) != now.get(key):
            said = f"{before.get(key)!r}, now it is {now.get(key)!r}" if key not in {"inputs", "data"} else "others"
            raise CheckpointError(
                f"The run was begun with another {key} ({said}): start a new run, or go on with the {key} that it had."
            )
    old, new = before.get("config", {}), now.get("config", {})
    for field in sorted({*old, *new}):
        if old.get(field) != new.get(field):
            raise CheckpointError(
                f"The run was begun with {field} = {old.get(field)!r}, now it is {new.get(field)!r}: start a new run, "
                f"or set {field} back to go on with this one."
            )


def packed(value: Any, where: str) -> Any:
    """The same in what ``weights_only`` reads: tensors, plain containers, numbers, text; arrays as bytes.

    Raises CheckpointError naming what is none of them.
    """
    if isinstance(value, torch.nn.Parameter):
        return value.detach()
    if value is None or isinstance(value, bool | int | float | str | bytes | torch.Tensor):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        flat = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8).copy()
        return {"__array__": torch.from_numpy(flat), "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, Mapping):
        return _like(value, {_key(key, where): packed(entry, f"{where}.{key}") for key, entry in value.items()})
    if type(value) in (list, tuple):
        return type(value)(packed(entry, f"{where}[{index}]") for index, entry in enumerate(value))
    raise CheckpointError(
        f"{where} is a {type(value).__name__}: what is kept for a resume (state_dict) holds tensors, numpy arrays, "
        "numbers, text, lists, tuples and dicts alone"
    )


def unpacked(value: Any) -> Any:
    """The inverse of ``packed``."""
    if isinstance(value, dict):
        if "__array__" in value:
            array = np.frombuffer(value["__array__"].numpy().tobytes(), np.dtype(value["dtype"]))
            return array.reshape(value["shape"]).copy()
        return _like(value, {key: unpacked(entry) for key, entry in value.items()})
    if type(value) in (list, tuple):
        return type(value)(unpacked(entry) for entry in value)
    return value


def rng_state(device: torch.device) -> dict[str, Any]:
    """The global generators: Python's, numpy's, torch's, and the GPU's."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002  # what a recipe's libraries may draw from
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def rng_restore(state: Mapping[str, Any], device: torch.device) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002  # as above
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)


def rng_seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # as above
    torch.manual_seed(seed)


def _like(value: Any, entries: dict[Any, Any]) -> dict[Any, Any]:
    """The entries in the same sort of dict; schedulers keep their milestones in a Counter."""
    return type(value)(entries) if type(value) in (OrderedDict, Counter) else entries


def _key(key: Any, where: str) -> Any:
    if isinstance(key, str | int):
        return key
    raise CheckpointError(f"{where} has the key {key!r}: keys are text or whole numbers")


def _usable(folder: Path) -> list[Point]:
    """The chain of checkpoints up to its first gap: after a stage whose end is damaged nothing counts."""
    points: list[Point] = []
    for file in sorted(folder.glob("*.pt")):
        match = _NAME.match(file.name)
        if match is None:
            continue
        content = _head(file, match[3])
        if content is not None:
            points.append(Point(int(match[1]), match[2], file, content))  # type: ignore[arg-type]
            continue
        logger.warning("checkpoint %s is damaged: the one before is used", file.name)
        if match[2] == "final":
            break
    return points


def _tidy(folder: Path, kept: set[Path]) -> None:
    """Remove what is damaged, and what broke off."""
    for file in [*folder.glob("*.pt"), *folder.glob("*.tmp")]:
        if file not in kept:
            file.unlink(missing_ok=True)


def _head(file: Path, digest: str) -> dict[str, Any] | None:
    """What a checkpoint is about; None when its bytes are not those that were written."""
    try:
        with file.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest()[:16] != digest:
                return None
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        return {key: unpacked(content[key]) for key in HEAD}
    except Exception as error:
        logger.warning("checkpoint %s: %s", file.name, error)
        return None


def _write(folder: Path, number: int, kind: str, stage: str, content: Any, before: Point | None) -> Path:
    temporary = folder / f"{number:06d}.tmp"
    try:
        with temporary.open("wb+") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
            stream.seek(0)
            digest = hashlib.file_digest(stream, "sha256").hexdigest()[:16]
        file = folder / f"{number:06d}-{kind}-{slug(stage)}-{digest}.pt"
        os.replace(temporary, file)
        sync_folder(folder)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        if not _is_full(error):
            raise
        kept = f"the one of step {before.done} stays" if before else "there is none before it"
        raise CheckpointError(
            f'The disk is full: the checkpoint of step {content["done"]} of stage "{stage}" was not written, {kept}. '
            f"Free some space where {folder} lies, then press Retry: the run goes on from there."
        ) from error
    return file


def _is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error; torch's writer wraps what the system said."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if isinstance(error, RuntimeError) and "writing file" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
