"""Residual backbones: of the published sizes, and what their parts are handed."""

import pytest
import torch
from torch import nn

from models_zoo.architectures import UnknownArchitecture, architecture_card, build
from models_zoo.architectures.backbones import BasicResNet, Parts, WideResNet, plain_conv
from training.engine import costs

SMALL = {"widths": [8, 12], "blocks": [1, 2]}


@pytest.mark.parametrize(
    ("name", "kwargs", "side", "expected"),
    [
        ("basic_resnet", {"widths": [64, 128, 256, 512], "blocks": [3, 4, 6, 3]}, 32, (21.2821, 1159.4)),
        ("wide_resnet", {"widths": [128, 256, 512], "blocks": [2, 2, 2]}, 32, (10.9614, 1548.1)),
        ("wide_resnet", {"widths": [32, 64, 128], "blocks": [6, 6, 6]}, 96, (2.2435, 2948.4)),
        ("basic_resnet", {"widths": [16, 32, 64], "blocks": [6, 6, 6]}, 32, (0.5641, 83.3)),
    ],
)  # fmt: skip
def test_published_sizes(name: str, kwargs: dict, side: int, expected: tuple[float, float]) -> None:
    """ResNet-34, WRN-16-8 and WRN-40-2 of arXiv:2010.11828, ResNet-38 of arXiv:2002.10025 (79.42 * 2 ** 20 MACs)."""
    network = build(name, **kwargs)
    assert (round(costs.params(network) / 1e6, 4), round(costs.macs(network, (3, side, side)) / 1e6, 1)) == expected


@pytest.mark.parametrize("name", ["basic_resnet", "wide_resnet"])
def test_any_image_and_number_of_classes(name: str) -> None:
    network = build(name, **SMALL, in_channels=1, num_classes=7, stem_stride=2)
    assert network(torch.rand(3, 1, 8, 8)).shape == (3, 7)
    assert network(torch.rand(2, 1, 33, 20)).shape == (2, 7)
    assert architecture_card(name).options.keys() >= {"widths", "blocks", "stem_stride"}


@pytest.mark.parametrize("kind", [BasicResNet, WideResNet])
def test_parts_are_told_the_condition(kind: type[nn.Module]) -> None:
    told = []

    class Scale(nn.Module):
        def __init__(self, n: int, *, modulated: bool) -> None:
            super().__init__()
            self.modulated = modulated

        def forward(self, x: torch.Tensor, factor: float) -> torch.Tensor:
            told.append(self.modulated)
            return x * factor

    class Conv(nn.Conv2d):
        def forward(self, x: torch.Tensor, factor: float) -> torch.Tensor:  # type: ignore[override]
            return super().forward(x)

    class Linear(nn.Linear):
        def forward(self, x: torch.Tensor, factor: float) -> torch.Tensor:  # type: ignore[override]
            return super().forward(x)

    def conv(n_in: int, n_out: int, kernel: int, stride: int) -> nn.Module:
        return Conv(n_in, n_out, kernel, stride=stride, padding=kernel // 2, bias=False)

    network = kind(**SMALL, parts=Parts(conv, Scale, Linear))
    x = torch.rand(2, 3, 8, 8)
    assert not torch.allclose(network(x, 1.0), network(x, 0.1))
    n_modulated, n_other = (7, 1) if kind is BasicResNet else (6, 1)  # the projection, or the last norm
    assert told.count(True) == 2 * n_modulated
    assert told.count(False) == 2 * n_other


def test_stem_blocks_and_head_are_the_network() -> None:
    for name in ("basic_resnet", "wide_resnet"):
        network, x = build(name, **SMALL), torch.rand(2, 3, 8, 8)
        y = network.stem(x)
        for block in network.blocks:
            y = block(y)
        assert torch.equal(network.head(y), network(x))
    assert plain_conv(3, 4, 3, 1).bias is None


def test_dropout_only_in_training() -> None:
    network, x = build("wide_resnet", **SMALL, dropout=0.5), torch.rand(2, 3, 8, 8)
    assert torch.equal(network(x), network(x))
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert not torch.equal(network(x), network(x))


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("basic_resnet", {"widths": [8, 0], "blocks": [1, 1]}, "a width is 0: give at least 1"),
        ("basic_resnet", {"widths": [8], "blocks": [0]}, "a number of blocks is 0"),
        ("wide_resnet", {"widths": [8, 16], "blocks": [1]}, "2 widths and 1 numbers of blocks"),
        ("wide_resnet", {"widths": [], "blocks": []}, "a stage at least"),
        ("wide_resnet", {**SMALL, "dropout": 1.5}, r"dropout is 1\.5"),
    ],
)
def test_stages_that_make_no_network_are_refused(name: str, kwargs: dict, message: str) -> None:
    with pytest.raises(UnknownArchitecture, match=message):
        build(name, **kwargs)
