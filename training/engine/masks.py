"""Masks of pruned weights: which values of which tensors are there. Kept as packed bits beside the weights."""

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Masks = dict[str, torch.Tensor]  # bool, by parameter name


class MaskError(ValueError):
    """Masks that do not belong to a network."""


def packed(masks: Mapping[str, torch.Tensor]) -> dict[str, npt.NDArray[np.uint8]]:
    """Eight values a byte, to be kept by ``run.save(arrays=...)``."""
    return {name: np.packbits(mask.cpu().numpy().ravel()) for name, mask in masks.items()}


def unpacked(arrays: Mapping[str, npt.NDArray[np.uint8]], network: nn.Module, *, name: str) -> Masks:
    """The masks of a network by its parameters' names; none where there are no arrays.

    Raises MaskError when one belongs to no parameter, or to one of another size.
    """
    parameters = dict(network.named_parameters())
    masks: Masks = {}
    for key, bits in arrays.items():
        parameter = parameters.get(key)
        if parameter is None or -(-parameter.numel() // 8) != len(bits):
            raise MaskError(f'the masks of "{name}" do not fit its network: weight "{key}" is unlike; prune it again')
        flat = np.unpackbits(bits, count=parameter.numel()).astype(np.bool_)
        masks[key] = torch.from_numpy(flat).reshape(parameter.shape)
    return masks


def apply(masks: Mapping[str, torch.Tensor], network: nn.Module) -> None:
    """Set the masked weights to zero."""
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, mask in masks.items():
            parameters[name].masked_fill_(~mask.to(parameters[name].device), 0.0)


def digest(masks: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of masks: equal for bit-identical ones."""
    found = hashlib.sha256()
    for name, bits in sorted(packed(masks).items()):
        found.update(f"{name}:{masks[name].numel()}:".encode())
        found.update(bits.tobytes())
    return found.hexdigest()


def sparsity(masks: Mapping[str, torch.Tensor]) -> float:
    """Share of the values in masked tensors that are not there."""
    total = sum(mask.numel() for mask in masks.values())
    return 1 - sum(int(mask.sum()) for mask in masks.values()) / max(total, 1)
