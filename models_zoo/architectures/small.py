"""Networks of a few thousand parameters for small images."""

from itertools import pairwise

import torch
from torch import nn


class TinyCNN(nn.Module):
    """x: (N, in_channels, H, W) of any size >= 2 ** (len(widths) - 1) -> logits: (N, num_classes)."""

    def __init__(self, *, widths: tuple[int, ...], in_channels: int, num_classes: int) -> None:
        super().__init__()
        if not widths:
            raise ValueError("tiny_cnn needs at least one width")
        layers: list[nn.Module] = []
        for stage, (n_in, n_out) in enumerate(pairwise((in_channels, *widths))):
            if stage:
                layers.append(nn.MaxPool2d(2))
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))


class Perceptron(nn.Module):
    """x: (N, C, H, W) with C * H * W = n_inputs -> logits: (N, num_classes). No hidden layer makes it linear."""

    def __init__(self, *, hidden: tuple[int, ...], n_inputs: int, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in pairwise((n_inputs, *hidden)):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        layers.append(nn.Linear(hidden[-1] if hidden else n_inputs, num_classes))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class LeNet(nn.Module):
    """The LeNet of the Caffe examples: x: (N, in_channels, S, S) -> logits: (N, num_classes).

    Convolutions of 20 and 50 channels, 5x5, unpadded, each followed by a maximum over 2x2 and by no activation; then
    500 units with ReLU. Raises ValueError for images of fewer than 16 pixels a side, of which nothing would be left.
    """

    def __init__(self, *, input_size: int, in_channels: int, num_classes: int) -> None:
        super().__init__()
        left = ((input_size - 4) // 2 - 4) // 2
        if left < 1:
            raise ValueError(f"lenet_caffe takes images of 16 pixels a side and more, not {input_size}")
        self.conv1 = nn.Conv2d(in_channels, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(50 * left * left, 500)
        self.fc2 = nn.Linear(500, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.conv2(self.pool(self.conv1(x))))
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))
