"""The architectures that live here: residual networks for small images, early exits, a small CNN, linear classifiers.

Only cards and thin builders; the modules themselves are in `cifar_resnet.py`, `backbones.py`, `rdi.py`, `oat.py` and
`small.py`, imported when built.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from models_zoo.architectures.registry import ArchitectureCard, register_architecture

if TYPE_CHECKING:
    from torch import nn

CIFAR_DEPTHS = (20, 32, 44, 56, 110)


def _register_cifar_resnet(depth: int) -> None:
    card = ArchitectureCard(
        name=f"cifar_resnet{depth}",
        family="cifar",
        summary=f"ResNet-{depth} for 32 x 32 images: 3x3 stem of 16, three stages, shortcuts without parameters",
        licence="this project's",
        source="arXiv:1512.03385, section 4.2, option A",
        input_size=32,
        num_classes=10,
    )

    @register_architecture(card)
    def cifar_resnet(num_classes: int = 10) -> "nn.Module":
        from models_zoo.architectures.cifar_resnet import CifarResNet

        return CifarResNet(depth=depth, num_classes=num_classes)


for _depth in CIFAR_DEPTHS:
    _register_cifar_resnet(_depth)


@register_architecture(
    ArchitectureCard(
        name="rdi_resnet",
        family="rdi",
        summary="Residual network with early exits: an image leaves at the first exit that is sure enough",
        licence="this project's; the authors' ResNet-38 checkpoint loads under the default options",
        source="arXiv:2002.10025, section 4.1",
        num_classes=10,
        options={
            "widths": [16, 32, 64], "blocks": [6, 6, 6], "exits": [2, 5, 8, 11, 14, 17], "thresholds": None,
            "heads": "paper", "stem_stride": 1, "in_channels": 3,
        },
    )
)  # fmt: skip
def rdi_resnet(
    widths: tuple[int, ...] = (16, 32, 64),
    blocks: tuple[int, ...] = (6, 6, 6),
    exits: tuple[int, ...] = (2, 5, 8, 11, 14, 17),
    thresholds: tuple[float, ...] | None = None,
    heads: str = "paper",
    stem_stride: int = 1,
    in_channels: int = 3,
    num_classes: int = 10,
) -> "nn.Module":
    from models_zoo.architectures.rdi import RdiResNet

    return RdiResNet(
        widths=widths, blocks=blocks, exits=exits, thresholds=thresholds, heads=heads, stem_stride=stem_stride,
        in_channels=in_channels, num_classes=num_classes,
    )  # fmt: skip


@register_architecture(
    ArchitectureCard(
        name="tiny_cnn",
        family="small",
        summary="3x3 convolutions with batch norm, halved between widths, global average, linear",
        licence="this project's",
        source="built in",
        num_classes=10,
        options={"widths": [16, 32, 64], "in_channels": 3},
    )
)
def tiny_cnn(widths: tuple[int, ...] = (16, 32, 64), in_channels: int = 3, num_classes: int = 10) -> "nn.Module":
    from models_zoo.architectures.small import TinyCNN

    return TinyCNN(widths=tuple(widths), in_channels=in_channels, num_classes=num_classes)


@register_architecture(
    ArchitectureCard(
        name="mlp",
        family="small",
        summary="Perceptron over flattened pixels, ReLU between the hidden layers",
        licence="this project's",
        source="built in",
        num_classes=10,
        options={"hidden": [64], "input_size": 28, "in_channels": 1},
    )
)
def mlp(
    hidden: tuple[int, ...] = (64,), input_size: int = 28, in_channels: int = 1, num_classes: int = 10
) -> "nn.Module":
    from models_zoo.architectures.small import Perceptron

    return Perceptron(hidden=tuple(hidden), n_inputs=in_channels * input_size**2, num_classes=num_classes)


@register_architecture(
    ArchitectureCard(
        name="linear",
        family="small",
        summary="Linear classifier over flattened pixels (multinomial logistic regression)",
        licence="this project's",
        source="built in",
        num_classes=10,
        options={"input_size": 28, "in_channels": 1},
    )
)
def linear(input_size: int = 28, in_channels: int = 1, num_classes: int = 10) -> "nn.Module":
    from models_zoo.architectures.small import Perceptron

    return Perceptron(hidden=(), n_inputs=in_channels * input_size**2, num_classes=num_classes)


@register_architecture(
    ArchitectureCard(
        name="lenet_caffe",
        family="small",
        summary="LeNet of the Caffe examples: two convolutions, two linear layers, 430,500 weights",
        licence="this project's",
        source="10.1109/5.726791; widths of the Caffe examples",
        input_size=28,
        num_classes=10,
        options={"input_size": 28, "in_channels": 1},
    )
)
def lenet_caffe(input_size: int = 28, in_channels: int = 1, num_classes: int = 10) -> "nn.Module":
    from models_zoo.architectures.small import LeNet

    return LeNet(input_size=input_size, in_channels=in_channels, num_classes=num_classes)


@register_architecture(
    ArchitectureCard(
        name="basic_resnet",
        family="residual",
        summary="Residual network for small images, convolution before norm, any widths and depths",
        licence="this project's",
        source="arXiv:1512.03385; 1x1 projections with norm where the shape changes",
        num_classes=10,
        options={
            "widths": [64, 128, 256, 512],
            "blocks": [3, 4, 6, 3],
            "stem_stride": 1,
            "in_channels": 3,
            "stem": None,
        },
    )
)
def basic_resnet(
    widths: tuple[int, ...] = (64, 128, 256, 512),
    blocks: tuple[int, ...] = (3, 4, 6, 3),
    stem_stride: int = 1,
    in_channels: int = 3,
    num_classes: int = 10,
    stem: int | None = None,
) -> "nn.Module":
    from models_zoo.architectures.backbones import BasicResNet

    return BasicResNet(
        widths=widths, blocks=blocks, stem_stride=stem_stride, in_channels=in_channels, num_classes=num_classes,
        stem=stem,
    )  # fmt: skip


@register_architecture(
    ArchitectureCard(
        name="wide_resnet",
        family="residual",
        summary="Residual network for small images, norm before convolution, any widths and depths",
        licence="this project's",
        source="arXiv:1605.07146",
        num_classes=10,
        options={
            "widths": [128, 256, 512], "blocks": [2, 2, 2], "dropout": 0.0, "stem_width": 16, "stem_stride": 1,
            "in_channels": 3,
        },
    )
)  # fmt: skip
def wide_resnet(
    widths: tuple[int, ...] = (128, 256, 512),
    blocks: tuple[int, ...] = (2, 2, 2),
    dropout: float = 0.0,
    stem_width: int = 16,
    stem_stride: int = 1,
    in_channels: int = 3,
    num_classes: int = 10,
) -> "nn.Module":
    from models_zoo.architectures.backbones import WideResNet

    return WideResNet(
        widths=widths, blocks=blocks, dropout=dropout, stem_width=stem_width, stem_stride=stem_stride,
        in_channels=in_channels, num_classes=num_classes,
    )  # fmt: skip


@register_architecture(
    ArchitectureCard(
        name="oat",
        family="adjustable",
        summary="A residual backbone whose trade-off between accuracy and robustness, and whose width, is an input",
        licence="this project's",
        source="arXiv:2010.11828",
        num_classes=10,
        options={
            "backbone": "basic_resnet", "shape": {"widths": [64, 128, 256, 512], "blocks": [3, 4, 6, 3]},
            "lambdas": [0, 0.1, 0.2, 0.3, 0.4, 1], "shares": [1], "encoding": "random", "code_size": 128,
            "between": "refused", "lam": 0, "share": 1, "in_channels": 3,
        },
    )
)  # fmt: skip
def oat(
    backbone: str = "basic_resnet",
    shape: Mapping[str, Any] | None = None,
    lambdas: tuple[float, ...] = (0, 0.1, 0.2, 0.3, 0.4, 1),
    num_classes: int = 10,
    **options: Any,
) -> "nn.Module":
    from models_zoo.architectures.oat import Adjustable

    given = {"widths": [64, 128, 256, 512], "blocks": [3, 4, 6, 3]} if shape is None else shape
    return Adjustable(backbone=backbone, shape=given, lambdas=lambdas, num_classes=num_classes, **options)
