"""Residual backbones for small images whose parts can be exchanged.

`BasicResNet`: convolution, norm, ReLU (He et al., arXiv:1512.03385) with 1x1 projections where the shape changes:
ResNet-34 of the CIFAR literature is widths 64-128-256-512 with 3-4-6-3 blocks, ResNet-20 and ResNet-38 are 16-32-64
with 3-3-3 and 6-6-6. `WideResNet`: norm, ReLU, convolution (Zagoruyko and Komodakis, arXiv:1605.07146): WRN-16-8 is
128-256-512 with 2-2-2 blocks, WRN-40-2 is 32-64-128 with 6-6-6.

Blocks lie in one flat list, `blocks`; a stage begins where the stride is 2 or the width changes. Whatever `forward`
gets beside the image is handed to every convolution, norm and the linear layer, so that parts which depend on a
condition share this code; the usual ones get nothing more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional


class Conv(Protocol):
    """Makes a convolution without bias, padded so that a stride of 1 keeps the size."""

    def __call__(self, n_in: int, n_out: int, kernel: int, stride: int) -> nn.Module: ...


class Norm(Protocol):
    """Makes a norm of n channels. modulated: followed by an activation or an addition inside a block or the stem, not
    on a shortcut and not the last of a pre-activation network."""

    def __call__(self, n: int, *, modulated: bool) -> nn.Module: ...


def plain_conv(n_in: int, n_out: int, kernel: int, stride: int) -> nn.Module:
    return nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2, bias=False)


def plain_norm(n: int, *, modulated: bool) -> nn.Module:
    return nn.BatchNorm2d(n)


@dataclass(frozen=True)
class Parts:
    """What a backbone is made of. linear: (n_in, n_out) -> the last layer."""

    conv: Conv = plain_conv
    norm: Norm = plain_norm
    linear: Callable[[int, int], nn.Module] = nn.Linear


PLAIN = Parts()


class BasicResNet(nn.Module):
    """x: (N, in_channels, H, W) -> logits: (N, num_classes); H and W at least 1, halved between stages.

    widths: channels of each stage; blocks: how many blocks each has. stem: channels of the first convolution, None for
    those of the first stage; stem_stride: 2 halves the image at once, for fast experiments. Raises ValueError for
    stages that make no network.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        blocks: Sequence[int],
        stem_stride: int = 1,
        in_channels: int = 3,
        num_classes: int = 10,
        stem: int | None = None,
        parts: Parts = PLAIN,
    ) -> None:
        super().__init__()
        first = widths[0] if stem is None and widths else stem or 0
        self.plan = stage_plan(widths, blocks, first)
        self.conv = parts.conv(in_channels, first, 3, stem_stride)
        self.norm = parts.norm(first, modulated=True)
        self.blocks = nn.ModuleList(BasicBlock(*shape, parts) for shape in self.plan)
        self.linear = parts.linear(widths[-1], num_classes)
        _initialise(self)

    def stem(self, x: torch.Tensor, *given: Any) -> torch.Tensor:
        """What the first block sees."""
        return functional.relu(self.norm(self.conv(x, *given), *given))

    def head(self, x: torch.Tensor, *given: Any) -> torch.Tensor:
        """The logits of what the last block gives."""
        return self.linear(x.mean(dim=(2, 3)), *given)

    def forward(self, x: torch.Tensor, *given: Any) -> torch.Tensor:
        x = self.stem(x, *given)
        for block in self.blocks:
            x = block(x, *given)
        return self.head(x, *given)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with norms beside the identity, or beside a 1x1 convolution with a norm."""

    def __init__(self, n_in: int, n_out: int, stride: int, parts: Parts = PLAIN) -> None:
        super().__init__()
        self.conv1 = parts.conv(n_in, n_out, 3, stride)
        self.norm1 = parts.norm(n_out, modulated=True)
        self.conv2 = parts.conv(n_out, n_out, 3, 1)
        self.norm2 = parts.norm(n_out, modulated=True)
        self.is_projected = stride != 1 or n_in != n_out
        if self.is_projected:
            self.shortcut = parts.conv(n_in, n_out, 1, stride)
            self.shortcut_norm = parts.norm(n_out, modulated=False)

    def forward(self, x: torch.Tensor, *given: Any) -> torch.Tensor:
        y = functional.relu(self.norm1(self.conv1(x, *given), *given))
        y = self.norm2(self.conv2(y, *given), *given)
        if self.is_projected:
            x = self.shortcut_norm(self.shortcut(x, *given), *given)
        return functional.relu(y + x)


class WideResNet(nn.Module):
    """x: (N, in_channels, H, W) -> logits: (N, num_classes). dropout: between the convolutions of a block.

    The other arguments and errors are those of `BasicResNet`; stem_width is 16 in the paper.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        blocks: Sequence[int],
        dropout: float = 0.0,
        stem_width: int = 16,
        stem_stride: int = 1,
        in_channels: int = 3,
        num_classes: int = 10,
        parts: Parts = PLAIN,
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout:g}: give a share from 0 up to, but not including, 1")
        self.plan = stage_plan(widths, blocks, stem_width)
        self.conv = parts.conv(in_channels, stem_width, 3, stem_stride)
        self.blocks = nn.ModuleList(PreActivationBlock(*shape, dropout, parts) for shape in self.plan)
        self.norm = parts.norm(widths[-1], modulated=False)
        self.linear = parts.linear(widths[-1], num_classes)
        _initialise(self)

    def stem(self, x: torch.Tensor, *given: Any) -> torch.Tensor:
        """What the first block sees."""
        return self.conv(x, *given)

    def head(self, x: torch.Tensor, *given: Any) -> torch.Tensor:
        """The logits of what the last block gives."""
        return self.linear(functional.relu(self.norm(x, *given)).mean(dim=(2, 3)), *given)

    def forward(self, x: torch.Tensor, *given: Any) -> torch.Tensor:
        x = self.stem(x, *given)
        for block in self.blocks:
            x = block(x, *given)
        return self.head(x, *given)


class PreActivationBlock(nn.Module):
    """Norm, ReLU, 3x3 convolution, twice; beside the input, or a 1x1 convolution of the activated input."""

    def __init__(self, n_in: int, n_out: int, stride: int, dropout: float, parts: Parts = PLAIN) -> None:
        super().__init__()
        self.norm1 = parts.norm(n_in, modulated=True)
        self.conv1 = parts.conv(n_in, n_out, 3, stride)
        self.norm2 = parts.norm(n_out, modulated=True)
        self.dropout = dropout
        self.conv2 = parts.conv(n_out, n_out, 3, 1)
        self.is_projected = stride != 1 or n_in != n_out
        if self.is_projected:
            self.shortcut = parts.conv(n_in, n_out, 1, stride)

    def forward(self, x: torch.Tensor, *given: Any) -> torch.Tensor:
        y = functional.relu(self.norm1(x, *given))
        if self.is_projected:
            x = self.shortcut(y, *given)
        y = functional.relu(self.norm2(self.conv1(y, *given), *given))
        if self.dropout:
            y = functional.dropout(y, self.dropout, self.training)
        return self.conv2(y, *given) + x


def stage_plan(widths: Sequence[int], blocks: Sequence[int], stem: int) -> list[tuple[int, int, int]]:
    """(channels in, channels out, stride) of every block. Raises ValueError for stages that make no network."""
    if not widths or len(widths) != len(blocks):
        raise ValueError(
            f"{len(widths)} widths and {len(blocks)} numbers of blocks: give one of each for every stage, and a stage "
            "at least"
        )
    for name, values in (("width", (stem, *widths)), ("number of blocks", blocks)):
        low = [value for value in values if value < 1]
        if low:
            raise ValueError(f"a {name} is {low[0]}: give at least 1")
    plan = []
    for stage, ((n_in, n_out), n) in enumerate(zip(pairwise((stem, *widths)), blocks, strict=True)):
        plan.append((n_in, n_out, 2 if stage else 1))
        plan.extend([(n_out, n_out, 1)] * (n - 1))
    return plan


def _initialise(network: nn.Module) -> None:
    """He et al., arXiv:1502.01852, by the fan-out, as is usual for residual networks."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
