"""Names, cards and builders of measures. Importing this module imports numpy and nothing heavier."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Arithmetic = Callable[..., float]  # (image) -> score or (image, reference) -> score, on checked arrays
Builder = Callable[[Any], Arithmetic]  # (path of the parameters, None where the card wants none) -> arithmetic


class Measure(Protocol):
    """(image, reference) -> score; uint8 (H, W, 3) or (H, W) both, the reference None where the card wants none."""

    def __call__(self, image: np.ndarray, reference: np.ndarray | None = None) -> float: ...


class MetricError(ValueError):
    """What a measure cannot do, in words for the person who asked for it."""


class UnknownMetric(MetricError):
    """No measure of that name."""


class UnsuitableImage(MetricError):
    """This image (or its reference) has no score: it is too small, constant, of another size, not 8-bit RGB."""


class MissingPackage(MetricError):
    """The measure needs an optional package that is not installed."""


class UnsuitableParams(MetricError):
    """The file of parameters is missing, damaged or not one of this measure."""


@dataclass(frozen=True)
class MetricCard:
    """What a person sees before choosing a measure.

    `low`, `high`: ends of the range of scores, None where it is open. `params`: which kind of parameters file the
    measure needs ("brisque", "niqe"), None for none. `min_side`: least height and width in pixels. `licence`: of the
    parameters and the code; `source`: the paper. `package`: an optional package that it needs, None for none.
    """

    name: str
    title: str
    summary: str
    higher_is_better: bool
    low: float | None
    high: float | None
    needs_reference: bool
    params: str | None
    min_side: int
    licence: str
    source: str
    builder: Builder = field(repr=False, compare=False)
    package: str | None = None

    @property
    def is_available(self) -> bool:
        """Whether the package that it needs is installed."""
        return self.package is None or find_spec(self.package) is not None

    def require_available(self) -> None:
        """Raise MissingPackage where the package that it needs is not installed."""
        if not self.is_available:
            raise MissingPackage(
                f'measure "{self.name}" needs the package {self.package}, which is not installed: '
                f'"pip install -r requirements-{self.package}.txt", if its licence suits you ({self.licence})'
            )

    def build(self, params: Path | None = None) -> Measure:
        """The measure, ready to be called, also from several threads; calls raise UnsuitableImage.

        Raises UnsuitableParams when a file of parameters is missing, not wanted or not usable, MissingPackage where an
        optional package is not installed.
        """
        self.require_available()
        if self.params and params is None:
            raise UnsuitableParams(f'measure "{self.name}" needs a file of {self.params} parameters: none was given')
        if params is not None and not self.params:
            raise UnsuitableParams(f'measure "{self.name}" takes no parameters: leave out "{params.name}"')
        arithmetic = self.builder(params)

        def measure(image: np.ndarray, reference: np.ndarray | None = None) -> float:
            arrays = self._pair(image, reference) if self.needs_reference else (self._checked(image, "the image"),)
            score = arithmetic(*arrays)
            if not np.isfinite(score):
                raise UnsuitableImage(f'measure "{self.name}" has no value for this image: its formula gives {score}')
            return float(score)

        return measure

    def _pair(self, image: np.ndarray, reference: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        if reference is None:
            raise UnsuitableImage(f'measure "{self.name}" compares with a pristine reference: this image has none')
        image, reference = self._checked(image, "the image"), self._checked(reference, "the reference")
        if image.shape != reference.shape:
            raise UnsuitableImage(
                f'measure "{self.name}" needs two images of one size: the image is {_size(image)}, '
                f"its reference {_size(reference)} pixels"
            )
        return image, reference

    def _checked(self, pixels: np.ndarray, which: str) -> np.ndarray:
        """pixels: uint8 (H, W, 3), (H, W, 1) or (H, W) -> contiguous uint8 (H, W, 3)"""
        if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3))):
            raise UnsuitableImage(
                f'measure "{self.name}" takes 8-bit RGB: {which} is {pixels.dtype} of shape {pixels.shape}'
            )
        if min(pixels.shape[:2]) < self.min_side:
            raise UnsuitableImage(
                f'{which} is {_size(pixels)} pixels: measure "{self.name}" needs at least '
                f"{self.min_side} x {self.min_side}"
            )
        if pixels.ndim == 2:
            pixels = pixels[:, :, np.newaxis]
        return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


_registered: dict[str, MetricCard] = {}


def register_metric(
    *,
    name: str,
    title: str,
    summary: str,
    higher_is_better: bool,
    low: float | None,
    high: float | None,
    needs_reference: bool = False,
    params: str | None = None,
    min_side: int,
    licence: str,
    source: str,
    package: str | None = None,
) -> Callable[[Builder], Builder]:
    """Decorator: enter a builder. Raises ValueError when the name is taken."""

    def enter(builder: Builder) -> Builder:
        if name in _registered:
            raise ValueError(f'measure "{name}" is registered twice')
        _registered[name] = MetricCard(
            name=name,
            title=title,
            summary=summary,
            higher_is_better=higher_is_better,
            low=low,
            high=high,
            needs_reference=needs_reference,
            params=params,
            min_side=min_side,
            licence=licence,
            source=source,
            builder=builder,
            package=package,
        )
        return builder

    return enter


def list_metrics(pattern: str = "*") -> list[MetricCard]:
    """The cards of measures that can be used here, whose name matches a shell pattern, in the order of registration."""
    return [card for name, card in _registered.items() if fnmatchcase(name, pattern) and card.is_available]


def get(name: str) -> MetricCard:
    """The card of one measure. Raises UnknownMetric, naming the nearest ones."""
    if name in _registered:
        return _registered[name]
    near = difflib.get_close_matches(name, _registered, n=3, cutoff=0.5) or list(_registered)
    raise UnknownMetric(f'no measure "{name}": there are {", ".join(near)}')


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"
