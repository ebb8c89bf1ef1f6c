"""Names, cards and builders of architectures. Importing this module imports no torch."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

Builder = Callable[..., "nn.Module"]
CATALOGUED_TASK = "classification"  # what every architecture of a catalogue is for


class UnknownArchitecture(ValueError):
    """No architecture of that name, or its builder does not take these arguments."""


@dataclass(frozen=True)
class ArchitectureCard:
    """What a person sees before choosing an architecture.

    `input_size`: side in pixels it was designed for, None for any. `num_classes`: the builder's default, None where it
    takes none. `options`: further keyword arguments of the builder with their defaults (JSON-serialisable).
    `task`: "classification", or "quality": (N, 3, H, W) of any size from `min_side` up -> (N,) scores, or (N, 2) with
    the score first and its standard deviation second. `higher_is_better`: which way the scores of the published
    weights point, None where training decides.
    """

    name: str
    family: str
    summary: str
    licence: str
    source: str
    input_size: int | None = None
    num_classes: int | None = 1000
    options: dict[str, Any] = field(default_factory=dict)
    task: str = "classification"
    min_side: int = 1
    higher_is_better: bool | None = None


@dataclass(frozen=True)
class Catalogue:
    """A family that is too large to register one by one.

    `names`: lists the architectures of an installed library, cheaply. `card`: describes one. `build`: makes one.
    """

    names: Callable[[], tuple[str, ...]]
    card: Callable[[str], ArchitectureCard]
    build: Builder


_registered: dict[str, tuple[ArchitectureCard, Builder]] = {}
_catalogues: dict[str, Catalogue] = {}


def register_architecture(card: ArchitectureCard) -> Callable[[Builder], Builder]:
    """Decorator: enter a builder under its card's name. Raises ValueError when the name is taken."""

    def enter(builder: Builder) -> Builder:
        if card.name in _registered:
            raise ValueError(f'architecture "{card.name}" is registered twice')
        _registered[card.name] = (card, builder)
        return builder

    return enter


def register_catalogue(family: str, catalogue: Catalogue) -> None:
    """Enter all architectures of an installed library. Raises ValueError when the family is taken."""
    if family in _catalogues:
        raise ValueError(f'catalogue "{family}" is registered twice')
    _catalogues[family] = catalogue


def list_architectures(pattern: str = "*", *, task: str | None = None) -> list[str]:
    """All names that match a shell pattern, in the order built-in, torchvision, timm; of one task where it is given."""
    own = [name for name, (card, _) in _registered.items() if task in {None, card.task}]
    others = _catalogues.values() if task in {None, CATALOGUED_TASK} else ()
    names = [*own, *(name for catalogue in others for name in catalogue.names())]
    return [name for name in names if fnmatchcase(name, pattern)]


def architecture_card(name: str) -> ArchitectureCard:
    """The card of one architecture. Raises UnknownArchitecture, naming the nearest ones."""
    if name in _registered:
        return _registered[name][0]
    return _catalogue_of(name).card(name)


def build(name: str, **kwargs: Any) -> "nn.Module":
    """An untrained module on the CPU, in evaluation mode. Imports torch.

    Raises UnknownArchitecture for an unknown name or for arguments its builder refuses.
    """
    builder = _registered[name][1] if name in _registered else _builder_in(_catalogue_of(name), name)
    try:
        return builder(**kwargs).eval()
    except (TypeError, ValueError, RuntimeError, AssertionError, LookupError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in kwargs.items()) or "no arguments"
        raise UnknownArchitecture(f'architecture "{name}" cannot be built with {given}: {error}') from error


def _builder_in(catalogue: Catalogue, name: str) -> Builder:
    return lambda **kwargs: catalogue.build(name, **kwargs)


def _catalogue_of(name: str) -> Catalogue:
    for catalogue in _catalogues.values():
        if name in catalogue.names():
            return catalogue
    near = difflib.get_close_matches(name, list_architectures(), n=3, cutoff=0.5)
    hint = f": did you mean {', '.join(near)}?" if near else ": see list_architectures()"
    raise UnknownArchitecture(f'no architecture "{name}"{hint}')
