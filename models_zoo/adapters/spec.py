"""What a version is, as plain data: an architecture or a file, its weights, and how its input is prepared."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

Kind = Literal["torch", "onnx", "export", "metric"]
Interpolation = Literal["bilinear", "bicubic", "lanczos", "nearest", "box"]
ResizeMode = Literal["shorter", "stretch"]
Channels = Literal["rgb", "bgr", "grey"]
Outputs = Literal["logits", "probabilities", "score"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LONG_SIDE = 3840  # pixels that a quality version sees at most: its first features of one image then take about 0.5 GB
QUALITY_SIZE = (384, 512)  # height and width of the image on which quality versions are measured


class VersionRefused(ValueError):
    """The weights, file or description cannot enter the zoo; the message says what is wrong and what would be right."""


@dataclass(frozen=True)
class Preprocessing:
    """How an upright RGB image becomes the network's input.

    `resize`: target of the shorter side in pixels (mode "shorter", aspect kept, as torchvision's Resize does) or of
    both sides (mode "stretch"); None leaves the image as it is. `crop`: side of the central square, zero-padded where
    the image is smaller; None takes the whole. `mean`, `std`: per channel, in units of `range`; one value counts for
    all channels. `range`: the value of white before normalisation, 1 or 255. `channels`: order the network expects;
    "grey" is one channel of ITU-R 601 luma. `long_side`: quality versions see whole images; one whose longer side
    exceeds this many pixels is shrunk to it first, so that memory stays bounded.
    """

    resize: int | None = None
    crop: int | None = None
    interpolation: Interpolation = "bilinear"
    resize_mode: ResizeMode = "shorter"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    range: Literal[1, 255] = 1
    channels: Channels = "rgb"
    long_side: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", _as_floats("mean", self.mean))
        object.__setattr__(self, "std", _as_floats("std", self.std))
        for name in ("resize", "crop"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or not 1 <= value <= 4096):
                raise VersionRefused(f"preprocessing: {name} is {value!r}: give pixels from 1 to 4096, or nothing")
        if self.long_side is not None and (not isinstance(self.long_side, int) or not 64 <= self.long_side <= 16_384):
            raise VersionRefused(f"preprocessing: long_side is {self.long_side!r}: give pixels from 64 to 16384")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                allowed = ", ".join(str(choice) for choice in choices)
                raise VersionRefused(f"preprocessing: {name} is {getattr(self, name)!r}: choose one of {allowed}")
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in {1, self.n_channels}:
                raise VersionRefused(
                    f"preprocessing: {name} has {len(getattr(self, name))} values for {self.n_channels} channels"
                )
        if any(value <= 0 for value in self.std):
            raise VersionRefused(f"preprocessing: std is {self.std}: every value must be above 0")

    @property
    def n_channels(self) -> int:
        return 1 if self.channels == "grey" else 3

    @property
    def input_size(self) -> int | None:
        """Side of the square the network sees; None where it sees images whole, whatever their size."""
        if self.crop is None and self.resize_mode == "stretch":
            return self.resize
        return self.crop

    @property
    def geometry(self) -> tuple[int | None, int | None, str, str, int | None]:
        """What decides the uint8 pixels; versions with equal geometry share one decode."""
        return (self.resize, self.crop, self.interpolation, self.resize_mode, self.long_side)

    @classmethod
    def imagenet(cls, size: int = 224, resize: int | None = 256) -> Self:
        """The usual ImageNet evaluation: shorter side to `resize`, central crop, mean and deviation of ImageNet."""
        return cls(resize=resize, crop=size, mean=IMAGENET_MEAN, std=IMAGENET_STD)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        _refuse_unknown("preprocessing", data, cls)
        return cls(**data)


@dataclass(frozen=True)
class VersionSpec:
    """One immutable version. `to_dict` and `from_dict` are exact inverses, so that it can live in a JSON column.

    `architecture`, `arch_kwargs`: a name of the registry and the arguments of its builder (kind "torch"), or the name
    of a measure (kind "metric"). `weights`: path of the weights (torch), of the .onnx file, of the .pt2 program or of a
    measure's parameters; None with kind "torch" means freshly initialised from `seed`. `sha256`: of that file, checked
    at every load. `outputs`: whether the network gives logits, probabilities, or one quality score. `num_classes`: how
    many it must give; None accepts what it gives.
    """

    kind: Kind
    architecture: str = ""
    arch_kwargs: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    sha256: str | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    num_classes: int | None = None
    outputs: Outputs = "logits"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise VersionRefused(f"version: kind is {self.kind!r}: choose one of {', '.join(get_args(Kind))}")
        if self.outputs not in get_args(Outputs):
            raise VersionRefused(f"version: outputs is {self.outputs!r}: choose one of {', '.join(get_args(Outputs))}")
        if self.kind == "torch" and not self.architecture:
            raise VersionRefused('version: kind "torch" needs an architecture: choose one from the registry')
        if self.kind == "metric" and not self.architecture:
            raise VersionRefused('version: kind "metric" needs a measure: choose one from the registry')
        if (self.kind == "metric" or self.preprocessing.long_side) and self.outputs != "score":
            raise VersionRefused('version: only quality versions have a measure or a long_side: set outputs to "score"')
        if self.outputs == "score" and (self.preprocessing.crop or self.preprocessing.resize_mode == "stretch"):
            raise VersionRefused(
                "version: a quality version sees the whole image in its own proportions: leave crop out and resize the "
                'shorter side (resize_mode "shorter") or nothing'
            )
        if self.kind in {"onnx", "export"} and self.weights is None:
            raise VersionRefused(f'version: kind "{self.kind}" needs a file: set weights to its path')

    @property
    def is_quality(self) -> bool:
        """Whether it gives a quality score, not classes."""
        return self.outputs == "score"

    @property
    def label(self) -> str:
        """What messages call it: the architecture or measure, or the file's name."""
        return self.architecture or Path(self.weights or "").name

    def to_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        _refuse_unknown("version", data, cls)
        return cls(**{**data, "preprocessing": Preprocessing.from_dict(data.get("preprocessing", {}))})

    def fingerprint(self) -> str:
        """sha256 of everything that decides the scores: the description without the file's place, plus its content."""
        described = {key: value for key, value in self.to_dict().items() if key not in {"weights", "sha256"}}
        described["content"] = self.sha256 or (file_sha256(Path(self.weights)) if self.weights else None)
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in blocks. Raises VersionRefused where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VersionRefused(f'weights "{path.name}" cannot be read: {error.strerror or error}') from error


_CHOICES: dict[str, tuple[Any, ...]] = {
    "interpolation": get_args(Interpolation),
    "resize_mode": get_args(ResizeMode),
    "channels": get_args(Channels),
    "range": (1, 255),
}


def _as_floats(name: str, values: Any) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in ([values] if isinstance(values, int | float) else values))
    except (TypeError, ValueError) as error:
        raise VersionRefused(f"preprocessing: {name} is {values!r}: give one number per channel") from error


def _refuse_unknown(what: str, data: dict[str, Any], cls: type) -> None:
    known = [field_.name for field_ in fields(cls)]
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise VersionRefused(f"{what}: unknown entry {unknown[0]!r}: use {', '.join(known)}")
