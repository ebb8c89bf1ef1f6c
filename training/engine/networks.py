"""Networks that go into a run and come out of it."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import nn

from models_zoo.adapters import compact
from models_zoo.adapters.load import torch_module
from models_zoo.adapters.spec import Preprocessing, VersionSpec, file_sha256
from models_zoo.adapters.weights import load_into
from models_zoo.architectures import build

Purpose = Literal["use", "variant"]


@dataclass(frozen=True)
class InputNetwork:
    """A version that goes into a run.

    facts: what the run that made it said of it. arrays_file: the arrays that it kept beside the weights.
    higher_is_better: of a quality network, as its model's card says; None where nobody says it. role, number: its place
    among the inputs; filled in by the engine.
    """

    name: str
    spec: VersionSpec
    facts: Mapping[str, Any] = field(default_factory=dict)
    arrays_file: Path | None = None
    higher_is_better: bool | None = None
    role: str = ""
    number: int = 0

    @property
    def architecture(self) -> str:
        return self.spec.architecture

    @property
    def arch_kwargs(self) -> dict[str, Any]:
        return self.spec.arch_kwargs

    @property
    def preprocessing(self) -> Preprocessing:
        return self.spec.preprocessing

    def module(self) -> nn.Module:
        """A fresh network with the version's weights: float32, on the CPU, in evaluation mode, open to gradients.

        Raises ValueError for what is no architecture of the registry, VersionRefused for a damaged file.
        """
        if self.spec.kind != "torch":
            raise ValueError(
                f'"{self.name}" is of kind "{self.spec.kind}": a run needs an architecture of the registry with a '
                "weights file, whose gradients can be computed"
            )
        return torch_module(self.spec)[0].float().requires_grad_(True)

    def arrays(self) -> dict[str, np.ndarray]:
        """What ``run.save(arrays=...)`` kept; empty without it. Raises ValueError when the file was changed."""
        if self.arrays_file is None:
            return {}
        return read_arrays(self.arrays_file, self.facts.get("arrays_sha256"), self.name)


@dataclass(frozen=True)
class Output:
    """A network that came out of a run; becomes a version. file, arrays_file: names under the run's directory.
    parents: (role, number) of the inputs that it was made from."""

    role: str
    number: int
    file: str
    sha256: str
    architecture: str
    arch_kwargs: dict[str, Any]
    preprocessing: dict[str, Any]
    outputs: Literal["score", "logits"]
    label: str = ""
    purpose: str = "use"
    facts: dict[str, Any] = field(default_factory=dict)
    arrays_file: str = ""
    parents: list[list[Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def network(self, directory: Path) -> InputNetwork:
        """The same as an input of another run."""
        spec = VersionSpec(
            kind="torch",
            architecture=self.architecture,
            arch_kwargs=self.arch_kwargs,
            weights=str(directory / self.file),
            sha256=self.sha256,
            preprocessing=Preprocessing.from_dict(self.preprocessing),
            num_classes=self.arch_kwargs.get("num_classes") if self.outputs == "logits" else None,
            outputs=self.outputs,
        )
        arrays = directory / self.arrays_file if self.arrays_file else None
        return InputNetwork(self.label or f"{self.role} {self.number + 1}", spec, self.facts, arrays)


def plain(module: nn.Module) -> nn.Module:
    """The network inside what ``accelerate`` and ``torch.compile`` wrap around it."""
    while True:
        inner = getattr(module, "_orig_mod", None)
        if inner is None and isinstance(module, nn.parallel.DistributedDataParallel):
            inner = module.module
        if inner is None:
            return module
        module = inner


def weights_of(module: nn.Module, architecture: str, arch_kwargs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a weights file: float32, on the CPU, each with memory of its own; tried on a fresh network.

    Raises VersionRefused when they do not fit the architecture, UnknownArchitecture when there is none such.
    """
    state = {
        key: (tensor.detach().float() if tensor.is_floating_point() else tensor.detach()).cpu().contiguous().clone()
        for key, tensor in plain(module).state_dict().items()
    }
    with torch.random.fork_rng(devices=[]):
        empty = build(architecture, **arch_kwargs)
    load_into(empty, state, architecture=architecture, weights="of the run")
    return state


def write_weights(file: Path, state: dict[str, torch.Tensor]) -> str:
    """Write a safetensors file atomically; its sha256."""
    temporary = file.with_suffix(".tmp")
    save_file(state, temporary)
    return _moved(temporary, file)


def compact_content(state: Mapping[str, torch.Tensor], weights: Mapping[str, compact.Weight]) -> bytes:
    """The content of a compact weights file: these weights by their parts, the other tensors of the state as they are.

    Raises ValueError when a weight of the state is not, to the bit, what its parts make.
    """
    for name, weight in weights.items():
        if name not in state or not np.array_equal(compact.compose(weight), state[name].numpy()):
            raise ValueError(f'weight "{name}" of the network is not what its parts make: put the composed one into it')
    others = {name: tensor.numpy() for name, tensor in state.items() if name not in weights}
    return compact.encode(weights, others)


def write_content(file: Path, content: bytes) -> str:
    """Write a file atomically; its sha256."""
    temporary = file.with_suffix(".tmp")
    temporary.write_bytes(content)
    return _moved(temporary, file)


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Write arrays as safetensors, atomically; the file's sha256."""
    temporary = file.with_suffix(".tmp")
    save_arrays({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)
    return _moved(temporary, file)


def read_arrays(file: Path, sha256: str | None, name: str) -> dict[str, np.ndarray]:
    if sha256 is not None and file_sha256(file) != sha256:
        raise ValueError(f'the arrays of "{name}" ({file.name}) were changed after its run: run it again')
    return load_arrays(file)


def inputs_digest(inputs: Mapping[str, Sequence[InputNetwork]]) -> dict[str, list[str]]:
    """What the inputs of a run are, by role."""
    return {role: [network.spec.fingerprint() for network in networks] for role, networks in sorted(inputs.items())}


def json_digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sync_folder(folder: Path) -> None:
    """Have the names of a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _moved(temporary: Path, file: Path) -> str:
    with temporary.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
        os.fsync(written.fileno())
    os.replace(temporary, file)
    sync_folder(file.parent)
    return digest
