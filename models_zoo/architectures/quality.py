"""The quality architectures: cards and thin builders; the modules are in `unique.py` and `cnniqa.py`."""

from typing import TYPE_CHECKING

from models_zoo.architectures.registry import ArchitectureCard, register_architecture

if TYPE_CHECKING:
    from torch import nn

RESNET_DEPTHS = (18, 34)
UNIQUE_SOURCE = "arXiv:2005.13983 (UNIQUE)"


def _register_unique(depth: int) -> None:
    card = ArchitectureCard(
        name=f"unique_resnet{depth}",
        family="unique",
        summary=f"Quality and its uncertainty: ResNet-{depth} features, bilinear pooling, one linear layer",
        licence="this project's; backbone BSD-3-Clause (torchvision)",
        source=UNIQUE_SOURCE,
        num_classes=None,
        task="quality",
        min_side=32,
        higher_is_better=True,
    )

    @register_architecture(card)
    def unique() -> "nn.Module":
        from models_zoo.architectures.unique import Unique, resnet_backbone

        backbone, n_features = resnet_backbone(depth)
        return Unique(backbone, n_features=n_features)


for _depth in RESNET_DEPTHS:
    _register_unique(_depth)


@register_architecture(
    ArchitectureCard(
        name="unique_small",
        family="unique",
        summary="Quality and its uncertainty on a CPU: four small convolutions, bilinear pooling, one linear layer",
        licence="this project's",
        source=f"{UNIQUE_SOURCE}; the backbone is built in",
        num_classes=None,
        options={"widths": [16, 32, 64, 64]},
        task="quality",
        min_side=32,
        higher_is_better=True,
    )
)
def unique_small(widths: tuple[int, ...] = (16, 32, 64, 64)) -> "nn.Module":
    from models_zoo.architectures.unique import Unique, small_backbone

    backbone, n_features = small_backbone(tuple(widths))
    return Unique(backbone, n_features=n_features)


@register_architecture(
    ArchitectureCard(
        name="unique_squeezenet",
        family="unique",
        summary="Quality and its uncertainty: the first fires of SqueezeNet 1.0, bilinear pooling, one linear layer",
        licence="this project's; backbone BSD-3-Clause (torchvision)",
        source=UNIQUE_SOURCE,
        num_classes=None,
        options={"modules": 8},
        task="quality",
        min_side=32,
        higher_is_better=True,
    )
)
def unique_squeezenet(modules: int = 8) -> "nn.Module":
    from models_zoo.architectures.unique import Unique, squeezenet_backbone

    backbone, n_features = squeezenet_backbone(modules)
    return Unique(backbone, n_features=n_features)


@register_architecture(
    ArchitectureCard(
        name="cnniqa",
        family="cnniqa",
        summary="One convolution over grey 32 x 32 patches, largest and smallest response, two hidden layers",
        licence="this project's",
        source="Kang et al., CVPR 2014",
        num_classes=None,
        task="quality",
        min_side=32,
        higher_is_better=False,
    )
)
def cnniqa() -> "nn.Module":
    from models_zoo.architectures.cnniqa import CnnIqa

    return CnnIqa()
