"""CNNIQA (Kang et al., Convolutional Neural Networks for No-Reference Image Quality Assessment, CVPR 2014).

Grey patches of 32 x 32, each normalised by its local mean and deviation, one convolution, the largest and the smallest
response of each kernel, two hidden layers; an image's score is the mean over its patches. Names of the layers follow
the public checkpoints.
"""

import torch
from torch import nn
from torch.nn import functional

PATCH = 32
WINDOW = 3  # of the local mean and deviation, as the public checkpoints were trained with
CONTRAST = 1.0  # added to the deviation, on the scale where white is 1


class CnnIqa(nn.Module):
    """x: (N, 1, H, W), grey in 0..1, at least 32 x 32 -> (N,) scores; what is left over right and below is not seen.

    The published weights (LIVE) give DMOS: lower = better.
    """

    def __init__(self, *, kernels: int = 50, hidden: int = 800) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, kernels, 7)
        self.fc1 = nn.Linear(2 * kernels, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, 1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = normalised(cut(x))  # (N * p, 1, 32, 32)
        responses = self.conv1(patches)  # (N * p, kernels, 26, 26)
        extremes = torch.cat((responses.amax(dim=(2, 3)), responses.amin(dim=(2, 3))), dim=1)
        hidden = functional.relu(self.fc1(extremes))
        hidden = functional.relu(self.fc2(self.dropout(hidden)))
        return self.fc3(hidden).reshape(x.shape[0], -1).mean(dim=1)


def cut(x: torch.Tensor) -> torch.Tensor:
    """(N, 1, H, W) -> (N * p, 1, 32, 32): the p whole patches of each image, row by row."""
    n, _, height, width = x.shape
    down, across = height // PATCH, width // PATCH
    x = x[:, :, : down * PATCH, : across * PATCH].reshape(n, down, PATCH, across, PATCH)
    return x.permute(0, 1, 3, 2, 4).reshape(n * down * across, 1, PATCH, PATCH)


def normalised(patches: torch.Tensor) -> torch.Tensor:
    """(x - local mean) / (local deviation + 1), windows reflected at a patch's edge with the edge repeated."""
    padded = functional.pad(patches, [WINDOW // 2] * 4, mode="replicate")
    mean = functional.avg_pool2d(padded, WINDOW, stride=1)
    variance = functional.avg_pool2d(padded * padded, WINDOW, stride=1) - mean * mean
    return (patches - mean) / (variance.clamp(min=0).sqrt() + CONTRAST)
