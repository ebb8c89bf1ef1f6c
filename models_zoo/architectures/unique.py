"""Blind quality networks with bilinear pooling that give a score and its uncertainty (UNIQUE, arXiv:2005.13983).

Features X (C x h x w) become the second-order statistics X X^T / (hw), then signed square root, L2 norm and one linear
layer with two outputs: mu, the quality, and t, whose softplus is sigma, the standard deviation of the rating.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

ROOT_EPSILON = 1e-8


class Unique(nn.Module):
    """x: (N, 3, H, W) of any size that the backbone takes -> (N, 2): mu (higher = better) and sigma > 0.

    `backbone`: (N, 3, H, W) -> (N, n_features, h, w).
    """

    def __init__(self, backbone: nn.Module, *, n_features: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(n_features**2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mu, t = self.fc(bilinear_pool(self.backbone(x))).unbind(dim=1)
        return torch.stack((mu, functional.softplus(t)), dim=1)


def bilinear_pool(features: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) -> (N, C * C): X X^T / (hw), each value sign(z) sqrt(|z| + 1e-8), then of length 1."""
    x = features.flatten(2)  # (N, C, hw)
    pooled = torch.bmm(x, x.transpose(1, 2)) / x.shape[2]
    rooted = torch.sign(pooled) * torch.sqrt(pooled.abs() + ROOT_EPSILON)
    return functional.normalize(rooted.flatten(1), dim=1)


def resnet_backbone(depth: int) -> tuple[nn.Module, int]:
    """torchvision's ResNet-18 or -34 up to its last convolution, under torchvision's names; and its 512 features."""
    from torchvision.models import get_model

    network = get_model(f"resnet{depth}", weights=None)
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    backbone = nn.Sequential()
    for name in names:
        backbone.add_module(name, getattr(network, name))
    return backbone, 512


def squeezenet_backbone(modules: int) -> tuple[nn.Module, int]:
    """The first `modules` modules of torchvision's SqueezeNet 1.0 features (5: to fire 3, 8: to fire 5, 13: all of
    them), under torchvision's names; and the number of its features.

    Raises ValueError for a module that gives no features: pooling, or the first convolution.
    """
    from torchvision.models import squeezenet1_0
    from torchvision.models.squeezenet import Fire

    features = squeezenet1_0(weights=None).features
    if not 0 < modules <= len(features) or not isinstance(features[modules - 1], Fire):
        ends = [at + 1 for at, module in enumerate(features) if isinstance(module, Fire)]
        raise ValueError(f"the SqueezeNet backbone cannot end after module {modules}: choose from {ends}")
    last = features[modules - 1]
    assert isinstance(last, Fire)
    return features[:modules], last.expand1x1.out_channels + last.expand3x3.out_channels


def small_backbone(widths: tuple[int, ...]) -> tuple[nn.Module, int]:
    """3x3 convolutions of stride 2 with batch norm and ReLU, one per width; and the last width."""
    if not widths:
        raise ValueError("the small backbone needs at least one width")
    stages = [
        nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU())
        for n_in, n_out in pairwise((3, *widths))
    ]
    return nn.Sequential(*stages), widths[-1]
