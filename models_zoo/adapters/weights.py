"""State dicts from files, without ever unpickling code.

Safetensors files are read by their own parser, compact ones (sparse and quantised, `compact`) by ours; everything else
goes through `torch.load(weights_only=True)`, whose restricted unpickler builds tensors and plain containers and refuses
every other class before it is called.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from models_zoo.adapters import compact
from models_zoo.adapters.spec import VersionRefused, file_sha256

_NESTS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema", "net", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_NAMED = 3  # keys named in a message


def check_sha256(path: Path, expected: str | None) -> str:
    """The file's sha256. Raises VersionRefused when it is not the pinned one."""
    found = file_sha256(path)
    if expected is not None and found != expected.lower():
        raise VersionRefused(
            f'weights "{path.name}" have sha256 {found[:12]}…, but {expected[:12]}… is pinned: the file was changed'
        )
    return found


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weights file by name; nesting ("state_dict", "model", ...) and "module." prefixes removed.

    Raises VersionRefused for a file that is no weights file, that needs unpickling of code, or that holds no tensors.
    """
    if not path.is_file():
        raise VersionRefused(f'weights "{path.name}" do not exist')
    if compact.is_compact(path):
        loaded: Any = {name: torch.from_numpy(array) for name, array in compact.read(path).items()}
    else:
        loaded = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    return _without_prefix(_innermost(path, loaded))


def load_into(module: nn.Module, state: Mapping[str, torch.Tensor], *, architecture: str, weights: str) -> None:
    """Copy tensors into a module, strictly. Raises VersionRefused naming the first keys that differ, with shapes.

    A module may have a method `published`, which gives the tensors of an author's checkpoint its own names.
    """
    own = module.state_dict()
    state = _with_prefix_of(own, getattr(module, "published", dict)(state))
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    missing = [key for key in own if key not in state and key not in counters]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} is {_shape(state[key])} in the file, {_shape(own[key])} in the architecture"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    complaints = [
        *(_complaint("missing", [f"{key} {_shape(own[key])}" for key in missing])),
        *(_complaint("unexpected", [f"{key} {_shape(state[key])}" for key in unexpected])),
        *(_complaint("of another shape", shapes)),
    ]
    if complaints:
        raise VersionRefused(f'weights "{weights}" do not fit architecture "{architecture}": {"; ".join(complaints)}')
    module.load_state_dict(dict(state), strict=False)


def _is_safetensors(path: Path) -> bool:
    """By content: eight bytes of length, then a JSON object."""
    with path.open("rb") as file:
        head = file.read(9)
    return path.suffix == ".safetensors" or (len(head) == 9 and head[8:9] == b"{" and head[6:8] == b"\0\0")


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise VersionRefused(f'weights "{path.name}" are not a valid safetensors file: {error}') from error


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            culprit = _culprit(str(error))
            raise VersionRefused(
                f'weights "{path.name}" are refused: the file is a pickle that wants to run {culprit}; it was not '
                "executed. Save tensors only: torch.save(model.state_dict(), ...) or safetensors"
            ) from error
        raise VersionRefused(
            f'weights "{path.name}" are neither safetensors nor a torch state dict: {_first_line(error)}'
        ) from error


def _innermost(path: Path, loaded: Any) -> dict[str, torch.Tensor]:
    for _ in range(3):
        if not isinstance(loaded, Mapping):
            break
        tensors = {key: value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
        inner = next((loaded[nest] for nest in _NESTS if isinstance(loaded.get(nest), Mapping)), None)
        if inner is None:
            if tensors and all(isinstance(key, str) for key in tensors):
                return tensors
            break
        loaded = inner
    raise VersionRefused(
        f'weights "{path.name}" hold no state dict: expected tensors by name, at the top or under '
        f"{', '.join(_NESTS[:3])}"
    )


def _without_prefix(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for prefix in _PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            return _without_prefix({key.removeprefix(prefix): value for key, value in state.items()})
    return state


def _with_prefix_of(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Give a prefix back that belongs to the architecture itself, whose layers all live under "model.", say."""
    for prefix in _PREFIXES:
        if own and all(key.startswith(prefix) for key in own) and not any(key.startswith(prefix) for key in state):
            return {prefix + key: value for key, value in state.items()}
    return state


def _complaint(what: str, entries: list[str]) -> list[str]:
    if not entries:
        return []
    more = f" and {len(entries) - _NAMED} more" if len(entries) > _NAMED else ""
    return [f"{len(entries)} {what} ({', '.join(entries[:_NAMED])}{more})"]


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "scalar"


def _culprit(message: str) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", message)
    return f'"{found.group(1)}"' if found else "code"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]
