"""The registry of architectures: cards that any process may list, builders that only workers call.

An *architecture* is a recipe that turns keyword arguments into an untrained torch module; a *card* says what it is.
Listing reads names from the source files of torchvision and timm without importing them; `build` imports what it needs.

    >>> from models_zoo.architectures import build, list_architectures
    >>> list_architectures("cifar_resnet*")
    ['cifar_resnet20', 'cifar_resnet32', 'cifar_resnet44', 'cifar_resnet56', 'cifar_resnet110']
"""

from models_zoo.architectures import builtin, external, quality  # noqa: F401  (they fill the registry)
from models_zoo.architectures.registry import (
    ArchitectureCard,
    UnknownArchitecture,
    architecture_card,
    build,
    list_architectures,
    register_architecture,
)

__all__ = [
    "ArchitectureCard",
    "UnknownArchitecture",
    "architecture_card",
    "build",
    "list_architectures",
    "register_architecture",
]
