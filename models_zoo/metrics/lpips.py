"""LPIPS (Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, arXiv:1801.03924).

Features of a classification network at several depths, each of unit length over the channels; squared differences,
weighted per channel by learned weights >= 0, averaged over the picture and summed over the depths (equation 1).

The parameters are one .safetensors file with the network's features as torchvision names them ("features.0.weight")
and the learned weights as the authors' files do ("lin0.model.1.weight", 1 x C x 1 x 1); `lpips_params` makes it from
those two public files.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from models_zoo.metrics.registry import Arithmetic, UnsuitableParams

# By network: torchvision's name, the layers of its features whose output counts, and how many channels each has.
NETWORKS = {
    "alex": ("alexnet", (1, 4, 7, 9, 11), (64, 192, 384, 256, 256)),
    "vgg": ("vgg16", (3, 8, 15, 22, 29), (64, 128, 256, 512, 512)),
    "squeeze": ("squeezenet1_1", (1, 4, 7, 9, 10, 11, 12), (64, 128, 256, 384, 384, 512, 512)),
}
_SHIFT = (-0.030, -0.088, -0.188)  # of pixels in -1..1, as the authors' code has them
_SCALE = (0.458, 0.448, 0.450)
_EPSILON = 1e-10


class Lpips(nn.Module):
    """x, reference: (N, 3, H, W) in -1..1 -> (N,) distances. Raises KeyError for a network that is not in NETWORKS."""

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, network: str) -> None:
        super().__init__()
        from torchvision.models import get_model

        name, self.depths, channels = NETWORKS[network]
        self.features = get_model(name, weights=None).features[: self.depths[-1] + 1]
        for depth, n in enumerate(channels):
            self.add_module(f"lin{depth}", _Lin(n))
        self.register_buffer("shift", torch.tensor(_SHIFT).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        total = x.new_zeros(len(x))
        for depth, (seen, expected) in enumerate(zip(self._seen(x), self._seen(reference), strict=True)):
            difference = (_unit(seen) - _unit(expected)) ** 2  # (N, C, h, w)
            total = total + self.get_submodule(f"lin{depth}")(difference).mean(dim=(1, 2, 3))
        return total

    def _seen(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The outputs at all depths."""
        x = (x - self.shift) / self.scale
        found = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.depths:
                found.append(x.clone())  # the next layer may be a ReLU that works in place
        return found


class _Lin(nn.Module):
    """One weight per channel, under the name that the authors' files have."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Dropout(), nn.Conv2d(n_channels, 1, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


def lpips_measure(network: str, params: Path) -> Arithmetic:
    """(image, reference) -> distance; uint8 (H, W, 3) both. Raises UnsuitableParams."""
    module = lpips_load(network, params)

    def arithmetic(image: np.ndarray, reference: np.ndarray) -> float:
        with torch.inference_mode():
            return float(module(_as_input(image), _as_input(reference))[0])

    return arithmetic


def lpips_load(network: str, params: Path) -> Lpips:
    """The measure with its parameters, in evaluation mode. Raises UnsuitableParams naming what does not fit."""
    try:
        state = load_file(params)
    except (OSError, SafetensorError, ValueError) as error:
        raise UnsuitableParams(
            f'"{params.name}" is no .safetensors file: make one with "metric_params lpips"'
        ) from error
    return _loaded(network, state, params.name)


def lpips_params(
    network: str, *, backbone: dict[str, torch.Tensor], linear: dict[str, torch.Tensor], out: Path
) -> None:
    """Join the state dict of torchvision's network and the authors' learned weights in one file.

    Raises UnsuitableParams when they are not of this network.
    """
    deepest = NETWORKS[network][1][-1]
    kept = {
        name: value
        for name, value in backbone.items()
        if name.startswith("features.") and int(name.split(".")[1]) <= deepest
    }
    state = {name: value.contiguous().float() for name, value in {**kept, **linear}.items()}
    _loaded(network, state, out.name)
    save_file(state, out)


def _loaded(network: str, state: dict[str, torch.Tensor], name: str) -> Lpips:
    module = Lpips(network).eval().requires_grad_(False)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        raise UnsuitableParams(f'"{name}" does not fit LPIPS over {NETWORKS[network][0]}: {first}') from error
    return module


def _unit(features: torch.Tensor) -> torch.Tensor:
    """Of length 1 over the channels."""
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + _EPSILON)


def _as_input(pixels: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, 3) -> (1, 3, H, W) in -1..1"""
    return torch.tensor(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
